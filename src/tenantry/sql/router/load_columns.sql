-- The columns that a bulk load of table $1 fills unless it names them, in the table's order: all but generated ones, as
-- COPY has it. Types are written as this session resolves them.
SELECT a.attname::text AS name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       a.attgenerated <> '' AS generated
FROM pg_catalog.pg_attribute AS a
WHERE a.attrelid = $1::text::pg_catalog.regclass
  AND a.attnum > 0
  AND NOT a.attisdropped
ORDER BY a.attnum
