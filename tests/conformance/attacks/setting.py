"""Attacks that set the tenant, or bind another one."""

from __future__ import annotations

from typing import Final

from tests.conformance.attacks.attack import READ, Attack, Gain, Kind

_SET: Final = "SELECT set_config('app.current_tenant', '{B}', true)"
_NO_INDEX: Final = (
    "SET LOCAL enable_indexscan = off",
    "SET LOCAL enable_bitmapscan = off",
    "SET LOCAL enable_indexonlyscan = off",
)

SETS: Final = Kind(
    "setting another tenant: `SET`, `set_config`, in a function, a view, a prepared statement, at COMMIT",
    (
        Attack("set_config, local", (_SET, READ)),
        Attack("set_config, session", ("SELECT set_config('app.current_tenant', '{B}', false)", READ)),
        Attack("SET LOCAL", ("SET LOCAL app.current_tenant = '{B}'", READ)),
        Attack("SET", ("SET app.current_tenant = '{B}'", READ)),
        Attack("SET SESSION", ("SET SESSION app.current_tenant TO '{B}'", READ)),
        Attack("SET in DO", ("DO $$ BEGIN EXECUTE $q$SET app.current_tenant = '{B}'$q$; END $$", READ)),
        Attack("RESET ALL, then SET", ("RESET ALL", "SET app.current_tenant = '{B}'", READ)),
        Attack("after a savepoint", ("SAVEPOINT s", _SET, READ, "ROLLBACK TO s")),
        Attack(
            "in a function of the attacker's",
            (
                "CREATE FUNCTION pg_temp.f() RETURNS SETOF students LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM set_config('app.current_tenant', '{B}', true); RETURN QUERY SELECT * FROM students; "
                "END $$",
                "SELECT tenant_id::text, name FROM pg_temp.f()",
            ),
        ),
        Attack(
            "in a security definer function of the attacker's",
            (
                "CREATE FUNCTION public.definer_f() RETURNS SETOF students LANGUAGE plpgsql SECURITY DEFINER AS "
                "$$ BEGIN PERFORM set_config('app.current_tenant', '{B}', true); "
                "RETURN QUERY SELECT * FROM students; END $$",
                "SELECT tenant_id::text, name FROM public.definer_f()",
            ),
        ),
        Attack("with a prepared statement", (f"PREPARE stolen AS {READ}", _SET, "EXECUTE stolen")),
        Attack(
            "with a generic plan",
            (
                "SET LOCAL plan_cache_mode = force_generic_plan",
                f"PREPARE g AS {READ}",
                "EXECUTE g",
                _SET,
                "EXECUTE g",
            ),
        ),
        Attack(
            "through a view of the attacker's",
            (
                "CREATE VIEW public.stolen_view AS SELECT * FROM students",
                _SET,
                "SELECT tenant_id::text, name FROM public.stolen_view",
            ),
        ),
        Attack("by the product's function", (_SET, "SELECT all_names()")),
        Attack("COPY TO", (_SET, "COPY (SELECT name FROM students) TO STDOUT")),
        Attack("update that returns", (_SET, "UPDATE students SET email = email RETURNING name")),
        Attack(
            "set_config in a sequential scan's target list",
            (
                *_NO_INDEX,
                "SELECT name, tenant_id::text, set_config('app.current_tenant', '{B}', true) FROM students",
            ),
        ),
        Attack(
            "set_config in WHERE",
            (
                "SELECT tenant_id::text, name FROM students "
                "WHERE set_config('app.current_tenant', '{B}', true) IS NOT NULL",
                READ,
            ),
        ),
        Attack(
            "set_config in a CTE",
            (
                "WITH s AS MATERIALIZED (SELECT set_config('app.current_tenant', '{B}', true)) "
                "SELECT tenant_id::text, name FROM s, students",
            ),
        ),
        Attack(
            "set_config in LATERAL",
            (
                "SELECT t.tenant_id::text, t.name FROM students AS f, "
                "LATERAL set_config('app.current_tenant', '{B}', true) AS s, LATERAL (SELECT * FROM "
                "students) AS t",
                READ,
            ),
        ),
        Attack(
            "set_config between FETCHes",
            (
                "SET LOCAL enable_indexscan = off",
                "SET LOCAL enable_bitmapscan = off",
                "DECLARE c CURSOR FOR SELECT tenant_id::text, name FROM students",
                "FETCH 1 FROM c",
                _SET,
                "FETCH ALL FROM c",
                READ,
            ),
        ),
        Attack(
            "at COMMIT, by a cursor WITH HOLD",
            (
                "CREATE FUNCTION pg_temp.loot() RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM set_config('app.current_tenant', '{B}', true); "
                "PERFORM lo_from_bytea(0, convert_to((SELECT string_agg(name, ',') FROM students), 'UTF8')); "
                "RETURN 'x'; END $$",
                "DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.loot()",
            ),
            loot=("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata",),
        ),
        Attack(
            "at COMMIT, by a deferred constraint trigger",
            (
                "CREATE TEMP TABLE bait (id int)",
                "CREATE FUNCTION pg_temp.loot() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM set_config('app.current_tenant', '{B}', true); "
                "PERFORM lo_from_bytea(0, convert_to((SELECT string_agg(name, ',') FROM public.students), "
                "'UTF8')); "
                "RETURN NULL; END $$",
                "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON bait DEFERRABLE INITIALLY DEFERRED FOR EACH ROW "
                "EXECUTE FUNCTION pg_temp.loot()",
                "INSERT INTO bait VALUES (1)",
            ),
            loot=("SELECT convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata",),
        ),
    ),
    plain=frozenset({Gain.READS}),
    lingers=True,
    why="hardened: policies believe only a proof that the application's role can't make",
)

