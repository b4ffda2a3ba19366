"""Attacks on rows that leave the setting alone: by the role, by names, by objects, by statements of every form."""

from __future__ import annotations

from typing import Final

from tests.conformance.attacks.attack import READ, Attack, Kind

ROLES: Final = Kind(
    "another role: `SET ROLE`, `SET SESSION AUTHORIZATION`, grants to oneself",
    (
        Attack("RESET ROLE", ("RESET ROLE", READ)),
        Attack("RESET SESSION AUTHORIZATION", ("RESET SESSION AUTHORIZATION", READ)),
        Attack("SET ROLE to the operator", ("SET ROLE product_operator", READ)),
        Attack("SET ROLE to a superuser", ("SET ROLE postgres", READ)),
        Attack("SET ROLE to a group", ("SET ROLE product_guest", READ)),
        Attack("SET SESSION AUTHORIZATION", ("SET SESSION AUTHORIZATION postgres", READ)),
        Attack("set_config of the role", ("SELECT set_config('role', 'product_operator', false)", READ)),
        Attack(
            "grant oneself the operator",
            ("GRANT product_operator TO product_app", "SET ROLE product_operator", READ),
        ),
        Attack("give oneself BYPASSRLS", ("ALTER ROLE CURRENT_USER BYPASSRLS", READ)),
        Attack("make a superuser", ("CREATE ROLE evil SUPERUSER", "SET ROLE evil", READ)),
        Attack(
            "a function that becomes another",
            (
                "CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql SET role = 'product_operator' AS "
                "$$ SELECT name FROM students $$",
                "SELECT pg_temp.f()",
            ),
        ),
        Attack("read a file", ("SELECT pg_read_file('postgresql.conf'), 'secret of B'",)),
        Attack("list a directory", ("SELECT 'secret of B' FROM pg_ls_dir('.') LIMIT 1",)),
        Attack("run a program", ("COPY (SELECT 1) TO PROGRAM 'true'", "SELECT 'ran'")),
        Attack(
            "decode the log of changes",
            ("SELECT 'secret of B' FROM pg_create_logical_replication_slot('x', 'pgoutput')",),
        ),
    ),
    why="the router refuses to serve through a role that has such ways (G4)",
)

NAMES: Final = Kind(
    "shadowing functions, operators, casts, types and tables that policies and statements name, in the own scope",
    (
        Attack(
            "shadow current_setting",
            (
                "CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT "
                "'{B}'$$",
                "SET search_path = public, pg_catalog",
                READ,
            ),
        ),
        Attack(
            "shadow the equality of ids",
            (
                "CREATE FUNCTION public.always({type}, {type}) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
                "CREATE OPERATOR public.= (LEFTARG = {type}, RIGHTARG = {type}, FUNCTION = public.always)",
                "SET search_path = public, pg_catalog",
                READ,
            ),
        ),
        Attack(
            "shadow the equality of texts",
            (
                "CREATE FUNCTION public.always(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
                "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.always)",
                "SET search_path = public, pg_catalog",
                READ,
            ),
        ),
        Attack(
            "functions in pg_temp",
            (
                "CREATE FUNCTION pg_temp.current_setting(text, boolean) RETURNS text LANGUAGE sql AS "
                "$$SELECT '{B}'$$",
                "CREATE FUNCTION pg_temp.lower(text) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$",
                "SET search_path = pg_temp, pg_catalog, public",
                READ,
            ),
        ),
        Attack(
            "an operator in pg_temp",
            (
                "CREATE FUNCTION pg_temp.always({type}, {type}) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
                "CREATE OPERATOR pg_temp.= (LEFTARG = {type}, RIGHTARG = {type}, FUNCTION = pg_temp.always)",
                "SET search_path = pg_temp, pg_catalog, public",
                READ,
            ),
        ),
        Attack(
            "types and domains in pg_temp",
            (
                "CREATE DOMAIN pg_temp.uuid AS pg_catalog.text",
                "CREATE DOMAIN pg_temp.text AS pg_catalog.int4",
                "CREATE DOMAIN pg_temp.int8 AS pg_catalog.int4 CHECK (VALUE < 1)",
                READ,
            ),
        ),
        Attack(
            "a cast of a type in pg_temp",
            (
                "CREATE TYPE pg_temp.evil AS (t text)",
                "CREATE FUNCTION pg_temp.c(pg_temp.evil) RETURNS {type} LANGUAGE sql AS $$SELECT '{B}'::{type}$$",
                "CREATE CAST (pg_temp.evil AS {type}) WITH FUNCTION pg_temp.c(pg_temp.evil) AS IMPLICIT",
                "SELECT name FROM students WHERE tenant_id = ROW('x')::pg_temp.evil",
            ),
        ),
        Attack(
            "an aggregate in pg_temp",
            (
                "CREATE AGGREGATE pg_temp.count(*) (SFUNC = int8inc, STYPE = int8, INITCOND = '40')",
                "SELECT count(*) FROM students",
            ),
        ),
        Attack("a temporary table of the same name", ("CREATE TEMP TABLE students (LIKE public.students)", READ)),
        Attack("a temporary view of the same name", ("CREATE TEMP VIEW students AS SELECT 1 AS id", READ)),
        Attack("a temporary sequence of the same name", ("CREATE TEMP SEQUENCE students_id_seq START 7",)),
    ),
    lingers=True,
    why="policies hold resolved names; what is temporary goes with the scope, and code in `pg_temp` is never "
    "found by its "
    "bare name",
)

