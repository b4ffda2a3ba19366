-- The lease: a session that holds pg_advisory_lock(move_lock_space(), hashtext(move)) runs that move.
CREATE OR REPLACE FUNCTION tenantry.move_lock_space() RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT 1414417750  -- 'TNMV'
$$;
