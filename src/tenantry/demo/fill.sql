-- Fills the product's tables for some customers, without the foreign keys' triggers: the rows fit by construction.
-- Run by the superuser, inside a transaction. A temporary table "customer" says for whom, and how much.

SET LOCAL session_replication_role = replica;

INSERT INTO tenants (tenant_id, name, plan) SELECT id, name, plan FROM customer;

INSERT INTO routes (tenant_id, id, path, upstream, rate_limit)
SELECT c.id, n, '/v1/resource-' || n, 'https://' || c.name || '-' || n || '.internal', 600
FROM customer AS c, generate_series(1, c.routes) AS n;

INSERT INTO consumers (tenant_id, id, api_key, name)
SELECT c.id, n, 'key-' || n, c.name || ' app ' || n FROM customer AS c, generate_series(1, c.consumers) AS n;

INSERT INTO request_log (tenant_id, route_id, consumer_id, status, millis, at)
SELECT c.id, 1 + n % c.routes, 1 + n % c.consumers, CASE WHEN n % 50 = 0 THEN 502 ELSE 200 END, 5 + n % 40,
       now() - n * interval '7 seconds'
FROM customer AS c, generate_series(1, c.logged) AS n;
