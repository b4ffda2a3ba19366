-- The foreign keys of some tables ($1: names, schema-qualified and quoted) and of their partitions, with c for the
-- referencing rows and p for the referenced ones what joins them as the key does. Enforced ones only.
WITH named (oid, name) AS (
    SELECT c.oid, format('"%s"."%s"', replace(n.nspname, '"', '""'), replace(c.relname, '"', '""'))
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
)
SELECT format('%I', f.conname) AS name, c.name AS child, r.name AS root, p.name AS parent, k.columns, k.far, k.joined
FROM pg_constraint AS f JOIN named AS c ON c.oid = f.conrelid JOIN named AS p ON p.oid = f.confrelid
JOIN named AS r ON r.oid = coalesce(pg_partition_root(c.oid)::oid, c.oid)
CROSS JOIN LATERAL (
    -- The operator by its full name, as it may be an extension's; two columns may be sorted by two collations.
    SELECT array_agg(a.attname::text ORDER BY k.place) AS columns, array_agg(b.attname::text ORDER BY k.place) AS far,
           string_agg(format('p.%I OPERATOR(%I.%s) c.%I%s', b.attname, n.nspname, o.oprname, a.attname,
                             CASE WHEN a.attcollation <> b.attcollation AND l.oid IS NOT NULL
                                  THEN format(' COLLATE %I.%I', ln.nspname, l.collname) ELSE '' END),
                      ' AND ' ORDER BY k.place) AS joined
    FROM unnest(f.conkey, f.confkey, f.conpfeqop) WITH ORDINALITY AS k (near, far, operator, place)
    JOIN pg_attribute AS a ON a.attrelid = f.conrelid AND a.attnum = k.near
    JOIN pg_attribute AS b ON b.attrelid = f.confrelid AND b.attnum = k.far
    JOIN pg_operator AS o ON o.oid = k.operator JOIN pg_namespace AS n ON n.oid = o.oprnamespace
    LEFT JOIN pg_collation AS l ON l.oid = b.attcollation LEFT JOIN pg_namespace AS ln ON ln.oid = l.collnamespace) AS k
WHERE f.contype = 'f' AND f.conparentid = 0 AND coalesce((to_jsonb(f) ->> 'conenforced')::bool, true)
  AND r.oid IN (SELECT to_regclass(t)::oid FROM unnest($1::text[]) AS t)
ORDER BY child, name
