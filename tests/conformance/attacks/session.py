"""Attacks by what a scope leaves on its session, at once or at COMMIT, for the next tenant's scope."""

from __future__ import annotations

from typing import Final

from tests.conformance.attacks.attack import Attack, Kind

#: Replaces each statement that the driver keeps on the session by one that copies all rows to a large object.
_REPLACE: Final = (
    "FOR s IN SELECT name FROM pg_prepared_statements WHERE NOT from_sql AND statement LIKE 'SELECT name "
    "FROM students%' LOOP "
    "EXECUTE 'DEALLOCATE ' || quote_ident(s.name); "
    "EXECUTE 'pre' || 'pare ' || quote_ident(s.name) || '(bigint) AS SELECT name FROM students WHERE id = $1 AND "
    "lo_from_bytea(0, convert_to((SELECT string_agg(name, '','') FROM students), ''UTF8'')) > 0'; END LOOP; "
)
_LOOT: Final = ("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata",)


def _at_commit(name: str, body: str, *, declare: str = "", loot: tuple[str, ...] = ()) -> Attack:
    """Run `body` at COMMIT, as a cursor WITH HOLD is filled."""
    return Attack(
        f"{name}, at COMMIT",
        (
            f"CREATE FUNCTION pg_temp.late() RETURNS text LANGUAGE plpgsql AS $f$ {declare} BEGIN {body} "
            "RETURN 'x'; END $f$",
            "DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.late()",
        ),
        loot=loot,
    )


def _deferred(name: str, body: str, *, loot: tuple[str, ...] = ()) -> Attack:
    """Run `body` at COMMIT, by a deferred constraint trigger."""
    return Attack(
        f"{name}, by a deferred trigger",
        (
            "CREATE TEMP TABLE bait (id int)",
            f"CREATE FUNCTION pg_temp.late() RETURNS trigger LANGUAGE plpgsql AS $f$ BEGIN {body} RETURN "
            "NULL; END $f$",
            "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
            "EXECUTE FUNCTION pg_temp.late()",
            "INSERT INTO bait VALUES (1)",
        ),
        loot=loot,
    )


STATEMENTS: Final = Kind(
    "replacing, deallocating or squatting the driver's prepared statements by dynamic SQL, at once or at COMMIT",
    (
        Attack("replace them", (f"DO $$ DECLARE s record; BEGIN {_REPLACE} END $$",), _LOOT),
        _at_commit("replace them", _REPLACE, declare="DECLARE s record;", loot=_LOOT),
        Attack("DEALLOCATE ALL", ("DEALLOCATE ALL",)),
        Attack("deallocate by dynamic SQL", ("DO $$ BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END $$",)),
        _at_commit("deallocate them", "EXECUTE 'DEALLOCATE ' || 'ALL';"),
        Attack("DISCARD ALL after the transaction", ("COMMIT", "DISCARD ALL")),
        Attack("DISCARD PLANS", ("DISCARD PLANS",)),
        Attack(
            "take the names that the driver would use next",
            (
                "DO $$ BEGIN FOR i IN 1..300 LOOP BEGIN EXECUTE 'pre' || 'pare __asyncpg_stmt_' || to_hex(i) "
                "|| '__ AS SELECT 1'; "
                "EXCEPTION WHEN OTHERS THEN END; END LOOP; END $$",
            ),
        ),
        Attack(
            "leave a statement of one's own", ("DO $$ BEGIN EXECUTE 'PRE' || 'PARE loot AS SELECT 1'; END $$",)
        ),
        _at_commit("leave a statement of one's own", "EXECUTE 'PRE' || 'PARE loot AS SELECT 1';"),
        Attack(
            "deallocate one and leave one, so that the number is right",
            (
                "DO $$ DECLARE n text; BEGIN SELECT name INTO n FROM pg_prepared_statements WHERE NOT "
                "from_sql LIMIT 1; "
                "IF n IS NOT NULL THEN EXECUTE 'DEALLOCATE ' || quote_ident(n); END IF; "
                "EXECUTE 'PRE' || 'PARE x AS SELECT 1'; END $$",
            ),
        ),
    ),
    lingers=True,
    why="the next opening finds it (TN005), and the connection is given up",
)

