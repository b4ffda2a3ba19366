-- What nobody may call but the owner, and the roles that tenantry.grant_application names. A new function is everybody's.
REVOKE ALL ON PROCEDURE tenantry.enter(text), tenantry.enter(text, text),
    tenantry.enter(text, text, integer) FROM PUBLIC;
REVOKE ALL ON FUNCTION tenantry.bind(text), tenantry.bind(text, text), tenantry.admit(), tenantry.admitted(),
    tenantry.admitted_tenant(), tenantry.enroll(text, bigint, text), tenantry.grant_application(text),
    tenantry.refuse(text), tenantry.proof_of(text), tenantry.tag(text) FROM PUBLIC;
