-- Imports the databases' totals per day under the label $1. What the file calls coverage is both sides'; a day
-- without a total is covered too little to have one.
INSERT INTO tenantry.database_usage_day AS d (day, database, source, busy_seconds, covered, reported, final,
                                            attributed_seconds, excess_seconds, excess_statements)
SELECT part.day, part.database, $1::text, part.total, part.covered, part.coverage, true, part.attributed, part.excess,
       part.statements
FROM unnest($2::date[], $3::text[], $4::float8[], $5::float8[], $6::float8[], $7::float8[], $8::float8[], $9::bigint[])
     AS part (day, database, total, covered, coverage, attributed, excess, statements)
ON CONFLICT (day, database, source) DO UPDATE SET
    busy_seconds = excluded.busy_seconds, covered = excluded.covered, reported = excluded.reported,
    attributed_seconds = excluded.attributed_seconds, excess_seconds = excluded.excess_seconds,
    excess_statements = excluded.excess_statements
