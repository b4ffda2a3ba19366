-- The product's schema, a row for each object of it with a hash of its definition: equal rows here and there mean
-- equal schemas. Physical column order does not count, nor do owners, grants, policies and what `rls plan` adds,
-- which have their own checks, nor partitions, of which every database has those that its rows want.
WITH ours AS (
    SELECT c.oid, c.relkind, format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'c', 'S') AND NOT c.relispartition
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT EXISTS (SELECT FROM pg_depend AS e
                        WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
), line AS (
    SELECT CASE WHEN o.relkind IN ('v', 'm') THEN 'view' WHEN o.relkind = 'c' THEN 'type' ELSE 'table' END AS kind, o.name,
           format('%s column %I %s%s %s %s %s %s', o.relkind, a.attname, format_type(a.atttypid, a.atttypmod),
                  CASE WHEN a.attnotnull THEN ' not null' END, a.attidentity, a.attgenerated, l.collname,
                  pg_get_expr(d.adbin, d.adrelid)) AS line
    FROM ours AS o JOIN pg_attribute AS a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation AND l.collname <> 'default'
    WHERE o.relkind <> 'S'
    UNION ALL
    SELECT 'table', o.name, format('%s constraint %I %s', o.relkind, k.conname, pg_get_constraintdef(k.oid))
    FROM ours AS o JOIN pg_constraint AS k ON k.conrelid = o.oid
    -- NOT NULL is told by the columns: only PostgreSQL 18 lists it among the constraints too.
    WHERE k.contype NOT IN ('n', 't') AND k.conname !~ '_tenantry(_key|_idx|_not_null)?$'
    UNION ALL
    SELECT CASE WHEN o.relkind = 'm' THEN 'view' ELSE 'table' END, o.name, format('index %s%s', pg_get_indexdef(x.indexrelid),
                                   CASE WHEN NOT x.indisvalid THEN ' invalid' END)
    FROM ours AS o JOIN pg_index AS x ON x.indrelid = o.oid JOIN pg_class AS i ON i.oid = x.indexrelid
    WHERE i.relname !~ '_tenantry(_key|_idx|_not_null)?$'
    UNION ALL
    SELECT CASE WHEN o.relkind = 'v' THEN 'view' ELSE 'table' END, o.name,
           format('%s %s', pg_get_triggerdef(t.oid), t.tgenabled)
    FROM ours AS o JOIN pg_trigger AS t ON t.tgrelid = o.oid AND NOT t.tgisinternal
    JOIN pg_proc AS f ON f.oid = t.tgfoid JOIN pg_namespace AS n ON n.oid = f.pronamespace
    WHERE n.nspname <> 'tenantry'
    UNION ALL
    SELECT 'table', o.name, format('%s table', o.relkind) FROM ours AS o WHERE o.relkind IN ('r', 'p', 'f')
    UNION ALL
    SELECT 'view text', o.name, pg_get_viewdef(o.oid) FROM ours AS o WHERE o.relkind IN ('v', 'm')
    UNION ALL
    SELECT 'sequence', o.name, format('%s by %s', format_type(s.seqtypid, NULL), s.seqincrement)
    FROM ours AS o JOIN pg_sequence AS s ON s.seqrelid = o.oid
    UNION ALL
    SELECT 'type', format('%I.%I', n.nspname, t.typname),
           coalesce((SELECT string_agg(quote_literal(e.enumlabel), ' ' ORDER BY e.enumsortorder)
                     FROM pg_enum AS e WHERE e.enumtypid = t.oid),
                    format('domain %s%s %s %s', format_type(t.typbasetype, t.typtypmod),
                           CASE WHEN t.typnotnull THEN ' not null' END, t.typdefault,
                           (SELECT string_agg(pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname)
                            FROM pg_constraint AS k WHERE k.contypid = t.oid AND k.contype = 'c')))
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT EXISTS (SELECT FROM pg_depend AS e
                        WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e')
    UNION ALL
    SELECT 'function', format('%I.%I(%s)', n.nspname, f.proname, pg_get_function_identity_arguments(f.oid)),
           CASE WHEN f.prokind IN ('f', 'p') THEN pg_get_functiondef(f.oid) ELSE f.prokind::text END
    FROM pg_proc AS f JOIN pg_namespace AS n ON n.oid = f.pronamespace
    WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'tenantry') AND n.nspname !~ '^pg_(toast|temp)'
        AND NOT EXISTS (SELECT FROM pg_depend AS e
                        WHERE e.classid = 'pg_proc'::regclass AND e.objid = f.oid AND e.deptype = 'e')
)
SELECT kind, name, md5(string_agg(line, E'\n' ORDER BY line COLLATE "C")) AS hash
FROM line GROUP BY kind, name ORDER BY kind, name
