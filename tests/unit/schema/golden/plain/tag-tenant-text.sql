-- What a scope puts into application_name: the id, or a hash of one that would not fit. The planner puts this
-- expression in place of the call, and for ids of another type than text it leaves the first branch only.
CREATE OR REPLACE FUNCTION tenantry.tag(tenant text) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN 'uuid' <> 'text' THEN 'tenantry:' || tenant
                WHEN octet_length(tenant) <= 50 AND tenant COLLATE "C" !~ '[^ -~]' THEN 'tenantry:' || tenant
                ELSE 'tenantry:#' || md5(convert_to(tenant, 'UTF8')) END
$$;
