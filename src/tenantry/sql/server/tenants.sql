-- Tenants whose id or name holds the text $1, in the database $2 (NULL: in any) and the state $3 (NULL: not removed),
-- sorted by $4, downwards if $5; $6 at most, after the first $7.
SELECT t.id, to_jsonb(t) ->> 'name' AS name, t.database, d.kind, t.state, t.plan, t.placed_at
FROM tenantry.tenant AS t JOIN tenantry.database AS d ON d.name = t.database
WHERE ($1 = '' OR position(lower($1) IN lower(t.id)) > 0 OR position(lower($1) IN lower(to_jsonb(t) ->> 'name')) > 0)
  AND ($2::text IS NULL OR t.database = $2) AND (t.state = $3 OR $3::text IS NULL AND t.state <> 'removed')
ORDER BY
    CASE WHEN $5 THEN CASE $4 WHEN 'database' THEN t.database WHEN 'state' THEN t.state
        WHEN 'name' THEN to_jsonb(t) ->> 'name' END END DESC NULLS LAST,
    CASE WHEN NOT $5 THEN CASE $4 WHEN 'database' THEN t.database WHEN 'state' THEN t.state
        WHEN 'name' THEN to_jsonb(t) ->> 'name' END END NULLS LAST,
    CASE WHEN $4 = 'placed' AND $5 THEN t.placed_at END DESC,
    CASE WHEN $4 = 'placed' AND NOT $5 THEN t.placed_at END,
    CASE WHEN $4 = 'id' AND $5 THEN t.id END DESC, t.id
LIMIT $6 OFFSET $7
