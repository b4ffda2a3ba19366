-- Imports use per day under the label $1.
INSERT INTO tenantry.usage_day (day, database, tenant, source, busy_seconds, held_seconds, waited_seconds, commits,
                                rollbacks, errors, statements)
SELECT part.day, part.database, part.tenant, $1::text, part.busy, part.held, part.waited, part.commits,
       part.rollbacks, part.errors, part.statements
FROM unnest($2::date[], $3::text[], $4::text[], $5::float8[], $6::float8[], $7::float8[], $8::bigint[], $9::bigint[],
            $10::bigint[], $11::bigint[])
     AS part (day, database, tenant, busy, held, waited, commits, rollbacks, errors, statements)
