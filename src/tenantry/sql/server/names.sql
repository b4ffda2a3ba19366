-- What people call the tenants $1: those that have a name. Also in a control database that has no names yet.
SELECT id, to_jsonb(t) ->> 'name' AS name FROM tenantry.tenant AS t
WHERE id = ANY ($1::text[]) AND to_jsonb(t) ->> 'name' IS NOT NULL
