"""The audit's proof is sound: what it passes isolates in PostgreSQL, and what leaks in PostgreSQL it never passes.

Each expression below is the policy of a table of its own, with rows of two tenants, and is executed: as the
application role, bound to tenant A, after whatever an attacker can set. Then the audit reads the same database.
"""

from __future__ import annotations

from typing import NamedTuple

import asyncpg
import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType
from tenantry.isolation.audit import audit
from tenantry.isolation.facts import Facts
from tenantry.isolation.policy_verdict import ExpressionVerdict
from tenantry.runtime.sqltext import identifier, literal
from tests.integration.isolation.conftest import Connection, enroll, install

PROVEN, UNPROVEN, OPEN, GATED, FOREIGN = (
    ExpressionVerdict.TIED,
    ExpressionVerdict.UNPROVEN,
    ExpressionVerdict.OPEN,
    ExpressionVerdict.GATED,
    ExpressionVerdict.FOREIGN,
)
A, B = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
S = "current_setting('app.current_tenant', true)"
T = f"nullif({S}, '')::uuid"
ADMITTED = "(SELECT tenantry.admitted())"


class Case(NamedTuple):
    """A policy's expression, what the audit says of it, and what PostgreSQL lets through."""

    using: str
    wanted: ExpressionVerdict
    leaks: bool = False
    """True when a scope of A sees rows of B."""
    before: str = ""
    """What the attacker runs first, in A's scope."""
    beside: str = ""
    """More policies; {t} is the table."""
    own: bool = True
    """True when A sees its own rows."""


HELPERS = f"""
CREATE TABLE x.members (tenant_id uuid, who uuid, login text);
CREATE FUNCTION x.tenant() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT {T} $$;
CREATE FUNCTION x.tenant_alias() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT {T} AS id; $$;
CREATE FUNCTION x.tenant_atomic() RETURNS uuid LANGUAGE sql STABLE BEGIN ATOMIC SELECT {T}; END;
CREATE FUNCTION x.tenant_return() RETURNS uuid LANGUAGE sql STABLE RETURN {T};
CREATE FUNCTION x.tenant_plpgsql() RETURNS uuid LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN x.tenant(); END $$;
CREATE FUNCTION x.tenant_definer() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
    AS $$ SELECT {T} $$;
CREATE FUNCTION x.is_mine(row_tenant uuid) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT row_tenant = x.tenant() $$;
CREATE FUNCTION x.is_mine_too(uuid) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT $1 = x.tenant() $$;
CREATE FUNCTION x.same(u uuid) RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT u = {T} OR current_setting('app.staff', true) IS DISTINCT FROM 'off' $$;
CREATE FUNCTION x.me() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT coalesce(nullif(current_setting('app.impersonate', true), '')::uuid, {T}) $$;
CREATE FUNCTION x.me_late() RETURNS uuid LANGUAGE sql STABLE
    AS $$ SELECT coalesce({T}, nullif(current_setting('app.impersonate', true), '')::uuid) $$;
CREATE FUNCTION x.frozen() RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ SELECT {T} $$;
CREATE FUNCTION x.fixed() RETURNS uuid LANGUAGE sql STABLE SET app.current_tenant = '{B}' AS $$ SELECT {T} $$;
CREATE FUNCTION x.twice(a uuid) RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT a $$;
CREATE FUNCTION x.over(a uuid) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT a = x.tenant() $$;
CREATE FUNCTION x.over(a bigint) RETURNS boolean LANGUAGE sql STABLE AS $$ SELECT true $$;
CREATE FUNCTION x.looked_up() RETURNS uuid LANGUAGE sql STABLE AS $$ SELECT tenant_id FROM x.members LIMIT 1 $$;
CREATE FUNCTION x.branching() RETURNS uuid LANGUAGE plpgsql STABLE AS
    $$ DECLARE found uuid; BEGIN found := '{B}'; RETURN found; END $$;
CREATE TYPE x.thing AS (tenant_id uuid);
CREATE FUNCTION x.own_part(t{{part}} x.thing) RETURNS boolean LANGUAGE plpgsql STABLE
    AS $$ BEGIN RETURN t{{part}}.tenant_id = x.tenant(); END $$;
CREATE FUNCTION x.staff() RETURNS boolean LANGUAGE sql STABLE
    AS $$ SELECT current_setting('app.staff', true) = 'on' $$;
CREATE TABLE x.parents (tenant_id uuid NOT NULL, id bigint);
ALTER TABLE x.parents ENABLE ROW LEVEL SECURITY; ALTER TABLE x.parents FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON x.parents USING (tenant_id = {T});
"""
PART = "{part}"
STAFF = "SET LOCAL app.staff = 'on'"
IMPERSONATE = f"SET LOCAL app.impersonate = '{B}'"

