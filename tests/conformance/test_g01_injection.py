"""G1 and G3: SQL injected into a scope. What it gets in either mode stands in `tests/conformance/attacks`, and in
the threat model of docs/explanation/security.md, made of it: here each attack is tried, and held to it both ways.

An attack runs in tenant A's scope, as the application role, on real connections, while tenant B has a scope of its
own open on another connection; then B works on the same server process.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer, versions
from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.proof import database_key
from tests.conformance.attacks import KINDS
from tests.conformance.attacks.attack import NOTHING, SECRET_OF_B, Attack, Gain, Gains, Kind
from tests.conformance.attacks.run import Stage, gains, stage
from tests.support.installing import HARDENED, SECRET
from tests.support.pgbouncer import PgBouncer
from tests.support.product import APP, Product, product_on
from tests.support.programs import missing

MODES = {"plain": False, "hardened": True}
#: Each server in both modes, straight; and behind PgBouncer what means something else there.
WORLDS = [
    *(f"{version}-{mode}-direct" for version in (15, 16, 18) for mode in MODES),
    *(f"18-{mode}-pgbouncer" for mode in MODES),
]
#: The newest server has every attack in every run; the older ones have one of each kind, and all with `make long`.
OLDER = [world for world in WORLDS if not world.startswith("18")]
CELLS = [
    pytest.param(world, kind, id=f"{world}: {kind.title}", marks=[pytest.mark.long] if world in OLDER else [])
    for world in WORLDS
    for kind in KINDS
    if int(world[:2]) in kind.servers and (kind.lingers or world.endswith("direct"))
]


@contextmanager
def made_for(request: pytest.FixtureRequest, world: str) -> Iterator[Product]:
    """The product of a world."""
    version, mode, way = world.split("-")
    server = request.getfixturevalue(f"pg{version}")
    with product_on(server, hardened=MODES[mode]) as product:
        if way == "direct":
            yield product
            return
        with PgBouncer.start(server, "transaction", pool_size=4) as bouncer:
            yield product.behind(bouncer.instead)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("world", "kind"), CELLS)
async def test_every_attack_ends_as_the_threat_model_says(
    request: pytest.FixtureRequest, world: str, kind: Kind
) -> None:
    with made_for(request, world) as product:
        async with stage(product) as made:
            assert await unexpected(made, kind, world) == {}


@pytest.mark.parametrize("world", OLDER)
async def test_on_older_servers_an_attack_of_each_kind_ends_as_the_threat_model_says(
    request: pytest.FixtureRequest, world: str
) -> None:
    """Each world tries another one."""
    tried, place = 0, OLDER.index(world)
    wrong: dict[str, tuple[Gains, Gains]] = {}
    with made_for(request, world) as product:
        async with stage(product) as made:
            for kind in KINDS:
                if int(world[:2]) in kind.servers:
                    one = kind._replace(attacks=(kind.attacks[place % len(kind.attacks)],))
                    wrong |= await unexpected(made, one, world)
                    tried += 1
    assert wrong == {}
    assert tried >= 20


async def unexpected(made: Stage, kind: Kind, world: str) -> dict[str, tuple[Gains, Gains]]:
    """What attacks got that got something else than the threat model says, and what it says."""
    expected = kind.hardened if "-hardened-" in world else kind.plain
    got = await gains(made, kind)
    if kind.depends:
        got = {name: gained | expected for name, gained in got.items()}
    return {name: (gained, expected) for name, gained in got.items() if gained != expected}


def test_the_attacks_are_many_and_named_apart() -> None:
    names = [(kind.title, attack.name) for kind in KINDS for attack in kind.attacks]
    assert len(names) == len(set(names))
    assert len(names) >= 200
    assert len({kind.title for kind in KINDS}) == len(KINDS)
    assert all(kind.why for kind in KINDS)


@pytest.mark.parametrize(
    ("attack", "gain"),
    [
        (Attack("shown", (f"SELECT '{SECRET_OF_B}'",)), Gain.READS),
        (Attack("shown later", (), loot=(f"SELECT '{SECRET_OF_B}'",)), Gain.READS),
        (
            Attack("shown by an error", (f"DO $$ BEGIN RAISE 'x' USING DETAIL = '{SECRET_OF_B}'; END $$",)),
            Gain.READS,
        ),
        (Attack("told", ("SELECT 'told: B has it'",)), Gain.TELLS),
        (Attack("changed", (), beside=("DELETE FROM students WHERE id = 1",)), Gain.WRITES),
        (
            Attack("disturbed", ("CREATE TEMP TABLE students (id real, name text)", "SELECT nearest(1)")),
            Gain.DISTURBS,
        ),
    ],
    ids=lambda value: value.name if isinstance(value, Attack) else "",
)
async def test_of_the_tests_each_gain_is_seen_when_there_is_one(
    pg18: EmbeddedServer, attack: Attack, gain: Gain
) -> None:
    with product_on(pg18) as product:
        async with stage(product) as made:
            found = await gains(made, Kind("of the tests", (attack,), fresh=True))
            assert gain in found[attack.name]
            assert await gains(made, Kind("nothing", (Attack("nothing", ("SELECT 1",)),))) == {"nothing": NOTHING}


@asynccontextmanager
async def two_tenants(product: Product) -> AsyncIterator[tuple[Router, Any, Any]]:
    """A router, and two tenants with rows under the same keys."""
    async with product.open() as router:
        a, b = await product.signed_up(router, 2)
        for tenant, name in ((a, "mine"), (b, SECRET_OF_B)):
            async with router.tenant(tenant) as conn:
                await conn.executemany(
                    "INSERT INTO students (id, name) VALUES ($1, $2)",
                    [(n, f"{name} {n}") for n in range(1, 4)],
                )
        yield router, a, b


async def test_no_proof_is_ever_shown_by_pg_stat_activity(pg: EmbeddedServer) -> None:
    with product_on(pg, hardened=True) as product:
        async with (
            two_tenants(product) as (router, a, b),
            router.tenant(a),
            router.tenant(b),
            product.admin() as admin,
        ):
            shown = await admin.fetch("SELECT query FROM pg_stat_activity WHERE usename = $1", APP)
            assert len(shown) >= 2
            assert not [row for row in shown if "bind" in row["query"]]


@pytest.mark.parametrize("parameters", ["0", "-1"], ids=["parameters not logged", "parameters logged"])
async def test_a_proof_stands_in_no_kept_statement_and_in_the_log_only_as_a_parameter(
    parameters: str,
) -> None:
    """On a server that keeps and logs whatever it can of statements: Debian's, which has the extension."""
    if 15 not in versions():
        missing("pg15", "PostgreSQL 15 (Debian's package postgresql-15) is not installed")
    settings = {
        "shared_preload_libraries": "pg_stat_statements",
        "pg_stat_statements.track": "all",
        "log_statement": "all",
        "log_parameter_max_length": parameters,
    }
    proof = re.compile("[0-9a-f]{64}")
    with EmbeddedServer.start(15, settings=settings) as server, product_on(server, hardened=True) as product:
        async with product.admin() as admin, product.open(pool={"max": 1}) as router:
            await admin.execute("CREATE EXTENSION pg_stat_statements")
            a, b = await product.signed_up(router, 2)
            for tenant in (a, b):
                await router.fetch(tenant, "SELECT count(*) FROM students")
            seen = await router.fetch(a, "SELECT query FROM pg_stat_statements")
            kept = await admin.fetch("SELECT query FROM pg_stat_statements")
        texts = [str(row["query"]) for row in (*seen, *kept) if "tenantry.enter(" in str(row["query"])]
        assert texts
        assert not [text for text in texts if proof.search(text)]
        lines = server.log_text().splitlines()
        calls = [line for line in lines if "tenantry.enter(" in line]
        assert calls
        assert not [line for line in calls if proof.search(line)]
        assert any("parameters: " in line and proof.search(line) for line in lines) == (parameters == "-1")


