-- Tables that have a tenant column ($1: its names, as `spelling` of catalog/tables.py folds them) or hang by a foreign key on
-- one of some tables ($2). A new one among them would stay behind when a move that was planned without it flips.
SELECT format('kin %I.%I', n.nspname, c.relname) AS line
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast', 'tenantry')
  AND (EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND translate(lower(a.attname), '_- ', '') = ANY ($1::text[]))
       OR EXISTS (SELECT FROM pg_constraint AS f WHERE f.conrelid = c.oid AND f.contype = 'f'
                  AND f.confrelid IN (SELECT to_regclass(name)::oid FROM unnest($2::text[]) AS name)))
ORDER BY 1