CASES = {
    # proven: the column equals the setting
    "template": Case(f"tenant_id = {T} AND {ADMITTED}", PROVEN),
    "bare": Case(f"tenant_id = {T}", PROVEN),
    "without nullif": Case(f"tenant_id = {S}::uuid", PROVEN),
    "turned round": Case(f"{T} = tenant_id", PROVEN),
    "compared as text": Case(f"tenant_id::text = {S}", PROVEN),
    "compared as varchar": Case(f"tenant_id::varchar = {S}", PROVEN),
    "setting strict": Case("tenant_id = current_setting('app.current_tenant')::uuid", PROVEN),
    "setting in capitals": Case("tenant_id = current_setting('App.Current_Tenant')::uuid", PROVEN),
    "not distinct": Case(f"tenant_id IS NOT DISTINCT FROM {T}", PROVEN),
    "not not equal": Case(f"NOT (tenant_id <> {T})", PROVEN),
    "not distinct, negated": Case(f"NOT (tenant_id IS DISTINCT FROM {T})", PROVEN),
    "de morgan": Case(f"NOT (tenant_id <> {T} OR staff = 'off')", PROVEN),
    "and a column": Case(f"tenant_id = {T} AND name <> 'hidden'", PROVEN),
    "two ties": Case(f"tenant_id = {T} OR (tenant_id = {S}::uuid AND staff IS NULL)", PROVEN),
    "coalesce": Case(f"coalesce(tenant_id = {T}, false)", PROVEN),
    "is true": Case(f"(tenant_id = {T}) IS TRUE", PROVEN),
    "equals true": Case(f"(tenant_id = {T}) = true", PROVEN),
    "case": Case(f"CASE WHEN tenant_id = {T} THEN true ELSE false END", PROVEN),
    "case on the setting": Case(f"CASE WHEN {S} <> '' THEN tenant_id = {S}::uuid ELSE false END", PROVEN),
    "case in the value": Case(f"tenant_id = CASE WHEN {S} = '' THEN NULL ELSE {S}::uuid END", PROVEN),
    "sub-select": Case(f"tenant_id = (SELECT {T})", PROVEN),
    "in one": Case(f"tenant_id IN ({T})", PROVEN),
    "in two": Case(f"tenant_id IN ({T}, {S}::uuid)", PROVEN),
    "any": Case(f"tenant_id = ANY (ARRAY[{T}])", PROVEN),
    "any, null": Case(f"tenant_id = ANY (ARRAY[{T}, NULL])", PROVEN),
    "list of one id": Case(f"tenant_id::text = ANY (string_to_array({S}, ','))", PROVEN),
    "row": Case(f"(tenant_id, id) = ({T}, id)", PROVEN),
    "trimmed": Case(f"tenant_id = lower(btrim({S}))::uuid", PROVEN),
    "fallback to nobody": Case(f"tenant_id = coalesce({T}, '{B}'::uuid)", PROVEN),
    "our function": Case("tenant_id = tenantry.current_tenant()", PROVEN),
    "helper": Case("tenant_id = x.tenant()", PROVEN),
    "helper with alias": Case("tenant_id = x.tenant_alias()", PROVEN),
    "helper, atomic": Case("tenant_id = x.tenant_atomic()", PROVEN),
    "helper, return": Case("tenant_id = x.tenant_return()", PROVEN),
    "helper, plpgsql": Case("tenant_id = (SELECT x.tenant_plpgsql())", PROVEN),
    "helper, definer": Case("tenant_id = x.tenant_definer()", PROVEN),
    "helper with the column": Case("x.is_mine(tenant_id)", PROVEN),
    "helper with a numbered parameter": Case("x.is_mine_too(tenant_id)", PROVEN),
    "helper, overloaded": Case("x.is_mine(x.twice(tenant_id))", UNPROVEN),
    "impersonation behind the tenant": Case("tenant_id = x.me_late()", PROVEN, before=IMPERSONATE),
    "rows of nobody": Case(f"tenant_id = {T} OR tenant_id IS NULL", PROVEN),
    "nothing": Case("false", PROVEN, own=False),
    "unbound only": Case(f"{S} IS NULL", PROVEN, own=False),
    "members beside": Case(f"tenant_id = {T} AND tenant_id IN (SELECT m.tenant_id FROM x.members m)", PROVEN),
    "members of the tenant": Case(
        f"tenant_id IN (SELECT m.tenant_id FROM x.members m WHERE m.tenant_id = {T})", PROVEN
    ),
    "an isolated table": Case("tenant_id IN (SELECT p.tenant_id FROM x.parents p)", PROVEN),
    "exists in an isolated table": Case(
        "EXISTS (SELECT 1 FROM x.parents p WHERE p.tenant_id = {t}.tenant_id AND p.id > 0)", PROVEN
    ),
    "the role": Case("tenant_id::text = current_user", PROVEN, own=False),
    "open, held by a restrictive one": Case(
        "true", OPEN, beside=f"CREATE POLICY r ON {{t}} AS RESTRICTIVE USING (tenant_id = {T})"
    ),
    "staff, held by a restrictive one": Case(
        f"tenant_id = {T} OR x.staff()", GATED, before=STAFF,
        beside=f"CREATE POLICY r ON {{t}} AS RESTRICTIVE USING (tenant_id = {T})",
    ),
    # unproven, and right: rows are compared in a way that the proof does not know
    "contained": Case(f"ARRAY[tenant_id] <@ ARRAY[{T}]", UNPROVEN),
    "between": Case(f"tenant_id BETWEEN {T} AND {T}", UNPROVEN),
    "overlap": Case(f"ARRAY[tenant_id] && ARRAY[{T}]", UNPROVEN),
    "md5": Case(f"md5(tenant_id::text) = md5({S})", UNPROVEN),
    # leaks
    "true": Case("true", OPEN, leaks=True),
    "one is one": Case("1 = 1", OPEN, leaks=True),
    "admitted alone": Case(ADMITTED, OPEN, leaks=True),
    "a column": Case("id > 0", OPEN, leaks=True),
    "somebody's id": Case(f"tenant_id = '{B}'", OPEN, leaks=True, own=False),
    "not null": Case("tenant_id IS NOT NULL", OPEN, leaks=True),
    "setting is set": Case(f"{S} IS NOT NULL", OPEN, leaks=True),
    "setting is not empty": Case(f"{S} <> ''", OPEN, leaks=True),
    "not equal": Case(f"tenant_id <> {T}", OPEN, leaks=True, own=False),
    "negated tie": Case(f"NOT (tenant_id = {T})", OPEN, leaks=True, own=False),
    "distinct": Case(f"tenant_id IS DISTINCT FROM {T}", OPEN, leaks=True, own=False),
    "or a column": Case(f"tenant_id = {T} OR staff IS NULL", OPEN, leaks=True),
    "staff flag": Case(
        f"tenant_id = {T} OR current_setting('app.staff', true) = 'on'", GATED, leaks=True, before=STAFF
    ),
    "staff helper": Case(f"tenant_id = {T} OR x.staff()", GATED, leaks=True, before=STAFF),
    "any role": Case(f"tenant_id = {T} OR pg_has_role(current_user, 'MEMBER')", GATED, leaks=True),
    "everybody's members": Case("tenant_id IN (SELECT m.tenant_id FROM x.members m)", OPEN, leaks=True),
    "my memberships": Case(
        "tenant_id IN (SELECT m.tenant_id FROM x.members m WHERE m.login = current_user)", UNPROVEN, leaks=True
    ),
    "another column": Case(f"other = {T}", UNPROVEN, leaks=True),
    "a name like the id": Case(f"name = {S}", UNPROVEN, leaks=True, own=False),
    "prefix": Case(f"tenant_id::text LIKE left({S}, 1) || '%'", UNPROVEN, leaks=True),
    "length": Case(f"length(tenant_id::text) = length({S})", UNPROVEN, leaks=True),
    "in with itself": Case(f"tenant_id IN ({T}, tenant_id)", OPEN, leaks=True),
    "in with a constant": Case(f"tenant_id IN ({T}, '{B}')", UNPROVEN, leaks=True),
    "any of a column": Case(f"tenant_id = ANY (ARRAY[{T}, other, tenant_id])", UNPROVEN, leaks=True),
    "contained in itself": Case(f"ARRAY[{T}] <@ ARRAY[tenant_id, {T}]", UNPROVEN, leaks=True),
    "coalesce with itself": Case(f"tenant_id = coalesce(nullif({T}, {T}), tenant_id)", UNPROVEN, leaks=True),
    "not distinct from itself": Case(
        f"coalesce(nullif(tenant_id, {T}), {T}) IS NOT DISTINCT FROM coalesce(nullif(tenant_id, {T}), {T})",
        UNPROVEN, leaks=True,
    ),
    "equality of truths": Case(f"(tenant_id = {T}) = (name IS NULL)", UNPROVEN, leaks=True, own=False),
    "not false": Case(f"(tenant_id = {T} AND NULL) IS NOT FALSE", UNPROVEN, own=True),
    "not true": Case(f"((tenant_id = {T}) = (staff = {S})) IS NOT TRUE", UNPROVEN, leaks=True),
    "greatest": Case(f"greatest(tenant_id::text, {S}) >= {S}", UNPROVEN, leaks=True),
    "at least": Case(f"tenant_id >= {T}", UNPROVEN, leaks=True),
    "open branch": Case(
        f"CASE WHEN tenant_id = {T} THEN true WHEN staff IS NULL THEN {S} <> '' ELSE false END", OPEN, leaks=True
    ),
    "value of a branch": Case(
        f"tenant_id = CASE WHEN staff IS NULL THEN tenant_id ELSE {T} END", UNPROVEN, leaks=True
    ),
    "function that opens": Case("x.same(tenant_id)", GATED, leaks=True),
    "impersonation first": Case("tenant_id = x.me()", UNPROVEN, leaks=True, before=IMPERSONATE, own=False),
    "function with a setting": Case("tenant_id = x.fixed()", UNPROVEN, leaks=True, own=False),
    "function that looks up": Case("tenant_id = x.looked_up()", UNPROVEN, leaks=True, own=False),
    "function with a variable": Case("tenant_id = x.branching()", UNPROVEN, leaks=True, own=False),
    "function of the row": Case("tenant_id = x.twice(tenant_id)", UNPROVEN, leaks=True),
    "part of a parameter called as the table": Case(f"x.own_part(ROW({T})::x.thing)", GATED, leaks=True),
    "frozen at planning": Case("tenant_id = x.frozen()", UNPROVEN),
    "overloaded function": Case("x.over(id)", UNPROVEN, leaks=True),
    "exists somebody else": Case(
        f"EXISTS (SELECT 1 FROM x.members m WHERE m.tenant_id = {{t}}.tenant_id AND m.who IS DISTINCT FROM {T})",
        UNPROVEN, leaks=True, own=False,
    ),
    "exists, of another row": Case(
        f"EXISTS (SELECT 1 FROM x.members m WHERE m.who = {T} AND {{t}}.id > 0)", UNPROVEN, leaks=True
    ),
    "exists, not correlated": Case(f"EXISTS (SELECT 1 FROM x.members m WHERE m.who = {T})", GATED, leaks=True),
    "another setting": Case("tenant_id = nullif(current_setting('app.org', true), '')::uuid", FOREIGN, leaks=True,
                            before=f"SET LOCAL app.org = '{B}'", own=False),
    "ours or another setting": Case(
        f"tenant_id = {T} OR tenant_id = nullif(current_setting('app.org', true), '')::uuid", FOREIGN, leaks=True,
        before=f"SET LOCAL app.org = '{B}'",
    ),
    "a claim": Case(
        "tenant_id::text = current_setting('request.jwt.claims', true)::json ->> 'tenant'", FOREIGN, leaks=True,
        before=f"SELECT set_config('request.jwt.claims', '{{\"tenant\": \"{B}\"}}', true)", own=False,
    ),
    "a claim within the tenant": Case(
        f"tenant_id = {T} AND name = current_setting('request.jwt.claims', true)::json ->> 'sub'", PROVEN,
        before="SELECT set_config('request.jwt.claims', '{\"sub\": \"mine\", \"role\": \"staff\"}', true)",
    ),
    "staff by a claim": Case(
        f"tenant_id = {T} OR current_setting('request.jwt.claims', true)::json ->> 'role' = 'staff'", GATED,
        leaks=True, before="SELECT set_config('request.jwt.claims', '{\"role\": \"staff\"}', true)",
    ),
    "a column called user": Case('tenant_id::text = "user"', UNPROVEN, leaks=True),
    "shadowed function": Case("tenant_id = x.current_setting('app.current_tenant')::uuid", UNPROVEN, leaks=True,
                              own=False),
    "a second open policy": Case(
        f"tenant_id = {T}", PROVEN, leaks=True, beside="CREATE POLICY o ON {t} USING (true)"
    ),
    "held for writing only": Case(
        "true", OPEN, leaks=True, beside=f"CREATE POLICY r ON {{t}} AS RESTRICTIVE WITH CHECK (tenant_id = {T})"
    ),
    "held for another role only": Case(
        "true", OPEN, leaks=True,
        beside=f"CREATE POLICY r ON {{t}} AS RESTRICTIVE TO {{other}} USING (tenant_id = {T})",
    ),
}  # fmt: skip
HELD_BY_ANOTHER = {"open, held by a restrictive one", "staff, held by a restrictive one"}
OPENED_BY_ANOTHER = {"a second open policy"}
RULES = {OPEN: {"TN104", "TN105"}, GATED: {"TN111", "TN117"}, UNPROVEN: {"TN109"}, FOREIGN: {"TN112", "TN117"}}
POLICY_RULES = {"TN104", "TN105", "TN108", "TN109", "TN111", "TN112", "TN117"}


