-- What a data database thinks that it is, read by the operator's role.
SELECT name, kind, setting, id_type, hardened,
       EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
           AND EXISTS (SELECT FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace AND proname = 'bind'
                       AND prosrc LIKE '%set_config('''||setting||'''%') AS citus_came_later
FROM tenantry.local
