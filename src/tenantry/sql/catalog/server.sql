-- What server this is, and where tenantry stands in it.
SELECT current_setting('server_version_num')::int AS version, current_user::text AS "user",
       current_database()::text AS database,
       (SELECT count(*) FROM pg_largeobject_metadata)::bigint AS large_objects,
       current_setting('lo_compat_privileges')::boolean AS lo_compat_privileges,
       ARRAY(SELECT e.extname::text FROM pg_extension AS e ORDER BY 1) AS extensions,
       ARRAY(
           SELECT n.nspname::text || '=' || n.oid::text FROM pg_namespace AS n
           WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
       ) AS schemas
