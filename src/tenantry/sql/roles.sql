-- Who we are on this connection, and every way in which that could get past row-level security.
-- $1: name of the tenant column. Columns: backend, role, then one boolean or list per way.
WITH RECURSIVE me AS (
    SELECT oid, rolname, rolsuper, rolbypassrls FROM pg_roles WHERE rolname = session_user
), reachable AS (       -- roles that this one is a member of, however indirectly, and through which
    SELECT m.roleid, m.roleid AS through FROM pg_auth_members AS m JOIN me ON m.member = me.oid
    UNION
    SELECT m.roleid, r.through FROM pg_auth_members AS m JOIN reachable AS r ON m.member = r.roleid
), mine AS (
    SELECT oid FROM me UNION SELECT roleid FROM reachable
)
SELECT
    pg_backend_pid() AS backend,
    me.rolname AS role,
    me.rolsuper AS superuser,
    me.rolbypassrls AS bypasses,
    ARRAY(SELECT r.rolname::text FROM pg_roles AS r JOIN reachable ON reachable.roleid = r.oid
          WHERE r.rolsuper OR r.rolbypassrls ORDER BY r.rolname, reachable.through) AS member_of,
    ARRAY(SELECT t.rolname::text FROM pg_roles AS r JOIN reachable ON reachable.roleid = r.oid
              JOIN pg_roles AS t ON t.oid = reachable.through
          WHERE r.rolsuper OR r.rolbypassrls ORDER BY r.rolname, reachable.through) AS member_through,
    ARRAY(SELECT c.oid::regclass::text
          FROM pg_class AS c JOIN mine ON mine.oid = c.relowner
          WHERE c.relkind IN ('r', 'p') AND NOT (c.relrowsecurity AND c.relforcerowsecurity)
            AND c.relpersistence <> 't'
            AND EXISTS (SELECT FROM pg_attribute AS a
                        WHERE a.attrelid = c.oid AND a.attname = $1 AND NOT a.attisdropped)
          ORDER BY 1) AS owned_unforced,
    (SELECT setting::int FROM pg_settings WHERE name = 'track_activity_query_size') AS activity_size,
    to_regprocedure('tenantry.bind(text)') IS NOT NULL AS installed,
    -- the body tells; the table tenantry.local is not ours to read
    coalesce((SELECT p.prosrc LIKE '%this database is hardened%' FROM pg_proc AS p
              WHERE p.oid = to_regprocedure('tenantry.bind(text)')), false) AS hardened
FROM me
