-- The advisory lock of a tenant: shared by every transaction that works for it, exclusive for the fence. The
-- two-integer form keeps clear of applications, which mostly use one bigint. Two tenants whose hashes are
-- equal share a lock: while one is fenced, the other waits those milliseconds too.
CREATE OR REPLACE FUNCTION tenantry.lock_space() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1415071060  -- 'TNNT'
$$;
