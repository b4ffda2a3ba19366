-- Keeps a day of a tenant's use; a newer copy replaces an older one, never the reverse.
INSERT INTO tenantry.usage_copy AS c (tenant, day, database, busy_seconds, held_seconds, waited_seconds, commits,
                                      rollbacks, errors, statements, as_of)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (tenant, day, database) DO UPDATE SET
    busy_seconds = excluded.busy_seconds, held_seconds = excluded.held_seconds,
    waited_seconds = excluded.waited_seconds, commits = excluded.commits, rollbacks = excluded.rollbacks,
    errors = excluded.errors, statements = excluded.statements, as_of = excluded.as_of
WHERE c.as_of < excluded.as_of