SETTINGS: Final = Kind(
    "leaving settings, roles, locks, cursors, `LISTEN`, temporary objects on the session",
    (
        Attack("settings", ("SET work_mem = '77MB'", "SET app.secret = 'x'", "SET statement_timeout = '1ms'")),
        Attack(
            "settings by set_config",
            ("SELECT set_config('lock_timeout', '7s', false), set_config('search_path', 'pg_catalog', false)",),
        ),
        Attack("how rows are read", ("SET row_security = off", "SET default_transaction_read_only = on")),
        Attack(
            "how transactions begin",
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",),
        ),
        Attack(
            "how texts and dates are read",
            (
                "SET client_encoding = 'LATIN1'",
                "SET DateStyle = 'SQL, DMY'",
                "SET TimeZone = 'Asia/Tokyo'",
                "SET standard_conforming_strings = off",
                "SET bytea_output = 'escape'",
            ),
        ),
        Attack(
            "how plans are made",
            ("SET plan_cache_mode = force_generic_plan", "SET enable_indexscan = off", "SET enable_seqscan = off"),
        ),
        Attack("the search_path", ("SET search_path = pg_temp, pg_catalog",)),
        Attack("a role", ("SET ROLE product_guest",)),
        Attack("a session authorization", ("SET SESSION AUTHORIZATION product_app",)),
        Attack(
            "a tenant", ("SET app.current_tenant = '{A}'", "SELECT set_config('tenantry.bound', '{A}', false)")
        ),
        Attack("a mark", ("SELECT set_config('tenantry.proof', current_setting('tenantry.proof', true), false)",)),
        Attack("an application_name", ("SET application_name = 'tenantry:{B}'",)),
        Attack("session locks", ("SELECT pg_advisory_lock(4242), pg_advisory_lock_shared(42, 44)",)),
        Attack("a LISTEN", ("LISTEN gossip", "NOTIFY gossip, 'x'")),
        Attack(
            "cursors WITH HOLD",
            (
                "DECLARE loot CURSOR WITH HOLD FOR SELECT name FROM students",
                "DECLARE other SCROLL CURSOR WITH HOLD FOR SELECT 1",
            ),
        ),
        Attack("portals", ("DECLARE loot CURSOR FOR SELECT name FROM students", "FETCH 1 FROM loot")),
        Attack(
            "temporary tables",
            (
                "CREATE TEMP TABLE loot AS SELECT * FROM students",
                "CREATE TEMP TABLE keep (id int) ON COMMIT PRESERVE ROWS",
            ),
        ),
        Attack(
            "a temporary table of a tenant table's name",
            ("CREATE TEMP TABLE students (id text, name text, extra int)",),
        ),
        Attack(
            "a temporary view of a tenant table's name",
            ("CREATE TEMP VIEW students AS SELECT 1 AS id, 'x' AS name",),
        ),
        Attack(
            "temporary tables of all their names",
            tuple(f"CREATE TEMP TABLE {t} (x int)" for t in ("students", "courses", "enrolments")),
        ),
        Attack(
            "temporary functions",
            ("CREATE FUNCTION pg_temp.all_names() RETURNS SETOF text LANGUAGE sql AS $$SELECT 'x'$$",),
        ),
        Attack("sequences", ("INSERT INTO students (name) VALUES ('x')", "SELECT lastval()")),
        Attack("prefetched plans of functions", ("SELECT all_names()", "SELECT head_count()")),
        Attack("deferred constraints", ("SET CONSTRAINTS ALL DEFERRED",)),
        _at_commit(
            "settings",
            "PERFORM set_config('search_path', 'pg_catalog', false), set_config('work_mem', '77MB', false);",
        ),
        _at_commit("a timeout for what follows", "PERFORM set_config('statement_timeout', '1ms', false);"),
        _at_commit("a read-only session", "PERFORM set_config('default_transaction_read_only', 'on', false);"),
        _at_commit("session locks", "PERFORM pg_advisory_lock(4242);"),
        _at_commit("a role", "EXECUTE 'SET ROLE product_guest';"),
        _deferred("a role", "EXECUTE 'SET ROLE product_guest';"),
        _deferred("temporary tables", "EXECUTE 'CREATE TEMP TABLE students (x int)';"),
        _deferred("a LISTEN", "EXECUTE 'LISTEN gossip';"),
        _deferred("a cursor", "EXECUTE 'DECLARE z CURSOR WITH HOLD FOR SELECT 1';"),
        _deferred("an error", "RAISE 'x' USING ERRCODE = 'TN002';"),
        _deferred("another error", "RAISE 'x' USING ERRCODE = 'TN005';"),
        _deferred(
            "a refusal", "RAISE 'x' USING ERRCODE = 'TN001', DETAIL = '{\"home\": \"elsewhere\", \"epoch\": 99}';"
        ),
        Attack(
            "an error raised as a refusal",
            ("DO $$ BEGIN RAISE 'x' USING ERRCODE = 'TN001', DETAIL = '{\"home\": \"x\", \"epoch\": 9}'; END $$",),
        ),
        _at_commit(
            "a function that is named as the product's",
            "EXECUTE 'CREATE FUNCTION pg_temp.head_count() RETURNS bigint LANGUAGE sql AS ''SELECT 0''';",
        ),
    ),
    lingers=True,
    why="each opening follows a complete reset",
)

