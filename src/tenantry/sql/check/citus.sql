-- What `tenantry check` wants to know of a database with Citus, readable by any role: its version, and whether this is the
-- coordinator.
SELECT (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'citus') AS version,
       coalesce((SELECT g.groupid = 0 FROM pg_catalog.pg_dist_local_group AS g), true) AS coordinator
