"""Scopes per second for a one-row query: tenantry beside what teams use today, by turns on one server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from benchmarks import sides, stage
from benchmarks.contract import Options, Row, verdict
from benchmarks.rounds import Rates, Work, by_turns

CONNECTIONS: Final = 8
TENANTS: Final = 50
ROWS: Final = 200
TENANTRY, HARDENED, SHOT = "tenantry", "tenantry hardened", "tenantry one-shot"
#: Scopes per second to reach, by callers: against the hand-written wrapper, hardened against it, and against the
#: plain pool.
AIMS: Final[dict[int, tuple[float, float | None, float | None]]] = {
    1: (1.8, None, None),
    8: (1.8, 1.5, 0.95),
    32: (2.0, 1.5, 1.0),
    128: (2.0, 1.5, 1.0),
}
HAND, PLAIN = "hand-written wrapper", "plain asyncpg pool"
PSYCOPG, SQLALCHEMY, ROLES = "psycopg_pool", "SQLAlchemy", "sqlalchemy-tenants"


async def run(options: Options) -> list[Row]:
    """One row for each number of callers and bound."""
    rounds, seconds = (2, 0.2) if options.quick else (15, 0.6)
    with stage.server(options.version) as server:
        scene = await stage.prepare(server)
        fortress = await stage.prepare(server, "fortress", secret="benchmark " * 4)
        errands = await fill(scene)
        await fill_hardened(fortress)
        found = {}
        async with contestants(scene, fortress, errands) as (works, missing):
            for callers in AIMS:
                found[callers] = await by_turns(works, callers=callers, rounds=rounds, seconds=seconds)
    return rows(found, missing, f"{rounds} rounds of {seconds} s by turns, PostgreSQL {options.version}")


async def fill(scene: stage.Stage) -> sides.Errands:
    """The same rows for everybody, under the policy of each; returns who may be asked for what."""
    tenants = stage.tenant_ids(TENANTS)
    async with scene.owner() as connection:
        await stage.settle(connection, tenants)
        await stage.fill(connection, ("ours", "simple", "open", "by_role"), tenants, rows=ROWS)
        await stage.protect(connection, "ours")
        await stage.protect_simply(connection, "simple")
        await connection.execute(f"GRANT SELECT ON open TO {stage.APP}")
        await role_per_tenant(connection, [str(tenant) for tenant in tenants])
        await connection.execute("VACUUM ANALYZE")
    return [(tenants[(n * 31) % TENANTS], n * 17 % ROWS + 1) for n in range(TENANTS * 64)]


async def fill_hardened(scene: stage.Stage) -> None:
    """The same rows once more."""
    tenants = stage.tenant_ids(TENANTS)
    async with scene.owner() as connection:
        await stage.settle(connection, tenants)
        await stage.fill(connection, ("ours",), tenants, rows=ROWS)
        await stage.protect(connection, "ours", hardened=True)
        await connection.execute("VACUUM ANALYZE")


async def role_per_tenant(connection: Any, tenants: list[str]) -> None:
    """What sqlalchemy-tenants sets up: its function, its policy, a role for every tenant."""
    await connection.execute(
        "CREATE FUNCTION sqlalchemy_tenants_get_tenant() RETURNS text LANGUAGE sql SECURITY INVOKER STABLE "
        "AS $$ SELECT replace(current_user, 'tenant_', '') $$; "
        "ALTER TABLE by_role ENABLE ROW LEVEL SECURITY; "
        "CREATE POLICY sqlalchemy_tenants_all ON by_role "
        "USING (tenant_id = (SELECT sqlalchemy_tenants_get_tenant()::uuid))"
    )
    for tenant in tenants:
        role = f'"tenant_{tenant}"'
        await connection.execute(
            f"CREATE ROLE {role}; GRANT {role} TO {stage.APP}; GRANT SELECT ON by_role TO {role}"
        )


@asynccontextmanager
async def contestants(
    scene: stage.Stage, fortress: stage.Stage, errands: sides.Errands
) -> AsyncIterator[tuple[dict[str, Work], list[str]]]:
    """Everybody's pool, open and warm, and the names of those that are not installed here."""
    dsn = scene.app_dsn
    async with AsyncExitStack() as opened:
        works = {
            TENANTRY: await opened.enter_async_context(
                sides.tenantry(scene.config(size=CONNECTIONS), errands, "ours")
            ),
            HARDENED: await opened.enter_async_context(
                sides.tenantry(fortress.config(size=CONNECTIONS), errands, "ours")
            ),
            SHOT: await opened.enter_async_context(
                sides.one_shot(scene.config(size=CONNECTIONS), errands, "ours")
            ),
            HAND: await opened.enter_async_context(sides.handwritten(dsn, errands, "simple", CONNECTIONS)),
            PLAIN: await opened.enter_async_context(sides.plain(dsn, errands, "open", CONNECTIONS)),
        }
        missing = []
        others = (
            (PSYCOPG, sides.psycopg_pool, "simple"),
            (SQLALCHEMY, sides.sqlalchemy, "simple"),
            (ROLES, sides.sqlalchemy_tenants, "by_role"),
        )
        for name, side, table in others:
            try:
                works[name] = await opened.enter_async_context(side(dsn, errands, table, CONNECTIONS))
            except ImportError:
                missing.append(name)
        yield works, missing


def rows(found: dict[int, Rates], missing: list[str], how: str) -> list[Row]:
    """The table's lines."""
    lines = []
    for callers, rates in found.items():
        wrapper, hardened, plain = AIMS[callers]
        lines.append(line(rates, callers, TENANTRY, HAND, wrapper, missing, how))
        if plain is not None:
            lines.append(line(rates, callers, TENANTRY, PLAIN, plain, missing, how))
        if hardened is not None:
            lines.append(line(rates, callers, HARDENED, HAND, hardened, missing, how))
        if callers == 1:
            lines.append(line(rates, callers, SHOT, PLAIN, 1.0, missing, how))
    return lines


def line(rates: Rates, callers: int, side: str, base: str, bound: float, missing: list[str], how: str) -> Row:
    """One claim: `side` against `base`, and where the others stand."""
    ratio = rates.ratio(side, base)
    others = [f"{name} {rates.ratio(name, base):.2f} x" for name in rates.by_side if name not in (side, base)]
    others += [f"{name}: not installed here" for name in missing]
    return Row(
        claim=f"{side}: scopes per second, {callers} callers on {CONNECTIONS} connections, against the {base}",
        measured=f"{ratio:.2f} x ({rates.rate(side):,.0f}/s against {rates.rate(base):,.0f}/s)",
        bound=f"at least {bound} x",
        verdict=verdict(ratio >= bound),
        beside=", ".join(others),
        note=f"{how}; middle half of the rounds {rates.spread(side, base)}",
        figures={
            "ratio": round(ratio, 4),
            **{f"{name} per second": round(rates.rate(name), 1) for name in rates.by_side},
        },
    )
