-- Who did what, the newest first: before event $1 (NULL: from the newest on), of kinds that begin with $2, of the
-- tenant $3, the database $4 (NULL: of all); $5 at most.
SELECT id, at, kind, actor, tenant, database, reason, detail FROM tenantry.event
WHERE ($1::bigint IS NULL OR id < $1) AND starts_with(kind, $2) AND ($3::text IS NULL OR tenant = $3)
  AND ($4::text IS NULL OR database = $4)
ORDER BY id DESC LIMIT $5
