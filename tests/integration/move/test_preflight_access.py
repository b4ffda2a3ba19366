"""Preflight compares what guards the tables of a target that has some already, and who may use them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from tenantry.ids import Kind
from tenantry.move import Endpoint, Mover, PreflightFinding
from tests.support.databases import drop_database, new_database
from tests.support.estate import SCHEMA, Estate
from tests.support.installing import make_data

CODES = ("policy-differs", "grant-missing", "trigger-differs", "role-missing")
BOUND = "nullif(current_setting('app.current_tenant', true), '')::uuid"
POLICY = f"USING (tenant_id = {BOUND})"
#: What was done to the target's tables, and what the finding is to say.
HARMS = {
    "no row-level security": ("ALTER TABLE entry DISABLE ROW LEVEL SECURITY", "policy-differs", "no ENABLE"),
    "not forced": ("ALTER TABLE entry NO FORCE ROW LEVEL SECURITY", "policy-differs", "no FORCE"),
    "no policies": (
        "DROP POLICY tenantry_tenant ON entry; DROP POLICY tenantry_guard ON entry",
        "policy-differs",
        "none there",
    ),
    "no tenant policy": ("DROP POLICY tenantry_tenant ON entry", "policy-differs", "entry"),
    "no guard": ("DROP POLICY tenantry_guard ON entry", "policy-differs", "entry"),
    "a guard that is none": ("ALTER POLICY tenantry_guard ON entry USING (true)", "policy-differs", "entry"),
    "an open policy beside": ("CREATE POLICY staff ON entry USING (true)", "policy-differs", "staff USING (true)"),
    "another column": (
        f"ALTER POLICY tenantry_tenant ON entry USING (op = {BOUND})",
        "policy-differs",
        "(op = ",
    ),
    "a check that lets others in": (
        "ALTER POLICY tenantry_tenant ON entry WITH CHECK (true)",
        "policy-differs",
        "entry",
    ),
    "for some roles": ("ALTER POLICY tenantry_tenant ON entry TO app", "policy-differs", "entry"),
    "no grant": ("REVOKE INSERT, DELETE ON entry FROM app", "grant-missing", "DELETE on"),
    "no grant on a reference table": ("REVOKE SELECT ON currency FROM app", "grant-missing", "currency"),
    "columns only": (
        "REVOKE UPDATE ON account FROM app; GRANT UPDATE (balance) ON account TO app",
        "grant-missing",
        "UPDATE on",
    ),
    "no grant on a sequence": ("REVOKE USAGE ON SEQUENCE entry_id_seq FROM app", "grant-missing", "entry_id_seq"),
    "no way into the schema": ("REVOKE ALL ON SCHEMA public FROM PUBLIC", "grant-missing", "SCHEMA public"),
    "no trigger": ("DROP TRIGGER checked ON entry", "trigger-differs", "trigger checked"),
    "a trigger turned off": ("ALTER TABLE entry DISABLE TRIGGER checked", "trigger-differs", "trigger checked"),
}
TRIGGER = (
    "CREATE TRIGGER checked BEFORE UPDATE ON entry "
    "FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
)


async def _install(dsn: str, name: str, kind: Kind, schema: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await make_data(connection, "app", name=name, kind=kind)
        await connection.execute(schema)
    finally:
        await connection.close()


def _with(estate: Estate, name: str, kind: Kind, schema: str) -> Iterator[tuple[Mover, str]]:
    """A mover that knows a database of this name and kind, with this schema by the operator's own hand."""
    database = new_database(estate.far, name)
    asyncio.run(_install(estate.far.dsn(database), name, kind, schema))
    ends = {**estate.endpoints, name: Endpoint(name, kind, estate.far.dsn(database))}
    estate.near.psql(
        f"INSERT INTO tenantry.database (name, kind, dsn) VALUES ('{name}', '{kind.value}', 'config') "
        "ON CONFLICT DO NOTHING",
        estate.control,
    )
    yield estate.mover(endpoints=ends), database
    drop_database(estate.far, database)


@pytest.fixture(scope="module")
def triggered(looked_at: Estate) -> Estate:
    looked_at.near.psql(TRIGGER, looked_at.shared)
    return looked_at


@pytest.fixture(scope="module")
def own(triggered: Estate) -> Iterator[tuple[Mover, str]]:
    yield from _with(triggered, "acme", Kind.DEDICATED, f"{SCHEMA.read_text()}; {TRIGGER}")


@pytest.fixture(scope="module")
def other(triggered: Estate) -> Iterator[tuple[Mover, str]]:
    yield from _with(triggered, "third", Kind.SHARED, f"{SCHEMA.read_text()}; {TRIGGER}")


async def _found(mover: Mover, estate: Estate, target: str) -> list[PreflightFinding]:
    plan = await mover.plan(estate.tenant, target)
    assert not plan.load_schema
    return [finding for finding in plan.findings if finding.code in CODES]


@pytest.mark.parametrize("harm", HARMS)
async def test_a_target_that_guards_less_or_grants_less_is_refused_and_the_fix_fixes_it(
    triggered: Estate, own: tuple[Mover, str], harm: str
) -> None:
    mover, database = own
    done, code, said = HARMS[harm]
    assert await _found(mover, triggered, "acme") == []
    triggered.far.psql(done, database)
    (finding,) = await _found(mover, triggered, "acme")
    assert (finding.code, finding.refuses) == (code, True)
    assert said in finding.problem
    triggered.far.psql(finding.fix, database)
    assert await _found(mover, triggered, "acme") == []


