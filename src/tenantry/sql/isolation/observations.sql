-- What was observed, the newest first.
SELECT o.relation, o.kind, o.problem, o.statement, o.role, o.client, min(o.at) AS first_at
FROM tenantry.observation AS o
GROUP BY o.relation, o.kind, o.problem, o.statement, o.role, o.client
ORDER BY first_at DESC
