-- Databases for the console and the scrape. Columns as DatabaseState's.
SELECT d.name, d.kind, count(t.id) AS tenants, count(t.id) FILTER (WHERE t.state = 'suspended') AS suspended
FROM tenantry.database AS d LEFT JOIN tenantry.tenant AS t ON t.database = d.name AND t.state <> 'removed'
GROUP BY d.name, d.kind ORDER BY d.kind DESC, d.name
