-- A page of $6 tokens, of one tenant or (NULL) of all, after ($2, $3, $4); those too that are of no more use, if $5.
SELECT *, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
FROM tenantry.sync_token
WHERE ($1::text IS NULL OR tenant = $1)
  AND ($2::text IS NULL OR (tenant, issued_at, id) > ($2, $3::timestamptz, $4::text))
  AND ($5 OR revoked_at IS NULL AND (expires_at > clock_timestamp() OR expires_at IS NULL))
ORDER BY tenant, issued_at, id LIMIT $6
