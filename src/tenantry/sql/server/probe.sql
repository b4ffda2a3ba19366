-- How a database is, as any role may ask it. Connections are those of this database; lag is of the standby that is
-- furthest behind, or our own if this is one, in bytes (NULL: there is none, or our role may not see).
SELECT current_setting('server_version') AS version, pg_database_size(current_database()) AS bytes,
       (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database())::int AS connections,
       current_setting('max_connections')::int AS allowed, pg_is_in_recovery() AS standby,
       CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
            ELSE (SELECT max(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn)) FROM pg_stat_replication
                  WHERE application_name NOT LIKE 'tenantry%') END::bigint AS lag
