-- How many sessions this database has had, ours included, which `pg_stat_force_next_flush` has counted before.
SELECT sessions FROM pg_stat_database WHERE datname = current_database()
