-- Every way by which a role can step past row-level security, or prepare to, beside owning a tenant table: of all roles,
-- or of the one that is logged in ($1: true). The router refuses by it and the audit finds by it, so both mean the same.
-- Columns: role, way, what the way is to (object), who holds it (the role, one that it can become, or PUBLIC), by which
-- membership of the role's own (through), which privilege, or what is owned. Superusers have one way, which says it all.
WITH RECURSIVE who AS (
    SELECT r.oid, r.rolname, r.rolsuper FROM pg_roles AS r
    WHERE CASE WHEN $1::boolean THEN r.rolname = session_user ELSE r.rolname !~ '^pg_' END
), membership AS (      -- one without INHERIT, SET and ADMIN (16 and newer) gives nothing
    SELECT m.member, m.roleid FROM pg_auth_members AS m JOIN pg_roles AS r ON r.oid = m.member
    WHERE coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) OR m.admin_option
       OR coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)
    UNION ALL
    SELECT d.datdba, o.oid FROM pg_database AS d JOIN pg_roles AS o ON o.rolname = 'pg_database_owner'
    WHERE d.datname = current_database()
), reach AS (           -- whom each can become or act as, and through which membership of its own
    SELECT w.oid AS member, w.oid AS role, NULL::oid AS through FROM who AS w
    UNION
    SELECT r.member, m.roleid, coalesce(r.through, m.roleid) FROM reach AS r JOIN membership AS m ON m.member = r.role
), holder AS (          -- the same, with PUBLIC; nothing more is said of superusers
    SELECT r.* FROM reach AS r JOIN who AS w ON w.oid = r.member WHERE NOT w.rolsuper
    UNION ALL
    SELECT w.oid, 0, NULL FROM who AS w WHERE NOT w.rolsuper
), attribute AS (
    SELECT r.member, v.way, g.rolname::text AS object, g.oid AS holder, r.through, NULL::text AS privilege
    FROM reach AS r JOIN who AS w ON w.oid = r.member JOIN pg_roles AS g ON g.oid = r.role
    CROSS JOIN LATERAL (VALUES
        ('superuser', g.rolsuper), ('bypassrls', g.rolbypassrls AND NOT g.rolsuper),
        ('replication', g.rolreplication AND NOT g.rolsuper), ('createrole', g.rolcreaterole AND NOT g.rolsuper),
        ('files', g.rolname IN ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files')),
        ('everything', g.rolname IN ('pg_read_all_data', 'pg_write_all_data'))
    ) AS v (way, held)
    WHERE v.held AND (NOT w.rolsuper OR v.way = 'superuser' AND g.oid = w.oid)
), relation AS (        -- whose contents no policy guards
    SELECT c.oid, c.relowner, coalesce(c.relacl, acldefault('r', c.relowner)) AS acl, n.nspname, c.relname,
           CASE WHEN n.nspname = 'pg_catalog' THEN 'statistics' WHEN c.relname = 'secret' THEN 'secret'
                WHEN c.relname IN ('placement', 'database_identity', 'move_gate') THEN 'placement' ELSE 'directory' END AS way
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tenantry' AND c.relkind = 'r'
          AND c.relname IN ('secret', 'placement', 'database_identity', 'move_gate',
                            -- those of a control database: schema/grants/control.sql
                            'database', 'tenant', 'usage', 'usage_day', 'reporter', 'reported', 'database_usage',
                            'database_usage_day', 'database_reading', 'sample', 'sampled', 'storage', 'waiting', 'move',
                            'move_object', 'event', 'sync_token', 'migrate_run', 'migrate_database')
       OR n.nspname = 'pg_catalog'
          AND c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_authid', 'pg_largeobject', 'pg_user_mapping')
), relation_grant AS (
    SELECT r.way, r.nspname, r.relname, x.grantee, x.privilege_type
    FROM relation AS r CROSS JOIN LATERAL aclexplode(r.acl) AS x WHERE x.grantee <> r.relowner
    UNION
    SELECT r.way, r.nspname, r.relname, x.grantee, x.privilege_type
    FROM relation AS r JOIN pg_attribute AS a ON a.attrelid = r.oid AND a.attacl IS NOT NULL
    CROSS JOIN LATERAL aclexplode(a.attacl) AS x WHERE x.grantee <> r.relowner
), owned AS (           -- what row-level security leans on
    SELECT 'SCHEMA' AS kind, format('%I', n.nspname) AS object, n.nspowner AS owner FROM pg_namespace AS n
    WHERE n.nspname = 'tenantry'
    UNION ALL
    SELECT 'TABLE', format('%I.%I', n.nspname, c.relname), c.relowner
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tenantry' AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT CASE f.prokind WHEN 'p' THEN 'PROCEDURE' ELSE 'FUNCTION' END,
           format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)), f.proowner
    FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
    WHERE n.nspname = 'tenantry' AND f.prokind IN ('f', 'p')
), preset AS (
    SELECT s.setrole, s.setdatabase, split_part(one, '=', 1) AS name, substr(one, strpos(one, '=') + 1) AS value
    FROM pg_db_role_setting AS s CROSS JOIN LATERAL unnest(s.setconfig) AS one
    WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database()))
), path AS (            -- schemas in which names are looked up that are not qualified
    SELECT w.oid AS member, n.oid AS schema FROM who AS w JOIN pg_namespace AS n ON n.nspname IN ('public', w.rolname)
    UNION
    SELECT w.oid, n.oid FROM who AS w JOIN preset AS p ON p.setrole IN (0, w.oid) AND lower(p.name) = 'search_path'
    CROSS JOIN LATERAL regexp_split_to_table(p.value, '\s*,\s*') AS part
    JOIN pg_namespace AS n ON n.nspname = btrim(part, ' "')
), found AS (
    SELECT * FROM attribute
    UNION ALL
    SELECT h.member, g.way, format('%I.%I', g.nspname, g.relname), h.role, h.through,
           string_agg(DISTINCT g.privilege_type, ', ' ORDER BY g.privilege_type)
    FROM holder AS h JOIN relation_grant AS g ON g.grantee = h.role
    WHERE g.way <> 'directory' AND (g.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
                                    OR g.privilege_type = 'SELECT' AND g.way <> 'placement')
    GROUP BY h.member, g.way, g.nspname, g.relname, h.role, h.through
    UNION ALL                                   -- the control tables are granted together: one way, not one a table
    SELECT h.member, g.way, string_agg(DISTINCT format('%I.%I', g.nspname, g.relname), ', '), h.role, h.through,
           string_agg(DISTINCT g.privilege_type, ', ')
    FROM holder AS h JOIN relation_grant AS g ON g.grantee = h.role
    WHERE g.way = 'directory' AND g.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
    GROUP BY h.member, g.way, h.role, h.through
    UNION ALL
    SELECT h.member, 'ours', o.object, h.role, h.through, o.kind FROM holder AS h JOIN owned AS o ON o.owner = h.role
    UNION ALL
    SELECT h.member, CASE WHEN n.nspname = 'tenantry' THEN 'ours' ELSE 'shadow' END, format('%I', n.nspname),
           h.role, h.through, x.privilege_type
    FROM holder AS h CROSS JOIN pg_namespace AS n
    CROSS JOIN LATERAL aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) AS x
    WHERE x.grantee = h.role AND x.privilege_type = 'CREATE' AND x.grantee <> n.nspowner
      AND (n.nspname = 'tenantry' OR EXISTS (SELECT FROM path AS p WHERE p.member = h.member AND p.schema = n.oid))
    UNION ALL
    SELECT h.member, 'shadow', format('%I', n.nspname), h.role, h.through, 'SCHEMA'
    FROM holder AS h JOIN pg_namespace AS n ON n.nspowner = h.role JOIN path AS p ON p.member = h.member AND p.schema = n.oid
    WHERE n.nspname <> 'tenantry'
    UNION ALL
    SELECT h.member, 'database', format('%I', d.datname), h.role, h.through, x.privilege_type
    FROM holder AS h JOIN pg_database AS d ON d.datname = current_database()
    CROSS JOIN LATERAL aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) AS x
    WHERE x.grantee = h.role AND x.privilege_type = 'CREATE' AND x.grantee <> d.datdba
    UNION ALL
    SELECT h.member, 'database', format('%I', d.datname), h.role, h.through, 'DATABASE'
    FROM holder AS h JOIN pg_database AS d ON d.datname = current_database() AND d.datdba = h.role
    UNION ALL
    SELECT h.member, 'function', format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)),
           h.role, h.through, 'EXECUTE'
    FROM holder AS h CROSS JOIN pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
    CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) AS x
    WHERE f.proname IN ('pg_read_file', 'pg_read_binary_file', 'pg_file_write', 'pg_file_rename', 'lo_import', 'lo_export',
                        'dblink_connect_u')
      AND x.grantee = h.role AND x.grantee <> f.proowner
    UNION ALL
    SELECT w.oid, 'preset', p.name, p.setrole, NULL,
           CASE WHEN p.setrole = 0 AND p.setdatabase = 0 THEN 'ALL' WHEN p.setrole = 0 THEN 'DATABASE'
                WHEN p.setdatabase = 0 THEN 'ROLE' ELSE 'ROLE IN DATABASE' END
    FROM who AS w JOIN preset AS p ON p.setrole IN (0, w.oid)
    WHERE p.name ~ '\.' AND p.value <> '' AND NOT w.rolsuper
)
SELECT DISTINCT w.rolname::text AS role, f.way, f.object,
       CASE WHEN f.holder = 0 THEN 'public' ELSE pg_get_userbyid(f.holder)::text END AS holder,
       t.rolname::text AS through, coalesce(f.privilege, '') AS privilege, current_database()::text AS database
FROM found AS f JOIN who AS w ON w.oid = f.member LEFT JOIN pg_roles AS t ON t.oid = f.through
ORDER BY 1, 2, 3, 4, 5, 6