PLANNED: Final = Kind(
    "setting another tenant in a statement's target list, where an index is used",
    (
        Attack(
            "set_config in the target list",
            ("SELECT tenant_id::text, name, set_config('app.current_tenant', '{B}', true) FROM students",),
        ),
    ),
    plain=frozenset({Gain.READS}),
    depends=True,
    why="hardened: as above",
)

WRITES: Final = Kind(
    "writing after setting another tenant",
    (
        Attack(
            "update", (_SET, "UPDATE students SET name = 'changed by A'", "SET LOCAL app.current_tenant = '{A}'")
        ),
        Attack("delete", (_SET, "DELETE FROM students", "SET LOCAL app.current_tenant = '{A}'")),
        Attack("insert", (_SET, "INSERT INTO students (id, name) VALUES (66, 'planted by A')")),
        Attack(
            "update at COMMIT",
            (
                "CREATE FUNCTION pg_temp.w() RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
                "PERFORM set_config('app.current_tenant', '{B}', true); "
                "UPDATE students SET name = 'changed by A'; RETURN 'x'; END $$",
                "DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.w()",
            ),
        ),
    ),
    plain=frozenset({Gain.WRITES, Gain.DISTURBS}),
    lingers=True,
    why="hardened: as above",
)

_BY_BIND: Final = "SELECT tenantry.bind('{B}')"
BINDS: Final = Kind(
    "binding another tenant: `bind`, `enter`, a forged mark, a proof seen elsewhere",
    (
        Attack("bind without proof", (_BY_BIND, READ)),
        Attack("enter without proof", ("CALL tenantry.enter('{B}')", READ)),
        Attack("enter with the accomplice's proof", ("CALL tenantry.enter('{B}', '{proof}')", READ)),
        Attack("enter as the router does, without proof", ("CALL tenantry.enter('{B}', NULL, -1)", READ)),
        Attack(
            "enter as the router does, with the accomplice's", ("CALL tenantry.enter('{B}', '{proof}', -1)", READ)
        ),
        Attack(
            "forge the mark",
            (
                "SELECT set_config('tenantry.bound', '{B}', true), set_config('app.current_tenant', '{B}', true)",
                READ,
            ),
        ),
        Attack("bind by COMMIT and BEGIN", ("COMMIT; BEGIN; SELECT tenantry.bind('{B}')", READ)),
        Attack("bind with an empty proof", ("SELECT tenantry.bind('{B}', '')", READ)),
        Attack("bind with NULL for a proof", ("SELECT tenantry.bind('{B}', NULL)", READ)),
        Attack(
            "bind with the scope's own proof",
            ("SELECT tenantry.bind('{B}', current_setting('tenantry.proof', true))", READ),
        ),
        Attack("bind with the accomplice's proof", ("SELECT tenantry.bind('{B}', '{proof}')", READ)),
        Attack(
            "clear the proof, then set",
            ("SELECT set_config('tenantry.proof', '', true)", "SET LOCAL app.current_tenant = '{B}'", READ),
        ),
        Attack(
            "replay a proof of another connection",
            ("SELECT set_config('tenantry.proof', '{proof}', true)", "SET LOCAL app.current_tenant = '{B}'", READ),
        ),
        Attack(
            "replay it in a new transaction",
            (
                "COMMIT; BEGIN; SELECT set_config('tenantry.proof', '{proof}', true), "
                "set_config('app.current_tenant', '{B}', true)",
                READ,
            ),
        ),
        Attack(
            "keep the own proof over a chained transaction",
            (
                "SELECT set_config('x.kept', current_setting('tenantry.proof', true), false)",
                "COMMIT AND CHAIN",
                "SELECT set_config('tenantry.proof', current_setting('x.kept'), true), "
                "set_config('app.current_tenant', '{B}', true)",
                READ,
            ),
        ),
        Attack(
            "bind with what pg_stat_activity shows",
            (
                "SELECT tenantry.bind('{B}', (SELECT substring(query FROM '[0-9a-f]{64}') FROM pg_stat_activity "
                "WHERE query ~ '[0-9a-f]{64}' AND pid <> pg_backend_pid() LIMIT 1))",
                READ,
            ),
        ),
    ),
    plain=frozenset({Gain.READS}),
    lingers=True,
    why="hardened: a proof is good for one tenant, process and transaction (behind a pooler, where the "
    "process isn't "
    "known in advance, the router's own is good for the tenant)",
)

_OWN: Final = "nullif(current_setting('app.current_tenant', true), '')::{type}"


def _beside(name: str, policy: str) -> Attack:
    """Where the product has a policy of its own beside tenantry's."""
    return Attack(
        f"a permissive policy {name}",
        (_SET, READ, "COPY (SELECT name FROM students) TO STDOUT"),
        given=(f"CREATE POLICY own ON students {policy}",),
        undo=("DROP POLICY own ON students",),
    )


OWN: Final = Kind(
    "setting another tenant, where the product has policies of its own by the setting",
    (
        _beside("for all commands", f"USING (tenant_id = {_OWN})"),
        _beside("for reading", f"FOR SELECT TO product_app USING (tenant_id = {_OWN})"),
    ),
    plain=frozenset({Gain.READS}),
    why="hardened: the guard beside them is restrictive",
)

OPEN: Final = Kind(
    "reading where a policy of the product's own opens the table: by user, for all",
    (
        _beside("by user", "USING (current_user = 'product_app')"),
        _beside("for all", "USING (true)"),
    ),
    plain=frozenset({Gain.READS, Gain.DISTURBS}),
    why="`tenantry rls audit` calls it an error (TN105). Hardened: as above",
)

KINDS: Final = (SETS, OWN, OPEN, PLANNED, WRITES, BINDS)
