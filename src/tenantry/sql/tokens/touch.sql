-- Says that these tokens ($1) are in use, to the minute. One that another router says it of just now is left to that one.
WITH due AS (
    SELECT id FROM tenantry.sync_token
    WHERE id = ANY($1::text[]) AND (last_used_at < clock_timestamp() - interval '1 minute' OR last_used_at IS NULL)
    FOR UPDATE SKIP LOCKED
)
UPDATE tenantry.sync_token AS t SET last_used_at = clock_timestamp() FROM due WHERE t.id = due.id
