-- Sessions of commands of `tenantry migrate` in this database, as far as their drivers call them so. $1: LIKE what.
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE $1 AND pid <> pg_backend_pid() ORDER BY pid
