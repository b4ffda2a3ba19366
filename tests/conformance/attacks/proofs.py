"""Attacks on the proofs of hardened mode, and on what stands behind them."""

from __future__ import annotations

from typing import Final

from tests.conformance.attacks.attack import READ, Attack, Kind

#: E1: what A leaves for its COMMIT looks for the next tenant's proof, and uses it.
_STEAL: Final = (
    "CREATE FUNCTION pg_temp.steal() RETURNS text LANGUAGE plpgsql AS $f$ "
    "DECLARE seen text; p text; mine text := current_setting('app.current_tenant'); "
    "mark text := current_setting('tenantry.proof', true); "
    "BEGIN FOR seen IN SELECT current_query() UNION ALL SELECT query FROM pg_stat_activity "
    "UNION ALL SELECT statement FROM pg_prepared_statements UNION ALL SELECT statement FROM pg_cursors LOOP "
    "p := substring(seen FROM '[0-9a-f]{64}'); CONTINUE WHEN p IS NULL; "
    "BEGIN PERFORM tenantry.bind('{B}', p); "
    "PERFORM lo_from_bytea(0, convert_to((SELECT string_agg(name, ',') FROM public.students), 'UTF8')); "
    "EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; "
    "PERFORM set_config('tenantry.proof', coalesce(mark, ''), true), set_config('app.current_tenant', mine, "
    "true); "
    "RETURN 'x'; END $f$"
)
_LOOT: Final = ("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata",)
#: What would be as good as B's rows: any text of the length and form of a proof that is not A's own mark.
_PROOFS_IN: Final = (
    "SELECT 'secret of B' WHERE EXISTS (SELECT FROM {view} WHERE {column} ~ '[0-9a-f]{64}' "
    "AND position(current_setting('tenantry.proof', true) in {column}) = 0)"
)


def _in(view: str, column: str) -> str:
    return _PROOFS_IN.replace("{view}", view).replace("{column}", column)


READING: Final = Kind(
    "reading a proof: `current_query()` in code left for COMMIT, `pg_stat_activity`, `pg_prepared_statements`",
    (
        Attack(
            "at COMMIT, by a cursor WITH HOLD",
            (_STEAL, "DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.steal()"),
            _LOOT,
        ),
        Attack(
            "at COMMIT, by a deferred constraint trigger",
            (
                _STEAL,
                "CREATE TEMP TABLE bait (id int)",
                "CREATE FUNCTION pg_temp.t() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN PERFORM pg_temp.steal(); RETURN NULL; END $$",
                "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
                "EXECUTE FUNCTION pg_temp.t()",
                "INSERT INTO bait VALUES (1)",
            ),
            _LOOT,
        ),
        Attack("in pg_stat_activity", (_in("pg_stat_activity", "query"),), beside=("SELECT 1",)),
        Attack("in pg_prepared_statements", (_in("pg_prepared_statements", "statement"),), victim=("SELECT 1",)),
        Attack("in pg_cursors", (_in("pg_cursors", "statement"),), victim=("SELECT 1",)),
        Attack("in pg_settings", (_in("pg_settings", "setting"),), victim=("SELECT 1",)),
    ),
    lingers=True,
    why="a proof is a parameter of the extended protocol, never in a text",
)

MAKING: Final = Kind(
    "making a proof, reading its key, changing tenantry's own objects",
    (
        Attack(
            "read the key",
            ("SELECT 'secret of B', encode(inner_pad, 'hex'), outer_pad::text FROM tenantry.secret",),
        ),
        Attack("call proof_of", ("SELECT tenantry.proof_of('scope'), 'secret of B'",)),
        Attack("read the placements", ("SELECT 'secret of B', tenant FROM tenantry.placement",)),
        Attack("read the identity", ("SELECT 'secret of B' FROM tenantry.database_identity",)),
        Attack("call refuse", ("SELECT 'secret of B', tenantry.refuse('{B}')",)),
        Attack("call grant_application", ("SELECT 'secret of B', tenantry.grant_application('product_app')",)),
        Attack(
            "replace bind",
            ("CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void LANGUAGE sql AS ''",),
        ),
        Attack("drop bind", ("DROP FUNCTION tenantry.bind(text)",)),
        Attack(
            "another form of enter, which would be found first",
            ("CREATE PROCEDURE tenantry.enter(t uuid, p text, s integer) LANGUAGE sql AS ''", READ),
        ),
        Attack(
            "make a function in tenantry", ("CREATE FUNCTION tenantry.evil() RETURNS void LANGUAGE sql AS ''",)
        ),
        Attack(
            "reconfigure", ("UPDATE tenantry.database_identity SET hardened = false, setting = 'app.other'", READ)
        ),
        Attack("switch a trigger of tenantry's off", ("ALTER TABLE tenantry.placement DISABLE TRIGGER ALL",)),
        Attack(
            "a schema of the same name in front",
            ("SET search_path = pg_temp", "CREATE TEMP VIEW secret AS SELECT 1"),
        ),
        Attack(
            "shadow sha256 and encode",
            (
                "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$SELECT '\\x00'::bytea$$",
                "CREATE FUNCTION public.encode(bytea, text) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$",
                "SET search_path = public, pg_catalog",
                "SELECT tenantry.bind('{A}', 'x')",
                READ,
            ),
        ),
        Attack(
            "shadow tenantry's tables by temporary ones",
            (
                "CREATE TEMP TABLE placement (tenant text, database text, epoch bigint, suspended boolean)",
                "CREATE TEMP TABLE secret (inner_pad bytea, outer_pad bytea)",
                "SET search_path = pg_temp, tenantry, public",
                "SELECT tenantry.bind('{A}', '')",
                READ,
            ),
        ),
        Attack(
            "enroll a tenant", ("SELECT tenantry.enroll('{B}', 99)", "SELECT tenantry.enroll('evil', 99)", READ)
        ),
        Attack(
            "enroll after the transaction",
            ("COMMIT; SELECT tenantry.enroll('{B}', 1)", "SELECT tenantry.enroll('{B}', 2)", READ),
        ),
        Attack(
            "bind to the own tenant again",
            ("SELECT tenantry.bind('{A}', current_setting('tenantry.proof', true))", READ),
        ),
    ),
    lingers=True,
    why="the application's role may execute what a scope needs, and read nothing of schema `tenantry`",
)

KINDS: Final = (READING, MAKING)