async def build(
    connection: Connection, role: str, other: str, kind: str, tenants: tuple[str, str], cases: dict[str, Case]
) -> None:
    """A table for each case, with rows of both tenants: some that look like the other's."""
    a, b = map(literal, tenants)
    await connection.execute(
        f"GRANT USAGE ON SCHEMA x TO {identifier(role)}; CREATE FUNCTION x.current_setting(text) RETURNS text "
        f"LANGUAGE sql STABLE AS $$ SELECT '{tenants[1]}'::text $$;"
    )
    for number, case in enumerate(cases.values()):
        table = f"x.t{number}"
        using = case.using.replace("{t}", f"t{number}")
        beside = case.beside.replace("{t}", table).replace("{other}", identifier(other))
        await connection.execute(
            f"CREATE TABLE {table} (tenant_id {kind}, id bigint, name text, staff text, other {kind},"
            ' "user" text);'
            f"INSERT INTO {table} VALUES ({a}, 1, 'mine', NULL, {b}, {a}), ({a}, 2, 'mine', {b}, {a}, {a}),"
            f" ({b}, 3, 'secret', NULL, {a}, {b}), ({b}, 4, {a}, {a}, {a}, {b}), ({b}, 5, NULL, 'on', {b}, {b});"
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY; ALTER TABLE {table} FORCE ROW LEVEL SECURITY;"
            f"CREATE POLICY p ON {table} USING ({using}); {beside};"
            f"GRANT SELECT, INSERT ON {table} TO {identifier(role)}"
        )


