-- What some tables ($1: names as in shape.sql) are, with all that they need: partitions, types, collations, functions,
-- rules. A line for each thing: its kind and name, its definition, and the statements that make it and take it away ("" if
-- that would lose rows). Constraints and indexes that a partition has from its parent are the parent's. An invalid index is
-- none: pg_dump leaves it out too.
-- unnest(ARRAY(SELECT …)): the planner takes a recursion for millions of rows, and an array for ten.
WITH RECURSIVE asked AS (
    SELECT c.oid, c.relkind FROM unnest($1::text[]) AS name JOIN pg_class AS c ON c.oid = to_regclass(name)
), t AS (
    SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind, c.relpersistence, c.relispartition,
           c.relpartbound
    FROM unnest(ARRAY(SELECT oid FROM asked UNION
          SELECT p.relid FROM asked CROSS JOIN LATERAL pg_partition_tree(asked.oid) AS p WHERE relkind = 'p')) AS m(oid)
    JOIN pg_class AS c ON c.oid = m.oid JOIN pg_namespace AS n ON n.oid = c.relnamespace
), c AS (
    SELECT t.name, t.oid, t.relispartition, a.attnum, a.attname, a.attnotnull, a.attidentity::text AS identity,
           a.attgenerated::text AS generated, pg_get_expr(d.adbin, d.adrelid) AS value,
           format_type(a.atttypid, a.atttypmod)
               || CASE WHEN a.attcollation <> y.typcollation
                       THEN format(' COLLATE %I.%I', ln.nspname, l.collname) ELSE '' END AS type
    FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type AS y ON y.oid = a.atttypid
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation LEFT JOIN pg_namespace AS ln ON ln.oid = l.collnamespace
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
), types(oid) AS (
    SELECT unnest(ARRAY(SELECT a.atttypid FROM t JOIN pg_attribute AS a ON a.attrelid = t.oid
                        WHERE a.attnum > 0 AND NOT a.attisdropped))
    UNION
    SELECT part.oid FROM types CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[y.typelem, y.typbasetype]) FROM pg_type AS y WHERE y.oid = types.oid
        UNION ALL SELECT a.atttypid FROM pg_type AS y JOIN pg_attribute AS a ON a.attrelid = y.typrelid
                  WHERE y.oid = types.oid AND y.typtype = 'c' AND a.attnum > 0
        UNION ALL SELECT r.rngsubtype FROM pg_range AS r WHERE r.rngtypid = types.oid OR r.rngmultitypid = types.oid
    ) AS part(oid)
    WHERE part.oid <> 0
), own AS (
    SELECT y.*, format('%I.%I', n.nspname, y.typname) AS name
    FROM unnest(ARRAY(SELECT oid FROM types)) AS m(oid)
    JOIN pg_type AS y ON y.oid = m.oid JOIN pg_namespace AS n ON n.oid = y.typnamespace
    WHERE n.nspname <> 'pg_catalog' AND NOT EXISTS (SELECT FROM pg_depend AS d
        WHERE d.classid = 'pg_type'::regclass AND d.objid = y.oid AND d.deptype = 'e')
), needing(class, oid) AS (
    SELECT 'pg_attrdef'::regclass::oid, oid FROM pg_attrdef WHERE adrelid IN (SELECT oid FROM t)
    UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE conrelid IN (SELECT oid FROM t)
    UNION ALL SELECT 'pg_constraint'::regclass, oid FROM pg_constraint WHERE contypid IN (SELECT oid FROM own)
    UNION ALL SELECT 'pg_class'::regclass, indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM t)
    UNION ALL SELECT 'pg_class'::regclass, oid FROM t
    UNION ALL SELECT 'pg_policy'::regclass, oid FROM pg_policy WHERE polrelid IN (SELECT oid FROM t)
    UNION ALL SELECT 'pg_trigger'::regclass, oid FROM pg_trigger WHERE tgrelid IN (SELECT oid FROM t) AND NOT tgisinternal
    UNION ALL SELECT 'pg_rewrite'::regclass, oid FROM pg_rewrite WHERE ev_class IN (SELECT oid FROM t)
    UNION ALL SELECT 'pg_type'::regclass, oid FROM own
), functions(oid) AS (
    SELECT d.refobjid FROM needing AS w JOIN pg_depend AS d ON d.classid = w.class AND d.objid = w.oid
    WHERE d.refclassid = 'pg_proc'::regclass
    UNION
    SELECT d.refobjid FROM functions AS f
    JOIN pg_depend AS d ON d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_proc'::regclass
)
SELECT 'table' AS kind, name,
       concat_ws(' ', CASE relpersistence WHEN 'u' THEN 'unlogged' END,
                 CASE relkind WHEN 'p' THEN 'partitioned ' || pg_get_partkeydef(oid) WHEN 'f' THEN 'foreign'
                              ELSE 'ordinary' END,
                 pg_get_expr(relpartbound, oid)) AS definition,
       '' AS make, '' AS drop
