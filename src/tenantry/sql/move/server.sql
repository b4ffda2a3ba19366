-- The server and the database, as a move sees them.
SELECT
    current_setting('server_version_num')::int AS version, pg_backend_pid() AS backend, current_database()::text AS database,
    current_setting('wal_level') AS wal_level,
    current_setting('max_replication_slots')::int AS slots,
    (SELECT count(*) FROM pg_replication_slots)::int AS slots_used,
    current_setting('max_wal_senders')::int AS senders,
    (SELECT count(*) FROM pg_stat_replication)::int AS senders_used,
    current_setting('max_logical_replication_workers')::int AS workers,
    (SELECT count(*) FROM pg_stat_subscription WHERE pid IS NOT NULL)::int AS workers_used,
    current_setting('max_worker_processes')::int AS processes, activity.*,
    -- What is named there and was never used is not tracked; who may not see which takes all for used.
    coalesce(current_setting('max_active_replication_origins', true), current_setting('max_replication_slots'))::int
        AS origins,
    (SELECT count(*) FROM pg_replication_origin)::int AS origins_used,
    has_function_privilege('pg_show_replication_origin_status()', 'EXECUTE') AS sees_origins,
    pg_is_in_recovery() AS standby,
    pg_encoding_to_char(d.encoding) AS encoding, d.datcollate::text AS collate, d.datctype::text AS ctype,
    d.datlocprovider::text AS provider,
    coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') AS locale,
    -- Locales that some database here has, or that the operating system had when a database was made.
    ARRAY(SELECT datcollate FROM pg_database UNION SELECT collcollate FROM pg_collation WHERE collcollate <> ''
          UNION SELECT 'C' UNION SELECT 'POSIX')::text[] AS locales,
    (SELECT system_identifier FROM pg_control_system())::text AS cluster,
    r.rolname::text AS role, r.rolsuper AS superuser, r.rolbypassrls AS bypasses, r.rolreplication AS replicates,
    r.rolcreatedb AS creates_databases, r.rolcreaterole AS creates_roles,
    has_database_privilege(current_database(), 'CREATE') AS may_create,
    has_parameter_privilege('session_replication_role', 'SET') AS quiets_triggers,
    coalesce((SELECT pg_has_role(m.oid, 'USAGE') FROM pg_roles AS m WHERE m.rolname = 'pg_create_subscription'),
             r.rolsuper) AS subscribes,
    ARRAY(SELECT e.extname || ' ' || e.extversion FROM pg_extension AS e ORDER BY 1)::text[] AS extensions,
    ARRAY(SELECT name FROM pg_available_extensions)::text[] AS available,
    ARRAY(SELECT rolname::text FROM pg_roles)::text[] AS roles,
    -- Roles that own something in this database, may use something, or stand in a policy.
    ARRAY(SELECT DISTINCT s.rolname::text FROM pg_shdepend AS p JOIN pg_roles AS s ON s.oid = p.refobjid
          WHERE p.refclassid = 'pg_authid'::regclass AND p.dbid = d.oid)::text[] AS holders,
    (SELECT count(*) FROM pg_largeobject_metadata)::bigint AS large_objects,
    to_regclass('tenantry.move_gate') IS NOT NULL AS installed,
    EXISTS (SELECT FROM pg_constraint WHERE conrelid = to_regclass('tenantry.move_gate') AND contype = 'c'
            AND pg_get_constraintdef(oid) LIKE '%forward%') AS knows_directions,
    to_regclass('tenantry.database_identity') IS NOT NULL AS named,
    ARRAY(SELECT format('%s %s', gid, prepared) FROM pg_prepared_xacts)::text[] AS prepared,
    ARRAY(SELECT format('pid %s (%s, %s) running for %s s', pid, usename, coalesce(nullif(application_name, ''), 'no name'),
                        round(extract(epoch FROM clock_timestamp() - xact_start)))
          FROM pg_stat_activity WHERE backend_xid IS NOT NULL AND pid <> pg_backend_pid()
            AND clock_timestamp() - xact_start > interval '5 s')::text[] AS long_transactions
FROM pg_database AS d, pg_roles AS r, LATERAL (
    -- Background workers, as far as our role sees them; parallel ones come and go. Of logical replication's it is known
    -- without. Processes of the server's own have no user.
    SELECT greatest(count(*) FILTER (WHERE a.backend_type NOT IN ('client backend', 'walsender', 'parallel worker')),
                    count(*) FILTER (WHERE s.pid IS NOT NULL) + launcher.known)::int AS processes_used,
           greatest(count(*) FILTER (WHERE a.backend_type IS NULL AND s.pid IS NULL)
                    - launcher.known * (NOT bool_or(coalesce(a.backend_type = 'logical replication launcher', false)))::int,
                    0)::int AS sessions_hidden
    FROM pg_stat_activity AS a LEFT JOIN pg_stat_subscription AS s ON s.pid = a.pid,
         (SELECT (current_setting('max_logical_replication_workers')::int > 0 AND NOT pg_is_in_recovery())::int
          AS known) AS launcher
    WHERE a.usesysid IS NOT NULL GROUP BY launcher.known) AS activity
WHERE d.datname = current_database() AND r.rolname = current_user
