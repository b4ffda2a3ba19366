-- What a data database thinks that it is, read by the operator's role.
SELECT name, kind, setting, id_type, hardened FROM tenantry.local
