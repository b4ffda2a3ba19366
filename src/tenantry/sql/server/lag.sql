-- Bytes of log that the receiver of one of the slots $1 has not confirmed; no row when none is there.
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = ANY ($1::text[])
