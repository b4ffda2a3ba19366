-- Where the tenants $1 live, and since when.
SELECT t.id, t.database, d.kind, (greatest(t.created_at, t.placed_at) AT TIME ZONE 'UTC')::date AS since
FROM tenantry.tenant AS t JOIN tenantry.database AS d ON d.name = t.database
WHERE t.id = ANY($1::text[]) AND t.state <> 'removed'