FROM t
UNION ALL
SELECT 'child', format('%I.%I', n.nspname, k.relname), 'inherits ' || t.name, '', ''
FROM t JOIN pg_inherits AS i ON i.inhparent = t.oid AND t.relkind <> 'p'
JOIN pg_class AS k ON k.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = k.relnamespace
UNION ALL
SELECT 'column', format('%s.%I', name, attname),
       concat_ws(' ', type, CASE WHEN identity <> '' THEN 'identity ' || identity END,
                 CASE WHEN generated <> '' THEN format('generated %s as %s', generated, value) END), '', ''
FROM c
UNION ALL
SELECT 'default', format('%s.%I', name, attname), value,
       format('ALTER TABLE %s ALTER %I SET DEFAULT %s', name, attname, value),
       format('ALTER TABLE %s ALTER %I DROP DEFAULT', name, attname)
FROM c WHERE generated = '' AND value IS NOT NULL
UNION ALL
SELECT 'not null', format('%s.%I', name, attname), 'not null',
       format('ALTER TABLE %s ALTER %I SET NOT NULL', name, attname),
       format('ALTER TABLE %s ALTER %I DROP NOT NULL', name, attname)
FROM c WHERE attnotnull
UNION ALL
-- NOT NULL is told by the columns: only PostgreSQL 18 lists it among the constraints too.
SELECT 'constraint', format('%s.%I', t.name, k.conname), pg_get_constraintdef(k.oid),
       format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.name, k.conname, pg_get_constraintdef(k.oid)),
       format('ALTER TABLE %s DROP CONSTRAINT %I', t.name, k.conname)
FROM t JOIN pg_constraint AS k ON k.conrelid = t.oid AND k.contype NOT IN ('n', 't')
WHERE k.coninhcount = 0
UNION ALL
SELECT 'index', format('%I.%I', n.nspname, i.relname), pg_get_indexdef(x.indexrelid),
       pg_get_indexdef(x.indexrelid), format('DROP INDEX %I.%I', n.nspname, i.relname)
FROM t JOIN pg_index AS x ON x.indrelid = t.oid AND (x.indisvalid OR t.relkind = 'p')
JOIN pg_class AS i ON i.oid = x.indexrelid AND NOT i.relispartition JOIN pg_namespace AS n ON n.oid = i.relnamespace
WHERE NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.oid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT DISTINCT 'sequence', s.name, format('%s increment %s%s', s.type, s.seqincrement, CASE WHEN s.seqcycle THEN ' cycle' END),
       format('ALTER SEQUENCE %s AS %s INCREMENT %s %sCYCLE', s.name, s.type, s.seqincrement,
              CASE WHEN s.seqcycle THEN '' ELSE 'NO ' END), ''
FROM (SELECT format('%I.%I', n.nspname, r.relname) AS name, format_type(q.seqtypid, NULL) AS type, q.*, r.oid
      FROM pg_sequence AS q JOIN pg_class AS r ON r.oid = q.seqrelid JOIN pg_namespace AS n ON n.oid = r.relnamespace) AS s
