-- Each database's totals from day $1 to before $2: of the best covered source, where there are several.
SELECT DISTINCT ON (database, day) database, day, source, busy_seconds, covered, reported, attributed_seconds,
       excess_seconds, excess_statements
FROM tenantry.database_usage_day WHERE day >= $1::date AND day < $2::date
ORDER BY database, day, least(covered, reported) DESC, source = 'measured' DESC, source
