"""The product that is attacked: its statements, its functions, and what a scope of it sees of its session."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.attacks.attack import SECRET_OF_B

BIG: Final = 16777217  # the next number of `real` is 16777216
IDS: Final = (1, 2, BIG - 1, BIG)

#: What the product has beside `tests/support/product.py`: PL/pgSQL functions as products write them.
SETUP: Final = """
ALTER TABLE students ALTER COLUMN email TYPE varchar(200);
CREATE FUNCTION nearest(wanted bigint) RETURNS text LANGUAGE plpgsql AS
    'DECLARE exact students.id%TYPE := wanted; found text;
     BEGIN SELECT name INTO found FROM students WHERE id = exact; RETURN found; END';
CREATE FUNCTION second_row() RETURNS text LANGUAGE plpgsql AS
    'DECLARE r record; BEGIN SELECT * INTO r FROM students ORDER BY id OFFSET 1 LIMIT 1;
     RETURN r.id || r.name; END';
CREATE FUNCTION opened() RETURNS text LANGUAGE plpgsql AS
    'BEGIN RETURN extract(epoch FROM timestamptz ''2024-01-02 03:04'')::text; END';
CREATE FUNCTION started() RETURNS text LANGUAGE plpgsql AS
    'BEGIN RETURN to_char(date ''01/02/2024'', ''YYYY-MM-DD''); END';
"""

#: The product's own statements, with their arguments. `email` is a varchar, as ORMs make it.
WORK: Final[tuple[tuple[str, tuple[Any, ...]], ...]] = (
    ("SELECT name FROM students WHERE id = $1", (BIG,)),
    ("SELECT id, name, email FROM students WHERE name = $1 ORDER BY id", (f"{SECRET_OF_B} 2",)),
    ("SELECT id FROM students WHERE lower(email) = 'b1@b.example' AND id < $1", (BIG,)),
    ("SELECT count(*) FROM students WHERE email LIKE 'b%'", ()),
    ("SELECT timestamptz '2024-01-02 03:04', date '01/02/2024', 'a\\tb', name FROM students WHERE id = $1", (2,)),
    ("SELECT count(*) FROM students WHERE email = NULL AND id < $1", (BIG,)),
    ("UPDATE students SET email = $2 WHERE id = $1", (2, "b2@b.example")),
)
#: And its functions.
CALLS: Final[tuple[tuple[str, tuple[Any, ...]], ...]] = (
    ("SELECT head_count(), (SELECT string_agg(n, ',' ORDER BY n) FROM all_names() AS n)", ()),
    ("SELECT nearest($1)", (BIG,)),
    ("SELECT second_row()", ()),
    ("SELECT opened(), started()", ()),
)
INSERT: Final = "INSERT INTO students (id, name) VALUES ($1, $2)"
#: What of its session a scope sees.
SESSION: Final = """
SELECT current_user::text, session_user::text, nullif(current_setting('app.secret', true), ''),
    current_setting('transaction_isolation'),
    current_setting('transaction_read_only'), tenantry.current_tenant()::text,
    nullif(current_setting('tenantry.bound', true), ''),
    (SELECT string_agg(s.name || ' ' || s.setting, ',' ORDER BY s.name) FROM pg_settings AS s
     WHERE s.source = 'session'),
    (SELECT string_agg(c.name, ',') FROM pg_cursors AS c WHERE c.name <> ''),
    (SELECT string_agg(l, ',') FROM pg_listening_channels() AS l),
    (SELECT count(*) FROM pg_prepared_statements AS p WHERE p.from_sql),
    (SELECT count(*) FROM pg_class AS c WHERE c.relnamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_proc AS p WHERE p.pronamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_locks AS l WHERE l.pid = pg_backend_pid() AND l.locktype = 'advisory'
     AND l.classid <> tenantry.lock_space()::oid)
"""

#: Takes back what attacks leave in the database.
TIDY: Final = """
DO $$ DECLARE one record; BEGIN
    FOR one IN SELECT identity, CASE WHEN type IN (
                   'view', 'table', 'function', 'operator', 'schema', 'procedure', 'aggregate', 'server',
                   'sequence', 'foreign table', 'materialized view') THEN type END AS kind
               FROM pg_shdepend AS d, pg_identify_object(d.classid, d.objid, 0) AS o
               WHERE d.refobjid = 'product_app'::regrole AND d.deptype = 'o'
                 AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) LOOP
        IF one.kind IS NOT NULL AND one.identity IS NOT NULL THEN  -- not gone with another one
            EXECUTE format('DROP %s IF EXISTS %s CASCADE', one.kind, one.identity);
        END IF;
    END LOOP;
    PERFORM lo_unlink(oid) FROM pg_largeobject_metadata;
    FOR one IN SELECT setdatabase FROM pg_db_role_setting WHERE setrole = 'product_app'::regrole LOOP
        ALTER ROLE product_app RESET ALL;
    END LOOP;
END $$
"""
