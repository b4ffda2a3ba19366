-- What a data database thinks that it is, read by the operator's role.
SELECT i.name, i.kind, i.setting, i.id_type, i.hardened,
       f.form IS DISTINCT FROM 'citus' AND EXISTS (SELECT FROM pg_extension WHERE extname = 'citus') AS citus_came_later
FROM tenantry.database_identity AS i LEFT JOIN tenantry.function_set AS f ON f.side = 'data'
