-- Bytes of log that the receiver of the slot $1 has not confirmed; no row when there is no such slot.
SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = $1
