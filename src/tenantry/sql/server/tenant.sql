-- The tenant $1, removed ones too.
SELECT t.id, to_jsonb(t) ->> 'name' AS name, t.database, d.kind, t.epoch, t.state, t.plan, t.weight, t.limits,
       t.created_at, t.placed_at
FROM tenantry.tenant AS t JOIN tenantry.database AS d ON d.name = t.database WHERE t.id = $1