@pytest.mark.parametrize("harm", ["no row-level security", "no tenant policy", "an open policy beside"])
async def test_another_shared_database_that_would_show_rows_of_others_is_refused(
    triggered: Estate, other: tuple[Mover, str], harm: str
) -> None:
    mover, database = other
    assert await _found(mover, triggered, "third") == []
    fix = {
        "no row-level security": "ALTER TABLE entry ENABLE ROW LEVEL SECURITY",
        "no tenant policy": f"CREATE POLICY tenantry_tenant ON entry {POLICY}",
        "an open policy beside": "DROP POLICY staff ON entry",
    }
    triggered.far.psql(HARMS[harm][0], database)
    (finding,) = await _found(mover, triggered, "third")
    assert finding.refuses
    assert "tenantry rls apply --database third" in finding.fix
    triggered.far.psql(fix[harm], database)
    assert await _found(mover, triggered, "third") == []


#: Done at the target, and undone: nothing that leaks or that the product would miss.
HARMLESS = {
    "a policy of another name": (
        "ALTER POLICY tenantry_tenant ON entry RENAME TO mine",
        "ALTER POLICY mine ON entry RENAME TO tenantry_tenant",
        False,
    ),
    "a tenant policy of an earlier version": (
        f"DROP POLICY tenantry_guard ON entry; "
        f"ALTER POLICY tenantry_tenant ON entry USING (tenant_id = {BOUND} AND (SELECT tenantry.admitted())) "
        f"WITH CHECK (tenant_id = {BOUND} AND (SELECT tenantry.admitted()))",
        f"CREATE POLICY tenantry_guard ON entry AS RESTRICTIVE USING ((SELECT tenantry.admitted())); "
        f"ALTER POLICY tenantry_tenant ON entry {POLICY} WITH CHECK (tenant_id = {BOUND})",
        False,
    ),
    "the tenant policy in another form": (
        f"ALTER POLICY tenantry_tenant ON entry {POLICY.replace(BOUND, f'(SELECT {BOUND})')}",
        f"ALTER POLICY tenantry_tenant ON entry {POLICY}",
        True,
    ),
    "more grants": ("GRANT TRUNCATE ON entry TO app", "REVOKE TRUNCATE ON entry FROM app", False),
    "granted to everybody": (
        "GRANT SELECT ON currency TO PUBLIC; REVOKE ALL ON currency FROM app",
        "REVOKE ALL ON currency FROM PUBLIC; GRANT SELECT ON currency TO app",
        False,
    ),
    "a trigger more": (
        TRIGGER.replace("checked", "more"),
        "DROP TRIGGER more ON entry",
        True,
    ),
}


@pytest.mark.parametrize("change", HARMLESS)
async def test_what_neither_leaks_nor_breaks_the_product_stops_no_move(
    triggered: Estate, own: tuple[Mover, str], change: str
) -> None:
    mover, database = own
    done, undone, told = HARMLESS[change]
    triggered.far.psql(done, database)
    try:
        found = await _found(mover, triggered, "acme")
        assert [finding.refuses for finding in found] == [False] * told
    finally:
        triggered.far.psql(undone, database)
    assert await _found(mover, triggered, "acme") == []


async def test_a_role_of_reports_that_the_target_gives_nothing_is_told_and_stops_nothing(
    triggered: Estate, own: tuple[Mover, str]
) -> None:
    triggered.near.psql("GRANT SELECT ON entry TO pg_monitor", triggered.shared)
    mover, database = own
    try:
        (finding,) = await _found(mover, triggered, "acme")
        assert (finding.code, finding.refuses) == ("grant-missing", False)
        triggered.far.psql(finding.fix, database)
        assert await _found(mover, triggered, "acme") == []
    finally:
        triggered.near.psql("REVOKE SELECT ON entry FROM pg_monitor", triggered.shared)
        triggered.far.psql("REVOKE SELECT ON entry FROM pg_monitor", database)


async def test_a_target_whose_application_logs_in_by_another_name_is_told_and_not_stopped(
    triggered: Estate, own: tuple[Mover, str]
) -> None:
    mover, database = own
    everything = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"
    triggered.far.psql(f"CREATE ROLE app_acme; REVOKE {everything} FROM app", database)
    granted = f"GRANT {everything} TO app_acme; SELECT tenantry.grant_application('app_acme')"
    try:
        assert [finding.refuses for finding in await _found(mover, triggered, "acme")] == [True]
        granted += (
            "; GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app_acme; GRANT USAGE ON SCHEMA public TO app_acme"
        )
        triggered.far.psql(granted, database)
        assert [finding.refuses for finding in await _found(mover, triggered, "acme")] == [False]
        (finding,) = await _found(mover, triggered, "acme")
        triggered.far.psql(finding.fix, database)
        assert await _found(mover, triggered, "acme") == []
    finally:
        triggered.far.psql("DROP OWNED BY app_acme; DROP ROLE app_acme", database)
