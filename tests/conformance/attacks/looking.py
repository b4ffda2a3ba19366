"""Attacks that look for what leaks: leaking code, statistics, exports, other sessions, oracles."""

from __future__ import annotations

from typing import Final

from tests.conformance.attacks.attack import TOLD, Attack, Gain, Kind

LOOKING: Final = Kind(
    "looking around: leaking functions, system columns, statistics views, XML exports, error texts",
    (
        Attack(
            "a leaking function in WHERE",
            (
                "CREATE TEMP TABLE seen (name text)",
                "CREATE FUNCTION pg_temp.leak(n text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
                "$$ BEGIN INSERT INTO seen VALUES (n); RETURN true; END $$",
                "SELECT tenant_id::text, name FROM students WHERE pg_temp.leak(name)",
                "SELECT name FROM seen",
            ),
        ),
        Attack(
            "a leaking operator",
            (
                "CREATE FUNCTION pg_temp.leak(a text, b text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
                "$$ BEGIN RAISE NOTICE '%', a; IF a LIKE 'secret%' THEN RAISE '%', a; END IF; RETURN true; END $$",
                "CREATE OPERATOR pg_temp.### (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.leak)",
                "SELECT name FROM students WHERE name OPERATOR(pg_temp.###) 'x'",
            ),
        ),
        Attack(
            "a function called leakproof",
            (
                "CREATE FUNCTION pg_temp.lp(n text) RETURNS boolean LANGUAGE plpgsql LEAKPROOF COST 0.0000001 AS "
                "$$ BEGIN IF n LIKE 'secret%' THEN RAISE '%', n; END IF; RETURN true; END $$",
                "SELECT name FROM students WHERE pg_temp.lp(name)",
            ),
        ),
        Attack(
            "errors of a cast", ("SELECT name::int FROM students", "SELECT 1 FROM students WHERE name::int > 0")
        ),
        Attack(
            "errors of a division", ("SELECT 1 / (CASE WHEN name LIKE 'secret%' THEN 0 ELSE 1 END) FROM students",)
        ),
        Attack(
            "the planner's statistics", ("SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats",)
        ),
        Attack("the statistics themselves", ("SELECT stavalues1::text, stavalues2::text FROM pg_statistic",)),
        Attack(
            "extended statistics",
            ("SELECT most_common_vals::text FROM pg_stats_ext", "SELECT stxdmcv::text FROM pg_statistic_ext_data"),
        ),
        Attack(
            "by position",
            (
                "SELECT name FROM students WHERE ctid = ANY (ARRAY(SELECT ('(0,' || i || ')')::tid FROM "
                "generate_series(1, 50) i))",
            ),
        ),
        Attack(
            "samples",
            (
                "SELECT name FROM students TABLESAMPLE SYSTEM (100)",
                "SELECT name FROM students TABLESAMPLE BERNOULLI (100)",
            ),
        ),
        Attack("TABLE and ONLY", ("TABLE students", "SELECT name FROM ONLY students")),
        Attack(
            "a join and a set operation",
            (
                "SELECT t.name FROM courses c RIGHT JOIN students t ON true",
                "SELECT name FROM students UNION ALL SELECT name FROM names",
            ),
        ),
        Attack(
            "a recursive query",
            (
                "WITH RECURSIVE r AS (SELECT name FROM students UNION SELECT s.name FROM students s, r) "
                "SELECT * FROM r",
            ),
        ),
        Attack(
            "window and grouping",
            (
                "SELECT first_value(name) OVER (ORDER BY name DESC) FROM students",
                "SELECT max(name) FROM students GROUP BY CUBE (id)",
            ),
        ),
        Attack(
            "XML exports",
            (
                "SELECT table_to_xml('students', true, false, '')::text",
                "SELECT schema_to_xml('public', true, false, '')::text",
                "SELECT query_to_xml('TABLE students', true, false, '')::text",
            ),
        ),
        Attack(
            "the text search's statistics",
            (
                "SELECT word FROM ts_stat($q$SELECT to_tsvector(name) FROM students$q$)",
                "SELECT 'secret of B' FROM ts_stat($q$SELECT to_tsvector(name) FROM students$q$) WHERE word "
                "= 'secret'",
            ),
        ),
        Attack("COPY TO", ("COPY students TO STDOUT", "COPY (SELECT name FROM students) TO STDOUT")),
        Attack(
            "the product's functions and views",
            ("SELECT all_names()", "SELECT head_count()", "SELECT name FROM names"),
        ),
        Attack(
            "after analyzing",
            ("ANALYZE students", "SELECT most_common_vals::text FROM pg_stats WHERE tablename = 'students'"),
        ),
        Attack(
            "a materialized view of one's own",
            ("CREATE MATERIALIZED VIEW public.mv AS SELECT name FROM students", "SELECT name FROM public.mv"),
        ),
        Attack(
            "a table made of it",
            ("CREATE TABLE public.copied AS SELECT * FROM students", "SELECT name FROM public.copied"),
        ),
        Attack(
            "a function with the tenant in its SET clause",
            (
                "CREATE FUNCTION pg_temp.g() RETURNS SETOF students LANGUAGE plpgsql "
                "SET app.current_tenant = '{B}' AS $$ BEGIN RETURN QUERY SELECT * FROM students; END $$",
                "SELECT tenant_id::text, name FROM pg_temp.g()",
            ),
        ),
        Attack(
            "a security definer function",
            (
                "CREATE FUNCTION public.d() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER AS $$SELECT "
                "name FROM students$$",
                "SELECT public.d()",
            ),
        ),
    ),
    why="row-level security, and PostgreSQL's care for what leaks",
)

