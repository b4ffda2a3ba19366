-- One row, of no columns, if a statement that is read now might mean something else in a later scope: its surroundings
-- are not $1, those in which the session began, or the session has temporary tables, views or types, which come first.
SELECT FROM (:surroundings) AS s
WHERE s.surroundings OPERATOR(pg_catalog.<>) $1
   OR (pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
       AND (EXISTS (SELECT FROM pg_catalog.pg_class AS c
                    WHERE c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())
            OR EXISTS (SELECT FROM pg_catalog.pg_type AS t
                       WHERE t.typnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema())))
