"""The policies' form on Citus: one policy, which reads the mark of a bind, and no sub-select.

Citus itself is not here: a row of the catalog says that it is, so this is about what is generated, and that it
holds on PostgreSQL. What real Citus makes of it is tested in tests/integration/citus.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest

from tenantry.catalog.guards import unguarded
from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError
from tenantry.ids import IdType, Kind
from tenantry.isolation.apply import adopt
from tenantry.isolation.attacks import probe
from tenantry.isolation.audit import Severity, audit
from tenantry.isolation.plan import PolicyMode, plan
from tenantry.runtime.sqltext import identifier
from tenantry.schema import install_data
from tests.integration.isolation.conftest import Connection
from tests.support.citus import pretend

TENANCY = Tenancy(id_type=IdType.BIGINT)
TABLES = """
CREATE TABLE person (tenant_id bigint, id int, name text, PRIMARY KEY (tenant_id, id));
CREATE TABLE badge (tenant_id bigint NOT NULL, id int, person int, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, person) REFERENCES person (tenant_id, id));
CREATE TABLE local (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id));
INSERT INTO person SELECT t, n FROM generate_series(1, 2) AS t, generate_series(1, 5) AS n;
INSERT INTO badge SELECT tenant_id, id, id FROM person; INSERT INTO local SELECT tenant_id, id FROM person;
"""


async def installed(connection: Connection, role: str) -> None:
    await install_data(
        connection,
        name="shared",
        kind=Kind.SHARED,
        setting="app.current_tenant",
        id_type=IdType.BIGINT,
        application_role=role,
    )


@pytest.fixture
async def citus(pg18: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]) -> AsyncIterator[Connection]:
    """A database that says that it has Citus, with two tenants, brought to the standard; as superuser."""
    connection = await asyncpg.connect(pg18.dsn(make_database(pg18)))
    await connection.execute(
        "DO $$ BEGIN CREATE ROLE citus_form; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    )
    await connection.execute(TABLES)
    await pretend(connection, person="tenant_id", badge="tenant_id")
    await installed(connection, "citus_form")
    await connection.execute("INSERT INTO tenantry.placement (tenant, database, epoch) VALUES ('1', 'shared', 1)")
    await connection.execute("INSERT INTO tenantry.placement (tenant, database, epoch) VALUES ('2', 'shared', 1)")
    await adopt(connection, TENANCY, role="citus_form")
    yield connection
    await connection.close()


async def test_on_citus_no_policy_holds_a_sub_select_and_no_distribution_column_gets_a_default(
    citus: Connection,
) -> None:
    catalog = await read(citus)
    texts = [
        text for policies in catalog.policies.values() for p in policies for text in (p.using, p.check) if text
    ]
    assert len(texts) == 6
    assert not [text for text in texts if "SELECT" in text]
    defaults = {
        catalog.relations[oid].name: column.default
        for oid, columns in catalog.columns.items()
        for column in columns
        if column.name == "tenant_id" and catalog.relations[oid].schema == "public"
    }
    assert defaults == {"person": None, "badge": None, "local": "tenantry.current_tenant()"}


async def test_on_citus_the_plan_is_empty_once_applied_and_the_audit_finds_nothing(citus: Connection) -> None:
    catalog = await read(citus)
    assert plan(catalog, TENANCY, role="citus_form").steps == ()
    report = audit(catalog, TENANCY, role="citus_form")
    assert {f.key for f in report.findings if f.rule.severity is Severity.ERROR} <= {"TN502 server"}
    assert report.tables == 3
    async with citus.transaction():
        assert await unguarded(citus, TENANCY) == ()


async def test_on_citus_who_is_not_bound_sees_nothing_whatever_it_sets(citus: Connection) -> None:
    count = "SELECT count(*) FROM person"
    async with citus.transaction():
        await citus.execute("SELECT tenantry.bind('1')")
        await citus.execute(f"SET LOCAL ROLE {identifier('citus_form')}")
        assert await citus.fetchval(count) == 5
        assert await citus.fetchval("SELECT count(*) FROM local") == 5
        await citus.execute("SET LOCAL app.current_tenant = '2'")
        assert await citus.fetchval(count) == 0, "the mark is of another tenant"
    async with citus.transaction():
        await citus.execute(f"SET LOCAL ROLE {identifier('citus_form')}; SET LOCAL app.current_tenant = '1'")
        assert await citus.fetchval(count) == 0, "nothing has bound"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with citus.transaction():
                await citus.execute("INSERT INTO person (tenant_id, id) VALUES (1, 99)")


async def test_on_citus_the_probe_breaks_nothing(citus: Connection) -> None:
    report = await probe(citus, await read(citus), TENANCY, "citus_form")
    assert report.passed, str(report)


USUAL = """
DROP POLICY tenantry_tenant ON person;
CREATE POLICY tenantry_tenant ON person
    USING (tenant_id = nullif(current_setting('app.current_tenant', true), '')::bigint);
