"""Attacks by what PostgreSQL keeps: statements and functions as they were first read, objects, texts."""

from __future__ import annotations

from typing import Final

from tests.conformance.attacks.attack import SECRET_OF_B, Attack, Gain, Kind

_LOOT: Final = ("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata",)

READINGS: Final = Kind(
    "having the product's statements prepared beside a table, a `search_path`, a time zone or a date style "
    "of one's own",
    (
        Attack(
            "a table with another type of key",
            ("CREATE TEMP TABLE students (id real, name text, email text)", "{WORK}"),
        ),
        Attack(
            "a table with shorter numbers",
            ("CREATE TEMP TABLE students (id int2, name text, email text)", "{WORK}"),
        ),
        Attack("a table with texts", ("CREATE TEMP TABLE students (id text, name text, email int)", "{WORK}")),
        Attack(
            "a view",
            (
                "CREATE TEMP VIEW students AS SELECT 1.5::real AS id, 'x'::text AS name, 'y'::text AS email",
                "{WORK}",
            ),
        ),
        Attack(
            "a search_path",
            (
                "CREATE SCHEMA misread",
                "CREATE TABLE misread.students (id real, name text, email text)",
                "SET search_path = misread, public",
                "{WORK}",
            ),
            given=(
                "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO product_app', "
                "current_database()); END $$",
            ),
            undo=(
                "DROP SCHEMA IF EXISTS misread CASCADE",
                "DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM product_app', "
                "current_database()); END $$",
            ),
        ),
        Attack("a time zone", ("SET LOCAL TimeZone = 'Asia/Tokyo'", "{WORK}")),
        Attack(
            "an order of dates",
            ("DO $$ BEGIN PERFORM set_config('DateStyle', 'ISO, DMY', true); END $$", "{WORK}"),
        ),
        Attack("how quotes are read", ("SET LOCAL standard_conforming_strings = off", "{WORK}")),
        Attack("how NULL compares", ("SET LOCAL transform_null_equals = on", "{WORK}")),
    ),
    lingers=True,
    fresh=True,
    why="in front of a statement that is new to the connection the router asks for the session's "
    "surroundings; where they are "
    "not the usual ones, it forgets its statements at the scope's end",
)

COMPILED: Final = Kind(
    "having the product's PL/pgSQL functions compiled beside a temporary table of one's own",
    (
        Attack(
            "a variable of a column's type",
            (
                "CREATE TEMP TABLE students (id real, name text)",
                "SELECT nearest(1)",
                "DROP TABLE pg_temp.students",
            ),
        ),
        Attack(
            "a variable of a column's type, too small",
            (
                "CREATE TEMP TABLE students (id int2, name text)",
                "SELECT nearest(1)",
                "DROP TABLE pg_temp.students",
            ),
        ),
    ),
    plain=frozenset({Gain.DISTURBS}),
    fresh=True,
    why="hardened: a session that has had temporary objects is given up (TN005). Plain: write `SET "
    "search_path` into functions, "
    "or revoke TEMPORARY on the database",
)

CONSTANTS: Final = Kind(
    "having the product's PL/pgSQL functions compiled under a `search_path` or a time zone of one's own",
    (
        Attack(
            "a search_path",
            (
                "CREATE SCHEMA misread",
                "CREATE TABLE misread.students (id real, name text, email text)",
                "SET search_path = misread, public",
                "SELECT nearest(1)",
            ),
            given=(
                "DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO product_app', "
                "current_database()); END $$",
            ),
            undo=(
                "DROP SCHEMA IF EXISTS misread CASCADE",
                "DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM product_app', "
                "current_database()); END $$",
            ),
        ),
        Attack("a time zone", ("SET LOCAL TimeZone = 'Asia/Tokyo'", "SELECT opened()")),
        Attack("an order of dates", ("SET LOCAL DateStyle = 'ISO, DMY'", "SELECT started()")),
    ),
    plain=frozenset({Gain.DISTURBS}),
    hardened=frozenset({Gain.DISTURBS}),
    fresh=True,
    why="nothing: PL/pgSQL keeps, for the session, the types and constants that it found. Write such "
    "literals in full, "
    "with the zone and in "
    "ISO order, or the settings into the function's SET clause",
)

SHADOWED: Final = Kind(
    "leaving a function or operator for others, where the role may CREATE in a schema of the `search_path`",
    (
        Attack(
            "a function that fits better",
            (
                "CREATE FUNCTION public.lower(varchar) RETURNS text LANGUAGE plpgsql AS $$ BEGIN PERFORM "
                "lo_from_bytea(0, "
                "convert_to((SELECT string_agg(name, ',') FROM public.students), 'UTF8')); "
                "RETURN pg_catalog.lower($1::text); END $$",
            ),
            _LOOT,
        ),
        Attack(
            "an operator that fits better",
            (
                "CREATE FUNCTION public.like_it(varchar, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM lo_from_bytea(0, convert_to((SELECT string_agg(name, ',') FROM public.students), "
                "'UTF8')); "
                "RETURN $1::text OPERATOR(pg_catalog.~~) $2; END $$",
                "CREATE OPERATOR public.~~ (LEFTARG = varchar, RIGHTARG = text, FUNCTION = public.like_it)",
            ),
            _LOOT,
        ),
    ),
    plain=frozenset({Gain.READS}),
    hardened=frozenset({Gain.READS}),
    fresh=True,
    why="`tenantry rls audit` calls it an error (TN411): take CREATE away",
)

NOT_SHADOWED: Final = Kind(
    "the same where the role may not",
    tuple(
        attack._replace(
            given=("REVOKE CREATE ON SCHEMA public FROM product_app, PUBLIC",),
            undo=("GRANT CREATE ON SCHEMA public TO product_app",),
        )
        for attack in SHADOWED.attacks
    ),
    fresh=True,
    why="that is all it takes",
)

TEXTS: Final = Kind(
    "reading literals of other tenants' statements: `pg_stat_activity`, `pg_prepared_statements`",
    (
        Attack(
            "of statements that run or ran last",
            ("SELECT query FROM pg_stat_activity WHERE pid <> pg_backend_pid()",),
            beside=(f"SELECT '{SECRET_OF_B}'",),
        ),
        Attack(
            "of statements that the connection keeps",
            ("SELECT statement FROM pg_prepared_statements",),
            victim=(f"SELECT '{SECRET_OF_B}'",),
        ),
    ),
    plain=frozenset({Gain.READS}),
    hardened=frozenset({Gain.READS}),
    why="all scopes share a role: PostgreSQL shows it its own sessions. Pass values as parameters, which are "
    "not shown",
)

OUTSIDE: Final = Kind(
    "large objects that the product stores",
    (
        Attack(
            "read another's",
            _LOOT,
            victim=(f"SELECT lo_from_bytea(0, '{SECRET_OF_B}')",),
        ),
    ),
    plain=frozenset({Gain.READS}),
    hardened=frozenset({Gain.READS}),
    why="they have no tenant in PostgreSQL (TN408): keep such data in `bytea` columns of tenant tables",
)

KINDS: Final = (READINGS, COMPILED, CONSTANTS, SHADOWED, NOT_SHADOWED, TEXTS, OUTSIDE)
