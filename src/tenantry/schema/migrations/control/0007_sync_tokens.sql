-- Sync tokens: what devices show instead of a user's sign-in. Scoped, revocable, and worthless to who reads this table.
--
-- Runnable in psql. A token is `tns_ID_SECRET`; of the secret, 32 random bytes, only the SHA-256 is here.

CREATE TABLE tenantry.sync_token (
    id           text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{20}$'),
    tenant       text NOT NULL REFERENCES tenantry.tenant ON DELETE CASCADE,
    hash         bytea NOT NULL CHECK (octet_length(hash) = 32),
    scopes       text[] NOT NULL DEFAULT '{}',
    label        text,                                      -- whose it is, for people
    issued_at    timestamptz NOT NULL DEFAULT now(),
    issued_by    text NOT NULL,
    expires_at   timestamptz CHECK (expires_at > issued_at),  -- NULL: never
    revoked_at   timestamptz,
    revoked_by   text,
    last_used_at timestamptz                                -- to the minute
) WITH (fillfactor = 80);                                   -- a use is an update in place
CREATE INDEX sync_token_tenant ON tenantry.sync_token (tenant, issued_at, id);
COMMENT ON TABLE tenantry.sync_token IS 'Tokens of devices: hashes only';
