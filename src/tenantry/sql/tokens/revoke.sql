-- Revokes tokens by their ids ($1; NULL: all) and their tenant ($2; NULL: any), and records each. One of the two is given.
WITH revoked AS (
    UPDATE tenantry.sync_token SET revoked_at = clock_timestamp(), revoked_by = $3
    WHERE ($1::text[] IS NULL OR id = ANY($1)) AND ($2::text IS NULL OR tenant = $2)
      AND ($1 IS NOT NULL OR $2 IS NOT NULL) AND revoked_at IS NULL
    RETURNING id, tenant, label
), recorded AS (
    INSERT INTO tenantry.event (kind, actor, tenant, reason, detail)
    SELECT 'token.revoked', session_user || ' / ' || $3, tenant, $4, jsonb_build_object('token', id, 'label', label)
    FROM revoked
)
SELECT id FROM revoked