async def test_a_bind_proof_is_good_for_its_tenant_and_its_connection_only(pg: EmbeddedServer) -> None:
    from tenantry.proof import bind_proof

    with product_on(pg, hardened=True) as product:
        async with two_tenants(product) as (_, a, b):
            key = database_key(SECRET, "shared")
            first = await asyncpg.connect(product.dsn())
            second = await asyncpg.connect(product.dsn())
            try:
                proof = bind_proof(key, first.get_server_pid(), str(a))
                await first.execute(f"BEGIN; SELECT tenantry.bind('{a}', '{proof}'); COMMIT")
                for connection, tenant in ((second, a), (first, b)):
                    with pytest.raises(asyncpg.PostgresError) as refused:
                        await connection.execute(f"BEGIN; SELECT tenantry.bind('{tenant}', '{proof}')")
                    assert refused.value.sqlstate == "TN004"
                    await connection.execute("ROLLBACK")
            finally:
                await first.close()
                await second.close()


async def test_a_router_and_a_database_that_disagree_on_hardening_refuse_at_open(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        with pytest.raises(ConfigError, match=r"tenancy\.hardened"):
            async with product.open(tenancy=HARDENED):
                pass
        await product.harden()
        with pytest.raises(ConfigError, match=r"tenancy\.hardened"):
            async with product.open(tenancy={"hardened": False}):
                pass


@pytest.mark.parametrize("ids", list(IdType))
async def test_hardened_scopes_work_for_every_type_of_id(pg18: EmbeddedServer, ids: IdType) -> None:
    with product_on(pg18, ids, hardened=True) as product:
        async with two_tenants(product) as (router, a, b):
            assert await router.fetchval(a, "SELECT count(*) FROM students") == 3
            names = await router.fetch(b, "SELECT name FROM students")
            assert {row["name"].startswith("secret of B") for row in names} == {True}
