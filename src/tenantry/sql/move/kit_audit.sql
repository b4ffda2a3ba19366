-- The tables that the audit kit records, each as the statement that lets it. The trigger's arguments, which
-- pg_trigger keeps as bytes, each ended by a zero: the tenant column, the key, the hidden columns.
SELECT format('SELECT tenantry.audit_on(%L, %L, %L)', format('%I.%I', n.nspname, c.relname), a.given[1],
              ARRAY(SELECT jsonb_array_elements_text(a.given[3]::jsonb))::text[]) AS statement
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
     LATERAL (SELECT string_to_array(encode(t.tgargs, 'escape'), '\000') AS given) AS a
WHERE t.tgname = 'tenantry_audit' AND t.tgparentid = 0
