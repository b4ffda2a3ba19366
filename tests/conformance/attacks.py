"""What SQL injected into a scope may try in order to reach another tenant.

Each attack is a list of steps run inside tenant A's scope as the application role. `{B}` stands for the other
tenant's id, `{proof}` for a proof that tenant B's scope was given (an accomplice there read it). A step that
PostgreSQL refuses is passed over: an attacker goes on too. What counts is whether a row of B was seen, or B's
rows changed.
"""

from __future__ import annotations

from typing import NamedTuple

READ = "SELECT tenant_id::text, name FROM students"


class Attack(NamedTuple):
    """One way to try."""

    name: str
    steps: tuple[str, ...]
    plain_holds: bool | None = True
    """Whether the mode that isn't hardened holds against it too; None: it depends on the plan."""


def _sets(name: str, *steps: str) -> Attack:
    """Attacks that only need to set the tenant: nothing but hardened mode holds against them."""
    return Attack(name, steps, plain_holds=False)


ATTACKS = (
    # setting the tenant
    _sets("set_config, local", "SELECT set_config('app.current_tenant', '{B}', true)", READ),
    _sets("set_config, session", "SELECT set_config('app.current_tenant', '{B}', false)", READ),
    _sets("SET LOCAL", "SET LOCAL app.current_tenant = '{B}'", READ),
    _sets("SET", "SET app.current_tenant = '{B}'", READ),
    _sets("SET in DO", "DO $$ BEGIN EXECUTE $q$SET app.current_tenant = '{B}'$q$; END $$", READ),
    _sets("RESET ALL, then SET", "RESET ALL", "SET app.current_tenant = '{B}'", READ),
    _sets(
        "after a savepoint",
        "SAVEPOINT s",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        READ,
        "ROLLBACK TO s",
    ),
    _sets(
        "in a function of the attacker's",
        "CREATE FUNCTION pg_temp.f() RETURNS SETOF students LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM set_config('app.current_tenant', '{B}', true); RETURN QUERY SELECT * FROM students; END $$",
        "SELECT tenant_id::text, name FROM pg_temp.f()",
    ),
    _sets(
        "in a security definer function of the attacker's",
        "CREATE FUNCTION public.definer_f() RETURNS SETOF students LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN "
        "PERFORM set_config('app.current_tenant', '{B}', true); RETURN QUERY SELECT * FROM students; END $$",
        "SELECT tenant_id::text, name FROM public.definer_f()",
    ),
    _sets(
        "with a prepared statement",
        f"PREPARE stolen AS {READ}",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        "EXECUTE stolen",
    ),
    _sets(
        "through a view of the attacker's",
        "CREATE VIEW public.stolen_view AS SELECT * FROM students",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        "SELECT tenant_id::text, name FROM public.stolen_view",
    ),
    _sets(
        "COPY TO",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        "COPY students TO STDOUT",
        READ,
    ),
    _sets(
        "update after set_config",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        "UPDATE students SET name = 'stolen' || name",
        READ,
    ),
    _sets(
        "delete after set_config",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        "DELETE FROM students RETURNING tenant_id::text, name",
    ),
    # changing it while a statement runs: the check was made at its start
    _sets(
        "set_config in the target list",
        "SELECT tenant_id::text, name, set_config('app.current_tenant', '{B}', true) FROM students",
    )._replace(plain_holds=None),
    _sets(
        "set_config in a sequential scan's target list",
        "SET LOCAL enable_indexscan = off",
        "SET LOCAL enable_bitmapscan = off",
        "SET LOCAL enable_indexonlyscan = off",
        "SELECT name, tenant_id::text, set_config('app.current_tenant', '{B}', true) FROM students",
    ),
    _sets(
        "set_config in WHERE",
        "SELECT tenant_id::text, name FROM students "
        "WHERE set_config('app.current_tenant', '{B}', true) IS NOT NULL",
        READ,
    ),
    _sets(
        "set_config in a CTE",
        "WITH s AS MATERIALIZED (SELECT set_config('app.current_tenant', '{B}', true)) "
        "SELECT tenant_id::text, name FROM s, students",
    ),
    _sets(
        "set_config in LATERAL",
        "SELECT t.tenant_id::text, t.name FROM students AS f, "
        "LATERAL set_config('app.current_tenant', '{B}', true) AS s, LATERAL (SELECT * FROM students) AS t",
        READ,
    ),
    _sets(
        "set_config between FETCHes",
        "SET LOCAL enable_indexscan = off",
        "SET LOCAL enable_bitmapscan = off",
        "DECLARE c CURSOR FOR SELECT tenant_id::text, name FROM students",
        "FETCH 1 FROM c",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        "FETCH ALL FROM c",
        READ,
    ),
    # binding
    _sets("bind without proof", "SELECT tenantry.bind('{B}')", READ),
    _sets("enter without proof", "CALL tenantry.enter('{B}')", READ),
    _sets("enter with the accomplice's proof", "CALL tenantry.enter('{B}', '{proof}')", READ),
    _sets("enter as the router does, without proof", "CALL tenantry.enter('{B}', NULL, -1)", READ),
    _sets(
        "enter as the router does, with the accomplice's proof", "CALL tenantry.enter('{B}', '{proof}', -1)", READ
    ),
    _sets(
        "forge the mark",
        "SELECT set_config('tenantry.bound', '{B}', true), set_config('app.current_tenant', '{B}', true)",
        READ,
    ),
    _sets("bind by COMMIT and BEGIN", "COMMIT; BEGIN; SELECT tenantry.bind('{B}')", READ),
    _sets("bind with an empty proof", *("SELECT tenantry.bind('{B}', '')", READ)),
    _sets("bind with NULL for a proof", *("SELECT tenantry.bind('{B}', NULL)", READ)),
    _sets(
        "bind with the scope's own proof",
        *("SELECT tenantry.bind('{B}', current_setting('tenantry.proof', true))", READ),
    ),
    _sets("bind with the accomplice's proof", *("SELECT tenantry.bind('{B}', '{proof}')", READ)),
    _sets(
        "bind with what pg_stat_activity shows",
        *(
            "SELECT tenantry.bind('{B}', (SELECT substring(query FROM '[0-9a-f]{{64}}') "
            "FROM pg_stat_activity WHERE query ~ '[0-9a-f]{{64}}' AND pid <> pg_backend_pid() LIMIT 1))",
            READ,
        ),
    ),
    Attack(
        "bind to the own tenant again, then set",
        (
            "SELECT tenantry.bind('{A}', current_setting('tenantry.proof', true))",
            READ,
        ),
    ),
    Attack("enroll a tenant", ("SELECT tenantry.enroll('evil', 99)", "SELECT tenantry.enroll('{B}', 99)", READ)),
    # the proof
    _sets(
        "clear the proof",
        "SELECT set_config('tenantry.proof', '', true)",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        READ,
    ),
    _sets(
        "replay a proof of another connection or transaction",
        "SELECT set_config('tenantry.proof', '{proof}', true)",
        "SELECT set_config('app.current_tenant', '{B}', true)",
        READ,
    ),
    _sets(
        "replay it in a new transaction",
        "COMMIT; BEGIN; SELECT set_config('tenantry.proof', '{proof}', true), "
        "set_config('app.current_tenant', '{B}', true)",
        READ,
    ),
    Attack("read the key", ("SELECT encode(inner_pad, 'hex'), outer_pad::text FROM tenantry.secret", READ)),
    Attack("make a proof", ("SELECT tenantry.proof_of('scope'), '' ", READ)),
    Attack("read the placements", ("SELECT tenant, database FROM tenantry.placement WHERE tenant = '{B}'",)),
    # the role
    Attack("RESET ROLE", ("RESET ROLE", READ)),
    Attack("RESET SESSION AUTHORIZATION", ("RESET SESSION AUTHORIZATION", READ)),
    Attack("SET ROLE to the operator", ("SET ROLE product_operator", READ)),
    Attack("SET ROLE to a superuser", ("SET ROLE postgres", READ)),
    Attack("SET SESSION AUTHORIZATION", ("SET SESSION AUTHORIZATION postgres", READ)),
    Attack(
        "grant oneself the operator", ("GRANT product_operator TO product_app", "SET ROLE product_operator", READ)
    ),
    # shadowing
    _sets(
        "shadow current_setting",
        "CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$SELECT '{B}'$$",
        "SET search_path = public, pg_catalog",
        READ,
    )._replace(plain_holds=True),
    _sets(
        "shadow sha256 and encode",
        *(
            "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$SELECT '\\x00'::bytea$$",
            "CREATE FUNCTION public.encode(bytea, text) RETURNS text LANGUAGE sql AS $$SELECT 'x'$$",
            "SET search_path = public, pg_catalog",
            "SELECT tenantry.bind('{B}', 'x')",
            READ,
        ),
    ),
    Attack(
        "shadow the equality of uuid",
        (
            "CREATE FUNCTION public.always(uuid, uuid) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
            "CREATE OPERATOR public.= (LEFTARG = uuid, RIGHTARG = uuid, FUNCTION = public.always)",
            "SET search_path = public, pg_catalog",
            READ,
        ),
    ),
    _sets(
        "shadow tenantry's tables by temporary ones",
        *(
            "CREATE TEMP TABLE placement (tenant text, database text, epoch bigint, suspended boolean)",
            "CREATE TEMP TABLE secret (inner_pad bytea, outer_pad bytea)",
            "SET search_path = pg_temp, tenantry, public",
            "SELECT tenantry.bind('{B}', '')",
            READ,
        ),
    ),
    Attack(
        "replace bind", ("CREATE OR REPLACE FUNCTION tenantry.bind(tenant text) RETURNS void LANGUAGE sql AS ''",)
    ),
    Attack(
        "make a function in tenantry",
        ("CREATE FUNCTION tenantry.evil() RETURNS void LANGUAGE sql AS ''", READ),
    ),
    Attack("reconfigure", ("UPDATE tenantry.database_identity SET hardened = false, setting = 'app.other'", READ)),
    # the policies
    Attack("switch row security off", ("SET row_security = off", READ)),
    Attack("disable it on the table", ("ALTER TABLE students DISABLE ROW LEVEL SECURITY", READ)),
    Attack("drop the policy", ("DROP POLICY tenantry_tenant ON students", READ)),
    Attack("add a policy", ("CREATE POLICY open ON students USING (true)", READ)),
    Attack("add a trigger", ("CREATE TRIGGER t BEFORE UPDATE ON students EXECUTE FUNCTION tenantry.bind()", READ)),
    Attack("truncate", ("TRUNCATE students CASCADE",)),
    # writing across
    Attack("insert for the other", ("INSERT INTO students (tenant_id, name) VALUES ('{B}', 'planted')",)),
    Attack("give a row away", ("UPDATE students SET tenant_id = '{B}'",)),
    Attack(
        "upsert into the other's key",
        (
            "INSERT INTO students (tenant_id, id, name) VALUES ('{B}', 1, 'x') "
            "ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'stolen' RETURNING tenant_id::text, name",
        ),
    ),
    Attack(
        "merge into the other's rows",
        (
            "MERGE INTO students AS s USING (SELECT '{B}'::{type} AS t) AS x ON s.tenant_id = x.t "
            "WHEN MATCHED THEN UPDATE SET name = 'stolen'",
        ),
    ),
    # looking around
    Attack(
        "a leaking function in WHERE",
        (
            "CREATE TEMP TABLE seen (name text)",
            "CREATE FUNCTION pg_temp.leak(n text) RETURNS boolean LANGUAGE plpgsql COST 0.0000001 AS "
            "$$ BEGIN INSERT INTO seen VALUES (n); RETURN true; END $$",
            "SELECT tenant_id::text, name FROM students WHERE pg_temp.leak(name)",
            "SELECT '{B}', name FROM seen",
        ),
    ),
    Attack(
        "the planner's statistics",
        ("SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename = 'students'",),
    ),
    Attack("read a file", ("SELECT pg_read_file('postgresql.conf'), ''",)),
    Attack("run a program", ("COPY (SELECT 1) TO PROGRAM 'true'",)),
)