async def seen(
    connection: Connection, role: str, number: int, tenants: tuple[str, str], case: Case
) -> tuple[bool, bool, bool]:
    """Whether a scope of A sees B's rows, sees its own, and can plant a row of B's."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
        await connection.execute("SELECT tenantry.bind($1)", tenants[0])
        if case.before:
            await connection.execute(case.before)
        found = {row["id"] for row in await connection.fetch(f"SELECT tenant_id::text AS id FROM x.t{number}")}
        try:
            async with connection.transaction():
                await connection.execute(f"INSERT INTO x.t{number} VALUES ({literal(tenants[1])}, 9)")
            planted = True
        except asyncpg.InsufficientPrivilegeError:
            planted = False
        return tenants[1] in found, tenants[0] in found, planted
    finally:
        await transaction.rollback()


async def check(
    connection: Connection, role: str, tenancy: Tenancy, tenants: tuple[str, str], cases: dict[str, Case]
) -> None:
    """PostgreSQL does what the table says, and the audit says what PostgreSQL does."""
    catalog = await read(connection)
    facts = Facts(catalog, tenancy, role)
    report = audit(catalog, tenancy, role=role)
    done, said, wrong = {}, {}, []
    for number, (name, case) in enumerate(cases.items()):
        leaks, own, planted = await seen(connection, role, number, tenants, case)
        (relation,) = [one for one in catalog.relations.values() if one.key == f"x.t{number}"]
        (policy,) = [one for one in catalog.policies[relation.oid] if one.name == "p"]
        done[name] = (leaks, own)
        said[name] = facts.policy_set.verdict(policy, "select")
        codes = {f.rule.code for f in report.findings if f.object.startswith(f"x.t{number}.")} & POLICY_RULES
        isolates = (case.wanted is PROVEN and name not in OPENED_BY_ANOTHER) or name in HELD_BY_ANOTHER
        shared = {"TN104"} if name == "rows of nobody" else set()  # everybody may change them
        fine = codes <= shared if isolates else bool(codes & RULES.get(case.wanted, {"TN105"}))
        wrong += [] if fine else [(name, codes)]
        if isolates:
            assert not planted, f"{name}: what the audit passes lets a row of another tenant be written"
    assert not wrong, "\n".join(map(str, wrong))
    assert [(n, done[n]) for n, c in cases.items() if done[n] != (c.leaks, c.own)] == []
    assert [(n, said[n].name) for n, c in cases.items() if said[n] is not c.wanted] == []
    unsound = [n for n, c in cases.items() if c.leaks and c.wanted is PROVEN and n not in OPENED_BY_ANOTHER]
    assert unsound == []


async def test_the_audit_passes_only_what_isolates_in_postgresql(
    connection: Connection, role: str, other_role: str
) -> None:
    await install(connection, IdType.UUID)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await enroll(connection, A, B)
    part = str(list(CASES).index("part of a parameter called as the table"))
    await connection.execute(f"CREATE SCHEMA x; {HELPERS.replace(PART, part)}")
    await connection.execute(
        f"INSERT INTO x.members VALUES ('{B}', '{A}', {literal(role)}), ('{A}', '{A}', {literal(role)}),"
        f" ('{B}', '{B}', 'x'); INSERT INTO x.parents VALUES ('{A}', 1), ('{B}', 2);"
        f"GRANT SELECT ON x.members, x.parents TO {identifier(role)}"
    )
    await build(connection, role, other_role, "uuid", (A, B), CASES)
    await check(connection, role, Tenancy(tables={"x.members": "ignore"}), (A, B), CASES)


NAMED = f"nullif({S}, '')"
TEXTS = {
    "text": Case(f"tenant_id = {NAMED}", PROVEN),
    "text as varchar": Case(f"tenant_id::varchar = {NAMED}::varchar", PROVEN),
    "exact collation": Case(f"tenant_id = ({NAMED} COLLATE \"C\")", PROVEN),
    "cut": Case(f"tenant_id::varchar(2) = {NAMED}::varchar(2)", UNPROVEN, leaks=True),
    "cut setting": Case(f"tenant_id = {NAMED}::varchar(40)", UNPROVEN),
    "padded": Case(f"tenant_id::char(9) = {NAMED}::char(9)", UNPROVEN),
    "cut as name": Case(f"tenant_id::name = {NAMED}::name", UNPROVEN),
    "lower": Case(f"lower(tenant_id) = lower({NAMED})", UNPROVEN, leaks=True),
    "lower setting": Case(f"tenant_id = lower({NAMED})", UNPROVEN, leaks=True, own=False),
    "trimmed": Case(f"tenant_id = btrim({NAMED})", UNPROVEN),
    "list of ids": Case(f"tenant_id = ANY (string_to_array({NAMED}, 'C'))", UNPROVEN, own=False),
    "own operator": Case(f"tenant_id OPERATOR(x.=) {NAMED}", UNPROVEN, leaks=True),
}  # fmt: skip


async def test_ids_of_text_that_are_equal_to_something_else_are_not_proven(
    connection: Connection, role: str, other_role: str
) -> None:
    tenants = ("ACME", "acme")
    await install(connection, IdType.TEXT)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await enroll(connection, *tenants)
    await connection.execute(
        "CREATE SCHEMA x;"
        "CREATE FUNCTION x.always(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true';"
        "CREATE OPERATOR x.= (LEFTARG = text, RIGHTARG = text, FUNCTION = x.always)"
    )
    cut = {**TEXTS, "cut": TEXTS["cut"]._replace(leaks=False)}  # ACME and acme differ in their first letters
    await build(connection, role, other_role, "text", tenants, cut)
    await check(connection, role, Tenancy(id_type=IdType.TEXT), tenants, cut)


def test_the_table_is_as_large_as_promised() -> None:
    assert len(CASES) + len(TEXTS) >= 80
    assert len([case for case in CASES.values() if case.leaks]) >= 30


@pytest.mark.parametrize("fix", ["TN109"])
async def test_the_fix_of_an_unproven_policy_keeps_it_and_proves_the_table(
    connection: Connection, role: str, fix: str
) -> None:
    await install(connection, IdType.UUID)
    await connection.execute(
        'CREATE SCHEMA "My App"; CREATE TABLE "My App"."T\'s" ("Tenant""Id" uuid NOT NULL, id int PRIMARY KEY);'
        'ALTER TABLE "My App"."T\'s" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;'
        f'CREATE POLICY p ON "My App"."T\'s" USING (ARRAY["Tenant""Id"] <@ ARRAY[{T}])'
    )
    tenancy = Tenancy(tables={"My App.T's": 'Tenant"Id'})

    async def found() -> list[tuple[str, ...]]:
        report = audit(await read(connection), tenancy, role=role)
        return [one.fix for one in report.findings if one.rule.code == fix]

    (statements,) = await found()
    for statement in statements:
        await connection.execute(statement)
    assert await found() == []
