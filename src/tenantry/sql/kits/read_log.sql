-- A tenant's audit entries ($1) of transactions from $2 on, for another database; text where arrays want it.
SELECT database, id, tenant, at, transaction::text AS transaction, actor, session_role, relation, operation,
       key::text AS key, old::text AS old, new::text AS new
FROM tenantry.audit_log WHERE tenant = $1 AND transaction >= $2::text::xid8 ORDER BY at
