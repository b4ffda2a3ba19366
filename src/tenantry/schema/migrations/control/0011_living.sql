-- Counts a database's tenants without reading their rows: at a sign-up, where others wait for the count.
--
-- Runnable in psql.

CREATE INDEX IF NOT EXISTS tenant_living ON tenantry.tenant (database) WHERE state <> 'removed';
