-- Bytes that the tenant $1 takes, by the newest estimate of each database that names it.
SELECT DISTINCT ON (database) database, day, bytes FROM tenantry.storage WHERE tenant = $1 ORDER BY database, day DESC
