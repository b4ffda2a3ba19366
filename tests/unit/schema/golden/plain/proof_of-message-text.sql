-- HMAC-SHA256 of a message under this database's key, in hexadecimal. The functions of the hot path have the same
-- expression inline, for speed.
CREATE OR REPLACE FUNCTION tenantry.proof_of(message text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT encode(sha256(s.outer_pad || sha256(s.inner_pad || convert_to(message, 'UTF8'))), 'hex')
    FROM tenantry.secret AS s
$$;
