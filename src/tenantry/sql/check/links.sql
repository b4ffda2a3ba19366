-- Links of moves into this database that have failed to apply a change and are not at it now: the server tries them again and
-- again, and they bring nothing meanwhile. Readable by any role, PostgreSQL 15 and newer.
SELECT s.subname::text AS name
FROM pg_subscription AS s JOIN pg_stat_subscription_stats AS t ON t.subid = s.oid
WHERE s.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND s.subenabled
  AND s.subname ~ '^tenantry_m[0-9a-f]{10}_' AND t.apply_error_count > 0
  AND NOT EXISTS (SELECT FROM pg_stat_subscription AS w WHERE w.subid = s.oid AND w.relid IS NULL AND w.pid IS NOT NULL)
ORDER BY 1
