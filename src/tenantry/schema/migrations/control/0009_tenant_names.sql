-- Names for tenants: what people call them. An id goes before a name; capitals make no other name.
--
-- Runnable in psql.

ALTER TABLE tenantry.tenant ADD COLUMN IF NOT EXISTS name text;
COMMENT ON COLUMN tenantry.tenant.name IS 'What people call the tenant; NULL: it has no name. For people only';
-- Who was removed keeps its name, and keeps it from nobody.
CREATE UNIQUE INDEX IF NOT EXISTS tenant_name ON tenantry.tenant (lower(name)) WHERE state <> 'removed';
