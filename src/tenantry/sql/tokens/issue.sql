-- Adds a token for a tenant ($2) that is there, unless it has $9 already, and records it. Forgets those of the
-- tenant's that have been of no use for 90 days. No row: it was not added.
WITH forgotten AS (
    DELETE FROM tenantry.sync_token WHERE tenant = $2 AND least(revoked_at, expires_at) < now() - interval '90 days'
), added AS (
    INSERT INTO tenantry.sync_token (id, tenant, hash, scopes, label, expires_at, issued_by)
    SELECT $1, t.id, $3, $4, $5, coalesce($6::timestamptz, now() + $7::interval), $8
    FROM tenantry.tenant AS t
    WHERE t.id = $2 AND t.state <> 'removed'
      AND (SELECT count(*) FROM tenantry.sync_token AS s
           WHERE s.tenant = $2 AND s.revoked_at IS NULL AND (s.expires_at > now() OR s.expires_at IS NULL)) < $9
    RETURNING *
), recorded AS (
    INSERT INTO tenantry.event (kind, actor, tenant, detail)
    SELECT 'token.issued', session_user || ' / ' || $8, tenant,
           jsonb_build_object('token', id, 'scopes', scopes, 'label', label, 'expires_at', expires_at)
    FROM added
)
SELECT *, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left FROM added
