-- Who we are on this connection, and how that could get past row-level security. What is selected as
-- `ways` is catalog/ways.sql, put in with $1 true: one answer at one flight. `unforced` are the tables (with their ancestors, which may
-- be placed by an override) that this role owns and row-level security does not hold it to: whether they are tenants'
-- is for catalog/tables.py to say, as for everybody.
WITH RECURSIVE me AS (
    SELECT oid, rolname FROM pg_roles WHERE rolname = session_user
), mine AS (            -- and the roles that it is a member of, however indirectly
    SELECT oid FROM me UNION SELECT m.roleid FROM pg_auth_members AS m JOIN mine ON m.member = mine.oid
), unforced AS (        -- of the relations that catalog/relations.sql shows
    SELECT c.oid FROM pg_class AS c JOIN mine ON mine.oid = c.relowner JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
      AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname !~ '^pg_(toast|temp)'
      AND NOT EXISTS (SELECT FROM pg_depend AS e
                      WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
), lineage AS (
    SELECT oid FROM unforced
    UNION
    SELECT i.inhparent FROM pg_inherits AS i JOIN lineage AS l ON i.inhrelid = l.oid
)
SELECT
    pg_backend_pid() AS backend,
    me.rolname AS role,
    (SELECT coalesce(json_agg(json_build_array(
                w.role, w.way, w.object, w.holder, w.through, w.privilege, w.database)), '[]') FROM (:ways) AS w)::text AS ways,
    (SELECT coalesce(json_agg(json_build_object(
                'oid', c.oid::bigint, 'schema', n.nspname, 'name', c.relname, 'kind', c.relkind,
                'parents', ARRAY(SELECT i.inhparent::bigint FROM pg_inherits AS i WHERE i.inhrelid = c.oid
                                 ORDER BY i.inhseqno),
                'columns', (SELECT coalesce(json_agg(json_build_array(a.attnum, a.attname, '', true) ORDER BY a.attnum), '[]')
                            FROM pg_attribute AS a
                            WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)::text, 'keys', '[]',
                'owned', CASE WHEN c.oid IN (SELECT oid FROM unforced) THEN c.oid::regclass::text END)
                ORDER BY c.oid::regclass::text), '[]')
     FROM lineage JOIN pg_class AS c ON c.oid = lineage.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace)::text
        AS unforced,
    coalesce(current_setting($2::text, true), '') <> '' AS bound,     -- $2: the setting that says who is bound
    to_regprocedure('tenantry.enter(text, text, integer)') IS NOT NULL AS installed,
    (:surroundings) AS surroundings,                                  -- router/surroundings.sql
    -- the body tells; the table tenantry.database_identity is not ours to read
    coalesce((SELECT p.prosrc LIKE '%this database is hardened%' FROM pg_proc AS p
              WHERE p.oid = to_regprocedure('tenantry.bind(text)')), false) AS hardened
FROM me
