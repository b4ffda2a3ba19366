-- Foreign keys between tenant tables ($1; their tenant columns: $2) and their partitions that do not pair the two
-- tenant columns: with c for the referencing rows and p for the referenced ones, what joins them as the key does.
WITH tenant (oid, tenant) AS (
    SELECT to_regclass(name)::oid, column_name FROM unnest($1::text[], $2::text[]) AS t (name, column_name)
)
SELECT format('%I', f.conname) AS name,
    format('%I.%I', cn.nspname, c.relname) AS child, near.tenant AS child_tenant,
    format('%I.%I', pn.nspname, p.relname) AS parent, far.tenant AS parent_tenant,
    -- The operator by its full name, as it may be an extension's; two columns may be sorted by two collations.
    (SELECT string_agg(format('p.%I OPERATOR(%I.%s) c.%I%s', b.attname, n.nspname, o.oprname, a.attname,
                              CASE WHEN a.attcollation <> b.attcollation AND l.oid IS NOT NULL
                                   THEN format(' COLLATE %I.%I', ln.nspname, l.collname) ELSE '' END),
                       ' AND ' ORDER BY k.place)
     FROM unnest(f.conkey, f.confkey, f.conpfeqop) WITH ORDINALITY AS k (near, far, operator, place)
     JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.near
     JOIN pg_attribute AS b ON b.attrelid = f.confrelid AND b.attnum = k.far
     JOIN pg_operator AS o ON o.oid = k.operator JOIN pg_namespace AS n ON n.oid = o.oprnamespace
     LEFT JOIN pg_collation AS l ON l.oid = b.attcollation LEFT JOIN pg_namespace AS ln ON ln.oid = l.collnamespace
    ) AS joined
FROM pg_constraint AS f
JOIN pg_class AS c ON c.oid = f.conrelid JOIN pg_namespace AS cn ON cn.oid = c.relnamespace
JOIN pg_class AS p ON p.oid = f.confrelid JOIN pg_namespace AS pn ON pn.oid = p.relnamespace
JOIN tenant AS near ON near.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)
JOIN tenant AS far ON far.oid = coalesce(pg_partition_root(p.oid)::oid, p.oid)
WHERE f.contype = 'f' AND f.conparentid = 0 AND coalesce((to_jsonb(f) ->> 'conenforced')::bool, true)
  AND NOT EXISTS (SELECT FROM unnest(f.conkey, f.confkey) AS k (near, far)
                  JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.near AND a.attname = near.tenant
                  JOIN pg_attribute AS b ON b.attrelid = f.confrelid AND b.attnum = k.far AND b.attname = far.tenant)
ORDER BY child, name
