-- What `tenantry check` wants to know of a server, readable by any role. Columns: as named.
SELECT
    current_setting('server_version_num')::int AS version,
    current_setting('server_version') AS version_text,
    pg_backend_pid() AS backend,
    session_user::text AS role,
    extract(epoch FROM clock_timestamp())::float8 AS clock,
    (SELECT s.system_identifier::text FROM pg_control_system() AS s)
        || CASE WHEN pg_is_in_recovery() THEN ' replica' ELSE '' END AS cluster,
    pg_is_in_recovery() AS replica,
    current_setting('max_connections')::int AS max_connections,
    current_setting('superuser_reserved_connections')::int
        + coalesce(current_setting('reserved_connections', true)::int, 0) AS reserved,
    to_regclass('tenantry.migration') IS NOT NULL AS installed
