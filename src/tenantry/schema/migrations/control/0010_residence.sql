-- What a tenant asks of its home: a region, and a tier. NULL: nothing.
--
-- Runnable in psql. What a database has of the two stands in its settings.

ALTER TABLE tenantry.tenant ADD COLUMN IF NOT EXISTS region text, ADD COLUMN IF NOT EXISTS tier text;
COMMENT ON COLUMN tenantry.tenant.region IS 'The tenant lives only in databases of this region; NULL: in any';
COMMENT ON COLUMN tenantry.tenant.tier IS 'The tenant lives only in databases of this tier; NULL: in any';