LINKS: Final = Kind(
    "a session beside the pool's: `dblink` and `postgres_fdw`, where they are installed",
    (
        Attack(
            "dblink to the same database",
            (
                "SELECT * FROM dblink('dbname=' || current_database() || ' host={host} port={port}', 'SELECT "
                "name FROM students') AS t(n text)",
            ),
            given=("CREATE EXTENSION IF NOT EXISTS dblink",),
        ),
        Attack(
            "dblink as a superuser",
            (
                "SELECT * FROM dblink('dbname=' || current_database() || ' user=postgres host={host} "
                "port={port}', 'SELECT name FROM students') AS t(n text)",
            ),
            given=("CREATE EXTENSION IF NOT EXISTS dblink",),
        ),
        Attack(
            "dblink without a password",
            (
                "SELECT dblink_connect_u('x', 'user=postgres dbname=' || current_database())",
                "SELECT * FROM dblink('x', 'SELECT name FROM students') AS t(n text)",
            ),
            given=("CREATE EXTENSION IF NOT EXISTS dblink",),
        ),
        Attack(
            "a foreign table",
            (
                "CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw OPTIONS (dbname 'postgres')",
                "CREATE USER MAPPING FOR CURRENT_USER SERVER s OPTIONS (user 'postgres')",
                "CREATE FOREIGN TABLE public.f (name text) SERVER s OPTIONS (table_name 'students')",
                "SELECT name FROM public.f",
            ),
            given=("CREATE EXTENSION IF NOT EXISTS postgres_fdw",),
        ),
    ),
    servers=(15,),
    why="PostgreSQL asks a role that is no superuser for a password; `dblink_connect_u` and the foreign-data "
    "wrapper are "
    "not granted. A link that the product itself sets up is the product's",
)

TELLING: Final = Kind(
    "oracles: keys without the tenant column, the planner's estimates",
    (
        Attack(
            "a unique key without the tenant",
            (
                "DO $$ BEGIN INSERT INTO badges (id) VALUES (4711); EXCEPTION WHEN unique_violation THEN "
                f"RAISE '{TOLD}'; END $$",
            ),
            victim=("INSERT INTO badges (id) VALUES (4711) ON CONFLICT DO NOTHING",),
        ),
        Attack(
            "a foreign key without the tenant",
            (f"WITH a AS (INSERT INTO awards (badge) VALUES (4711) RETURNING badge) SELECT '{TOLD}' FROM a",),
            victim=("INSERT INTO badges (id) VALUES (4711) ON CONFLICT DO NOTHING",),
        ),
        Attack(
            "the estimates of EXPLAIN",
            (
                "DO $$ DECLARE one json; other json; BEGIN "
                "EXECUTE $q$EXPLAIN (FORMAT JSON) SELECT FROM students WHERE email = 'usual@b.example'$q$ "
                "INTO one; "
                "EXECUTE $q$EXPLAIN (FORMAT JSON) SELECT FROM students WHERE email = 'nobody@b.example'$q$ "
                "INTO other; "
                f"IF one->0->'Plan'->>'Plan Rows' <> other->0->'Plan'->>'Plan Rows' THEN RAISE '{TOLD}'; END "
                "IF; END $$",
            ),
            given=(
                "ALTER TABLE students DROP CONSTRAINT IF EXISTS students_tenant_id_email_key",
                "INSERT INTO students (tenant_id, id, name, email) SELECT '{B}', i, 'secret of B', "
                "'usual@b.example' "
                "FROM generate_series(1000, 2999) AS i",
                "ANALYZE students",
            ),
            undo=("DELETE FROM students WHERE id >= 1000", "ANALYZE students"),
        ),
    ),
    plain=frozenset({Gain.TELLS}),
    hardened=frozenset({Gain.TELLS}),
    why="`tenantry rls audit` finds the keys (TN305, TN306); estimates are PostgreSQL's",
)

KINDS: Final = (LOOKING, LINKS, TELLING)
