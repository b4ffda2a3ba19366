-- What is known about the room on this server: $1 is a database of it that may not be there yet.
SELECT pg_size_bytes(current_setting('max_wal_size')) AS log,
    pg_has_role('pg_read_all_settings', 'USAGE') AND has_function_privilege('pg_stat_file(text)', 'EXECUTE') AS may_ask,
    coalesce((SELECT pg_database_size(oid) FROM pg_database WHERE datname = $1), 0)::bigint AS used,
    (SELECT sum(pg_database_size(oid)) FROM pg_database
     WHERE has_database_privilege(oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE'))::bigint AS used_by_all,
    coalesce((SELECT pg_tablespace_location(dattablespace) FROM pg_database WHERE datname = $1), '') AS place
