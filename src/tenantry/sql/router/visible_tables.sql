-- The tables that a name without a schema means in this session. Columns: object id; the name, quoted; the same with its
-- schema. An extension's tables are nobody's rows.
SELECT c.oid::bigint AS oid, quote_ident(c.relname) AS name,
       format('%I.%I', n.nspname, c.relname) AS qualified
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f')
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname !~ '^pg_(toast|temp)'
  AND pg_catalog.pg_table_is_visible(c.oid)
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e
                  WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
ORDER BY c.oid
