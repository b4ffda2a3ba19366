-- The shape of some tables ($1: their names, schema-qualified and quoted), a line for each fact: equal lines
-- here and there mean that rows fit and mean the same. Physical column order does not count.
WITH t AS (
    SELECT c.oid, name FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
)
SELECT line FROM (
    SELECT format('table %s', t.name) AS line FROM t
    UNION ALL
    SELECT format('column %s.%s %s%s%s%s%s', t.name, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' not null' ELSE '' END,
                  CASE WHEN a.attidentity <> '' THEN ' identity ' || a.attidentity::text ELSE '' END,
                  CASE WHEN a.attgenerated <> '' THEN ' generated ' || a.attgenerated::text ELSE '' END,
                  coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
    FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    UNION ALL
    -- NOT NULL is told by the columns: only PostgreSQL 18 lists it among the constraints too.
    SELECT format('constraint %s.%s %s', t.name, k.conname, pg_get_constraintdef(k.oid))
    FROM t JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype <> 'n' AND k.contype <> 't'
    UNION ALL
    SELECT format('index %s %s', t.name, pg_get_indexdef(x.indexrelid))
    FROM t JOIN pg_index AS x ON x.indrelid = t.oid
    UNION ALL
    SELECT format('partition %s %s %s', t.name, i.inhrelid::regclass, pg_get_expr(p.relpartbound, p.oid))
    FROM t JOIN pg_inherits AS i ON i.inhparent = t.oid JOIN pg_class AS p ON p.oid = i.inhrelid
) AS lines
ORDER BY line
