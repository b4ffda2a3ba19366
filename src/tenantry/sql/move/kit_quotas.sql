-- The tables that the quotas kit counts, each as the statement that lets it.
SELECT format('SELECT tenantry.quota_on(%L, %L, %L)', format('%I.%I', n.nspname, c.relname), q.resource,
              q.tenant_column) AS statement
FROM tenantry.quota_resource AS q JOIN pg_class AS c ON c.oid = q.relation
JOIN pg_namespace AS n ON n.oid = c.relnamespace
