-- Takes the usage kit away; the ledger itself is untouched.
DROP FUNCTION tenantry.usage_grant(text);
DROP VIEW tenantry.my_usage;
DROP TABLE tenantry.usage_copy;
