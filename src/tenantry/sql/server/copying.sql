-- Tables that are being copied into this database, with rows and bytes so far.
SELECT relid::regclass::text AS "table", tuples_processed AS rows, bytes_processed AS bytes
FROM pg_stat_progress_copy WHERE datname = current_database() AND command = 'COPY FROM' ORDER BY 1
