-- Stops recording and takes the audit kit's functions away. What was recorded stays, readable by its tenants and
-- closed to changes; its owner drops tenantry.audit_log when it may go.
DO $do$
DECLARE
    recorded regclass;
BEGIN
    FOR recorded IN SELECT t.tgrelid FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
                    WHERE t.tgname = 'tenantry_audit' AND t.tgparentid = 0 LOOP
        PERFORM tenantry.audit_off(recorded);
    END LOOP;
END
$do$;
DROP FUNCTION tenantry.audit_grant(text), tenantry.audit_on(regclass, name, text[]), tenantry.audit_off(regclass),
    tenantry.audit_row(), tenantry.audit_truncated(), tenantry.audit_write(oid, text[], text, jsonb, jsonb);
