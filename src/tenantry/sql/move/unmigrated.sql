-- Keep migrations from databases ($2: their names; $1: the locks' class) for as long as the session lives; or the name of one
-- that is migrated now. Shared: other moves may go on there. `tenantry migrate` takes the same lock alone.
SELECT name FROM unnest($2::text[]) AS name WHERE NOT pg_try_advisory_lock_shared($1, hashtext(name)) LIMIT 1
