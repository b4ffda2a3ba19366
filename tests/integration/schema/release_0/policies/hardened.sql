CREATE POLICY tenantry_tenant ON "public"."note" AS PERMISSIVE FOR ALL TO PUBLIC
    USING ("tenant_id" = nullif(current_setting('app.current_tenant', true), '')::uuid AND coalesce("tenant_id" = (SELECT tenantry.admitted_tenant()), false))
    WITH CHECK ("tenant_id" = nullif(current_setting('app.current_tenant', true), '')::uuid AND coalesce("tenant_id" = (SELECT tenantry.admitted_tenant()), false));
