-- The tokens of these ids ($1); their time left by this server's clock, so that no other's counts.
SELECT *, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
FROM tenantry.sync_token WHERE id = ANY($1::text[])