OBJECTS: Final = Kind(
    "changing the tables: policies, triggers, rules, owners, `TRUNCATE`",
    (
        Attack("switch row security off", ("SET row_security = off", READ)),
        Attack("disable it on the table", ("ALTER TABLE students DISABLE ROW LEVEL SECURITY", READ)),
        Attack("no longer force it", ("ALTER TABLE students NO FORCE ROW LEVEL SECURITY", READ)),
        Attack("drop the policy", ("DROP POLICY tenantry_tenant ON students", READ)),
        Attack("alter the policy", ("ALTER POLICY tenantry_tenant ON students USING (true)", READ)),
        Attack("add a policy", ("CREATE POLICY open ON students USING (true)", READ)),
        Attack(
            "add a trigger", ("CREATE TRIGGER t BEFORE UPDATE ON students EXECUTE FUNCTION tenantry.bind()", READ)
        ),
        Attack("add a rule", ("CREATE RULE r AS ON SELECT TO students DO INSTEAD SELECT * FROM courses", READ)),
        Attack("own the table", ("ALTER TABLE students OWNER TO product_app", READ)),
        Attack("inherit from it", ("CREATE TABLE public.heir () INHERITS (students)", READ)),
        Attack("an index with code", ("CREATE INDEX ON students ((lower(name)))", READ)),
        Attack("statistics over it", ("CREATE STATISTICS public.s ON name, email FROM students", READ)),
        Attack("rename it", ("ALTER TABLE students RENAME TO old_students",)),
        Attack("truncate", ("TRUNCATE students CASCADE",)),
        Attack("replicate it", ("CREATE PUBLICATION p FOR TABLE students",)),
        Attack("comment on it", ("COMMENT ON TABLE students IS 'x'",)),
        Attack(
            "no replica triggers",
            ("SET session_replication_role = replica", "DELETE FROM students WHERE id < 100", READ),
        ),
    ),
    why="the role owns no table and has no such right",
)

ACROSS: Final = Kind(
    "writing across: other tenants' ids in `INSERT`, `UPDATE`, `MERGE`, `COPY`, upserts, foreign keys",
    (
        Attack("insert for the other", ("INSERT INTO students (tenant_id, name) VALUES ('{B}', 'planted')",)),
        Attack(
            "insert from a query", ("INSERT INTO students (tenant_id, name) SELECT '{B}', name FROM students",)
        ),
        Attack("give a row away", ("UPDATE students SET tenant_id = '{B}'",)),
        Attack("delete by key", ("DELETE FROM students WHERE tenant_id = '{B}'",)),
        Attack(
            "delete using", ("DELETE FROM students AS s USING students AS t WHERE s.tenant_id <> t.tenant_id",)
        ),
        Attack("update from", ("UPDATE students AS s SET name = t.name FROM students AS t WHERE s.id = t.id",)),
        Attack(
            "upsert into the other's key",
            (
                "INSERT INTO students (tenant_id, id, name) VALUES ('{B}', 1, 'x') "
                "ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'stolen' RETURNING tenant_id::text, name",
            ),
        ),
        Attack(
            "upsert that does nothing",
            (
                "INSERT INTO students (tenant_id, id, name) VALUES ('{B}', 1, 'x') ON CONFLICT DO NOTHING "
                "RETURNING name",
            ),
        ),
        Attack(
            "merge into the other's rows",
            (
                "MERGE INTO students AS s USING (SELECT '{B}'::{type} AS t) AS x ON s.tenant_id = x.t "
                "WHEN MATCHED THEN UPDATE SET name = 'stolen'",
            ),
        ),
        Attack(
            "merge that inserts",
            (
                "MERGE INTO students AS s USING (SELECT '{B}'::{type} AS t) AS x ON s.tenant_id = x.t "
                "WHEN NOT MATCHED THEN INSERT (tenant_id, id, name) VALUES (x.t, 77, 'planted')",
            ),
        ),
        Attack("COPY FROM", ("COPY students (tenant_id, name) FROM STDIN",)),
        Attack(
            "reference the other's row",
            ("INSERT INTO enrolments (tenant_id, student, course) VALUES ('{B}', 1, 1)",),
        ),
        Attack(
            "through the view",
            ("INSERT INTO names (id, name) VALUES (88, 'x')", "UPDATE names SET name = 'x'", "DELETE FROM names"),
        ),
        Attack("lock the other's rows", ("SELECT name FROM students WHERE tenant_id = '{B}' FOR UPDATE",)),
        Attack(
            "where current of",
            (
                "DECLARE c CURSOR FOR SELECT * FROM students FOR UPDATE",
                "MOVE 4 FROM c",
                "DELETE FROM students WHERE CURRENT OF c",
            ),
        ),
    ),
    why="the policies hold for what is written as for what is read",
)

KINDS: Final = (ROLES, NAMES, OBJECTS, ACROSS)