CREATE POLICY tenantry_guard ON person AS RESTRICTIVE
    USING ((SELECT tenantry.admitted())) WITH CHECK ((SELECT tenantry.admitted()))
"""


async def test_policies_of_the_usual_form_are_replaced_where_citus_came_later(citus: Connection) -> None:
    await citus.execute(USUAL)
    async with citus.transaction():
        assert await unguarded(citus, TENANCY) == ("public.person",)
    steps = plan(await read(citus), TENANCY, role="citus_form").steps
    assert [(step.object, step.kind) for step in steps] == [("public.person", "policy")]
    await adopt(citus, TENANCY, role="citus_form")
    assert plan(await read(citus), TENANCY, role="citus_form").steps == ()
    async with citus.transaction():
        assert await unguarded(citus, TENANCY) == ()


async def test_a_restrictive_policy_of_a_distributed_table_is_an_error_because_its_shards_have_it_permissive(
    citus: Connection,
) -> None:
    await citus.execute("CREATE POLICY adults ON person AS RESTRICTIVE USING (id > 0)")
    await citus.execute("CREATE POLICY adults ON local AS RESTRICTIVE USING (id > 0)")
    report = audit(await read(citus), TENANCY, role="citus_form")
    found = {f.key: f for f in report.findings if f.rule.code in ("TN105", "TN119", "TN116")}
    assert found.keys() == {"TN119 public.person.adults", "TN105 public.person.adults", "TN116 public.person"}
    for statement in found["TN119 public.person.adults"].fix:
        await citus.execute(statement)
    report = audit(await read(citus), TENANCY, role="citus_form")
    assert not [f.key for f in report.findings if f.rule.code in ("TN105", "TN119", "TN116")]


async def test_policies_of_the_products_own_are_left_to_a_decision_for_no_guard_can_hold_them(
    citus: Connection,
) -> None:
    await citus.execute("CREATE POLICY staff ON badge USING (current_user = 'staff')")
    decided = plan(await read(citus), TENANCY, role="citus_form")
    [asked] = decided.undecided
    assert (asked.object, asked.topic) == ("public.badge", "policy")
    assert "no guard can hold" in asked.problem
    template = asked.choices[0].splitlines()[1:]
    for statement in template:
        await citus.execute(statement)
    decided = plan(await read(citus), TENANCY, role="citus_form")
    assert (decided.steps, decided.undecided) == ((), ())


async def test_observing_is_refused_on_citus(citus: Connection) -> None:
    decided = plan(await read(citus), TENANCY, role="citus_form", mode=PolicyMode.OBSERVE)
    assert "no sub-select" in decided.undecided[0].problem
    assert not [step for step in decided.steps if step.kind == "policy"]


async def test_hardened_mode_is_refused_on_citus_by_plan_and_audit(citus: Connection) -> None:
    catalog, hardened = await read(citus), Tenancy(id_type=IdType.BIGINT, hardened=True)
    for ask in (plan, audit):
        with pytest.raises(ConfigError, match="not to be had on Citus"):
            ask(catalog, hardened)
