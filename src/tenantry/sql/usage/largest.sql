-- The $2 tenants that used most in the hour $1.
SELECT tenant FROM tenantry.usage WHERE hour = $1::timestamptz
GROUP BY tenant ORDER BY sum(busy_seconds) DESC, tenant LIMIT $2::bigint
