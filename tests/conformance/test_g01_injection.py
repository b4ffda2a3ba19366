"""G1: SQL injected into a scope. In hardened mode nothing reaches another tenant; without it, setting the
tenant does, and only that: the threat model of docs/security.md says so, and this file holds it to its word.

Every attack runs in tenant A's scope, as the application role, on real connections, while tenant B has a scope
of its own open on another connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError, ScopeLost
from tenantry.ids import IdType
from tenantry.proof import database_key
from tests.conformance.attacks import ATTACKS, Attack
from tests.support.installing import HARDENED, SECRET
from tests.support.product import APP, Product, product_on

ROWS = 3


@asynccontextmanager
async def two_tenants(product: Product) -> AsyncIterator[tuple[Router, Any, Any]]:
    """A router, and two tenants with rows under the same keys."""
    async with product.open() as router:
        a, b = await product.signed_up(router, 2)
        for tenant, name in ((a, "mine"), (b, "secret of B")):
            async with router.tenant(tenant) as conn:
                await conn.executemany(
                    "INSERT INTO students (id, name) VALUES ($1, $2)",
                    [(n, f"{name} {n}") for n in range(1, ROWS + 1)],
                )
        yield router, a, b


async def reached(router: Router, a: Any, b: Any, attack: Attack, proof: str) -> bool:
    """Whether the attack saw a row of B."""
    words = {"A": a, "B": b, "proof": proof, "type": router.ids.value}
    seen: list[Any] = []
    try:
        async with router.tenant(a) as conn:
            for step in attack.steps:
                seen += await attempt(conn, step.format(**words) if "{" in step else step)
            raise UndoneError
    except (UndoneError, ScopeLost):
        pass
    return any("secret of B" in str(row) or row.get("tenant") == str(b) for row in seen)


class UndoneError(Exception):
    """Rolls the attack's scope back."""


async def attempt(conn: Any, step: str) -> list[Any]:
    """Run a step; what PostgreSQL refuses yields nothing, and the transaction goes on."""
    if step.startswith("COPY students TO"):
        lines = bytearray()

        async def keep(data: bytes) -> None:
            lines.extend(data)

        try:
            async with conn.transaction():
                await conn.copy_from_query("SELECT * FROM students", output=keep)
        except asyncpg.PostgresError:
            return []
        return [{"line": line} for line in lines.decode().splitlines()]
    single = ";" not in step or "$$" in step
    try:
        if not single:
            await conn.execute(step)
            return []
        if step.startswith(("SAVEPOINT", "ROLLBACK", "DECLARE", "FETCH", "SET", "RESET", "PREPARE")):
            return list(await conn.fetch(step))
        async with conn.transaction():
            return list(await conn.fetch(step))
    except (asyncpg.PostgresError, asyncpg.InterfaceError):
        return []


async def rows_of(product: Product, tenant: Any) -> list[Any]:
    async with product.admin() as admin:
        return list(
            await admin.fetch(
                "SELECT tenant_id::text, id, name FROM students WHERE tenant_id::text = $1 ORDER BY id",
                str(tenant),
            )
        )


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_every_attack_ends_as_the_threat_model_says(pg: EmbeddedServer, hardened: bool) -> None:
    with product_on(pg, hardened=hardened) as product:
        async with two_tenants(product) as (router, a, b):
            before = await rows_of(product, b)
            got_through = set()
            async with router.tenant(b) as accomplice:
                # The last thing that this connection did is the bind: pg_stat_activity shows it to the others.
                proof = await accomplice.fetchval("SELECT current_setting('tenantry.proof', true)") or ""
                for attack in ATTACKS:
                    if await reached(router, a, b, attack, proof):
                        got_through.add(attack.name)
            modes = {attack.name: attack.plain_holds for attack in ATTACKS}
            expected = set() if hardened else {name for name, holds in modes.items() if holds is False}
            either = set() if hardened else {name for name, holds in modes.items() if holds is None}
            assert sorted(got_through - expected - either) == []
            assert sorted(expected - got_through) == []
            assert await rows_of(product, b) == before, "rows of B were changed"
            assert len(ATTACKS) >= 40


async def test_the_injection_harness_sees_a_row_of_the_other_tenant_when_one_is_shown(
    pg18: EmbeddedServer,
) -> None:
    """The harness sees a row of B when one is shown to it."""
    with product_on(pg18) as product:
        async with two_tenants(product) as (router, a, b):
            shown = Attack("shown", ("SELECT '{B}'::text AS tenant_id, 'secret of B' AS name",))
            assert await reached(router, a, b, shown, "")


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
            assert await router.fetchval(a, "SELECT count(*) FROM students") == ROWS
            names = await router.fetch(b, "SELECT name FROM students")
            assert {row["name"].startswith("secret of B") for row in names} == {True}