ENDING: Final = Kind(
    "ending the transaction inside the scope, and going on",
    (
        Attack("COMMIT", ("COMMIT", "SELECT name FROM students")),
        Attack("ROLLBACK", ("ROLLBACK", "SELECT name FROM students")),
        Attack("COMMIT AND CHAIN", ("COMMIT AND CHAIN", "SELECT name FROM students")),
        Attack("COMMIT; BEGIN", ("COMMIT; BEGIN", "SELECT name FROM students")),
        Attack(
            "with the tag put back",
            ("COMMIT; BEGIN; SET LOCAL application_name = 'tenantry:{A}'", "SELECT name FROM students"),
        ),
        Attack(
            "with another tenant's tag",
            ("COMMIT; BEGIN; SET LOCAL application_name = 'tenantry:{B}'", "SELECT name FROM students"),
        ),
        Attack(
            "PREPARE TRANSACTION",
            ("INSERT INTO students (id, name) VALUES (70, 'x')", "PREPARE TRANSACTION 'attack'"),
        ),
        Attack("a procedure that commits", ("DO $$ BEGIN COMMIT; END $$", "SELECT name FROM students")),
        Attack(
            "COMMIT, then a table of the same name with a trigger",
            (
                "COMMIT",
                "CREATE TEMP TABLE students (tenant_id {type}, id bigint, name text, email text)",
                "CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM "
                "lo_from_bytea(0, "
                "convert_to((SELECT string_agg(name, ',') FROM public.students), 'UTF8')); RETURN NEW; END $$",
                "CREATE TRIGGER t BEFORE INSERT ON pg_temp.students FOR EACH ROW EXECUTE FUNCTION pg_temp.t()",
                "{MEANWHILE}",
            ),
            _LOOT,
        ),
        Attack(
            "COMMIT, then settings",
            (
                "COMMIT",
                "SET work_mem = '77MB'",
                "SET search_path = pg_catalog",
                "SELECT pg_advisory_lock(4711)",
                "{MEANWHILE}",
            ),
        ),
        Attack("COMMIT, then a role", ("COMMIT", "SET ROLE product_guest", "{MEANWHILE}")),
        Attack(
            "COMMIT, then statements",
            ("COMMIT", "DO $$ BEGIN EXECUTE 'PRE' || 'PARE loot AS SELECT 1'; END $$", "{MEANWHILE}"),
        ),
        Attack(
            "an open transaction for the next one",
            ("COMMIT", "BEGIN", "CREATE TEMP TABLE students (x int)", "{MEANWHILE}"),
        ),
        Attack("a failed transaction for the next one", ("COMMIT", "BEGIN", "SELECT 1/0", "{MEANWHILE}")),
        Attack(
            "a temporary table made while the next one works",
            ("COMMIT", "{MEANWHILE}", "CREATE TEMP TABLE students (x int)", "{MEANWHILE}"),
        ),
        Attack("the own session ended", ("SELECT pg_terminate_backend(pg_backend_pid())",)),
    ),
    lingers=True,
    why="the scope is told (G5); behind a pooler every opening begins with a reset",
)

DEFAULTS: Final = Kind(
    "settings for the role's later sessions: `ALTER ROLE … SET`, `ALTER DATABASE … SET`",
    (
        Attack("another tenant", ("ALTER ROLE CURRENT_USER SET app.current_tenant = '{B}'", "{NEW SESSION}")),
        Attack("a mark", ("ALTER ROLE CURRENT_USER SET tenantry.bound = '{B}'", "{NEW SESSION}")),
        Attack(
            "of the database",
            (
                "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET app.current_tenant = %L', "
                "current_database(), '{B}'); END $$",
                "{NEW SESSION}",
            ),
        ),
        Attack("another role", ("ALTER ROLE CURRENT_USER SET role = 'product_operator'", "{NEW SESSION}")),
    ),
    why="PostgreSQL lets nobody preset a setting that it doesn't know; each scope binds its own tenant and "
    "resets the role",
)

KINDS: Final = (STATEMENTS, SETTINGS, ENDING, DEFAULTS)
