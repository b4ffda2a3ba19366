-- Keeps audit entries of another database, column by column; returns how many were new.
WITH stored AS (
    INSERT INTO tenantry.audit_log (database, id, tenant, at, transaction, actor, session_role, relation, operation, key,
                                    old, new) OVERRIDING SYSTEM VALUE
    SELECT database, id, tenant, at, transaction::xid8, actor, session_role, relation, operation, key::jsonb, old::jsonb,
           new::jsonb
    FROM unnest($1::text[], $2::bigint[], $3::text[], $4::timestamptz[], $5::text[], $6::text[], $7::text[],
                $8::text[], $9::text[], $10::text[], $11::text[], $12::text[])
        AS e(database, id, tenant, at, transaction, actor, session_role, relation, operation, key, old, new)
    ON CONFLICT DO NOTHING RETURNING 1)
SELECT count(*) FROM stored
