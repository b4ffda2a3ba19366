-- Adds what a database did between two readings, and keeps the newer one: only if nobody else did so since the
-- older was read. $1 database, $2 version of the older reading (0: none), $3 the newer one, $4–$6 per hour
WITH mine AS (
    INSERT INTO tenantry.database_reading AS r (database, version, reading)
    SELECT $1, 1, $3::jsonb WHERE $2::bigint = 0
    ON CONFLICT (database) DO NOTHING
    RETURNING database
), newer AS (
    UPDATE tenantry.database_reading SET version = version + 1, reading = $3::jsonb
    WHERE database = $1 AND version = $2::bigint AND $2::bigint > 0
    RETURNING database
), added AS (
    INSERT INTO tenantry.database_usage AS u (hour, database, busy_seconds, covered_seconds)
    SELECT part.hour, newer.database, part.busy, part.covered
    FROM newer, unnest($4::timestamptz[], $5::float8[], $6::float8[]) AS part (hour, busy, covered)
    ON CONFLICT (hour, database) DO UPDATE SET
        busy_seconds = u.busy_seconds + excluded.busy_seconds,
        covered_seconds = u.covered_seconds + excluded.covered_seconds
)
SELECT EXISTS (SELECT FROM mine UNION ALL SELECT FROM newer) AS kept
