-- Imports the databases' totals per day under the label $1. What the file calls coverage is both sides'.
INSERT INTO tenantry.database_usage_day AS d (day, database, source, busy_seconds, covered, reported, final, attributed_seconds)
SELECT part.day, part.database, $1::text, part.total, 1, part.coverage, true, part.attributed
FROM unnest($2::date[], $3::text[], $4::float8[], $5::float8[], $6::float8[])
     AS part (day, database, total, coverage, attributed)
ON CONFLICT (day, database, source) DO UPDATE SET
    busy_seconds = excluded.busy_seconds, covered = excluded.covered, reported = excluded.reported,
    attributed_seconds = excluded.attributed_seconds