WHERE EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_class'::regclass AND d.objid = s.oid
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid IN (SELECT oid FROM t) AND d.deptype IN ('a', 'i'))
   OR EXISTS (SELECT FROM needing AS w JOIN pg_depend AS d ON d.classid = w.class AND d.objid = w.oid
              WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = s.oid AND w.class = 'pg_attrdef'::regclass)
UNION ALL
SELECT 'rule', format('%s.%I', t.name, r.rulename), r.ev_enabled::text || ' ' || pg_get_ruledef(r.oid),
       pg_get_ruledef(r.oid), format('DROP RULE %I ON %s', r.rulename, t.name)
FROM t JOIN pg_rewrite AS r ON r.ev_class = t.oid
UNION ALL
SELECT 'type', y.name, CASE y.typtype
    WHEN 'e' THEN (SELECT 'enum ' || string_agg(quote_literal(enumlabel), ', ' ORDER BY enumsortorder)
                   FROM pg_enum WHERE enumtypid = y.oid)
    WHEN 'c' THEN (SELECT 'composite ' || string_agg(format('%I %s %s', attname, format_type(atttypid, atttypmod),
                              CASE WHEN attcollation <> 0 THEN attcollation::regcollation::text END),
                              ', ' ORDER BY attnum)
                   FROM pg_attribute WHERE attrelid = y.typrelid AND attnum > 0 AND NOT attisdropped)
    WHEN 'r' THEN (SELECT format('range of %s %s', format_type(rngsubtype, NULL), nullif(rngcollation, 0)::regcollation)
                   FROM pg_range WHERE rngtypid = y.oid)
    WHEN 'd' THEN concat_ws(' ', 'domain', format_type(y.typbasetype, y.typtypmod),
                            CASE WHEN y.typcollation <> b.typcollation THEN y.typcollation::regcollation::text END,
                            CASE WHEN y.typnotnull THEN 'not null' END, 'default ' || pg_get_expr(y.typdefaultbin, 0))
    ELSE 'base' END, '', ''
FROM own AS y LEFT JOIN pg_type AS b ON b.oid = y.typbasetype WHERE y.typtype <> 'm' AND (y.typtype <> 'b' OR y.typelem = 0)
UNION ALL
SELECT 'constraint', format('%s.%I', y.name, k.conname), pg_get_constraintdef(k.oid),
       format('ALTER DOMAIN %s ADD CONSTRAINT %I %s', y.name, k.conname, pg_get_constraintdef(k.oid)),
       format('ALTER DOMAIN %s DROP CONSTRAINT %I', y.name, k.conname)
FROM own AS y JOIN pg_constraint AS k ON k.contypid = y.oid AND k.contype <> 'n'
UNION ALL
-- Its version is no part of it: rows travel as rows, each side keeps its own order.
SELECT DISTINCT 'collation', l.oid::regcollation::text,
       (to_jsonb(l) - '{oid,collname,collnamespace,collowner,collversion,colliculocale,colllocale}'::text[])::text
           || coalesce(to_jsonb(l) ->> 'colllocale', to_jsonb(l) ->> 'colliculocale', ''), '', ''
FROM pg_collation AS l WHERE l.collnamespace <> 'pg_catalog'::regnamespace AND l.oid IN (
    SELECT attcollation FROM pg_attribute WHERE attrelid IN (SELECT oid FROM t) UNION SELECT typcollation FROM own
    UNION SELECT unnest(indcollation) FROM pg_index WHERE indrelid IN (SELECT oid FROM t))
UNION ALL
SELECT 'function', f.oid::regprocedure::text,
       CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE pg_get_functiondef(f.oid) END,
       CASE WHEN p.prokind = 'a' THEN '' ELSE pg_get_functiondef(f.oid) END,
       format('DROP FUNCTION %s', f.oid::regprocedure)
FROM (SELECT DISTINCT oid FROM functions) AS f JOIN pg_proc AS p ON p.oid = f.oid
WHERE p.pronamespace::regnamespace::text NOT IN ('pg_catalog', 'tenantry') AND NOT EXISTS (SELECT FROM pg_depend AS d
    WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
ORDER BY 1, 2
