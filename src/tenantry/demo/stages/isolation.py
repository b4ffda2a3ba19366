"""What mistakes get: a forgotten WHERE, a write into another customer's rows, a connection without a scope."""

from __future__ import annotations

from typing import Any

import asyncpg

from tenantry.demo.product import HEAVY, TABLES, Customer, named
from tenantry.demo.stage import Demo
from tenantry.demo.world import APP, SHARED
from tenantry.errors import InvalidTenantId
from tenantry.runtime.sqlstates import INSUFFICIENT_PRIVILEGE

#: Whose developer makes the mistakes, and at whose expense they would be.
CLUMSY = "olive"
VICTIM = HEAVY

_READ = "SELECT count(*) AS rows, count(DISTINCT tenant_id) AS customers FROM request_log"
_WRITE = "UPDATE routes SET rate_limit = 1"
_INSERT = "INSERT INTO consumers (tenant_id, id, api_key, name) VALUES ($1, 999999, 'stolen', 'stolen')"
_HIJACK = "UPDATE routes SET tenant_id = $1 WHERE id = 1"
_REACH = "UPDATE routes SET rate_limit = 0 WHERE tenant_id = $1"


async def run(demo: Demo) -> None:
    """The three mistakes."""
    clumsy, victim = named(CLUMSY), named(VICTIM)
    await _forgotten_where(demo, clumsy)
    await _cross_tenant_write(demo, clumsy, victim)
    await _no_scope(demo)


async def _forgotten_where(demo: Demo, clumsy: Customer) -> None:
    section = demo.story.section("forgotten_where", "A forgotten WHERE")
    section.claim("Forgetting a WHERE is not a breach: a scope sees and changes its own customer's rows only.")
    section.did(f"As {clumsy.name}, one of the small ones, without any WHERE:")
    section.quote(f"{_READ}\n{_WRITE}")
    async with demo.router.operator(reason="demo: count everybody's rows", readonly=True) as everybody:
        rows = await everybody.fetch("SELECT tenant_id, count(*) AS rows FROM request_log GROUP BY 1")
    everywhere = sum(row["rows"] for row in rows)
    own = sum(row["rows"] for row in rows if row["tenant_id"] == clumsy.id)
    async with demo.router.tenant(clumsy.id) as connection:
        read = await connection.fetchrow(_READ)
        written = int((await connection.execute(_WRITE)).split()[-1])
    async with demo.router.operator(reason="demo: whose routes changed", readonly=True) as everybody:
        changed = await everybody.fetch(
            "SELECT tenant_id, count(*) AS rows FROM routes WHERE rate_limit = 1 GROUP BY 1"
        )
    others = sum(row["rows"] for row in changed if row["tenant_id"] != clumsy.id)
    section.saw(
        f"The table has {everywhere:,} rows of {len(rows)} customers (counted by the operator's role); the query "
        f"returned {read['rows']:,}, all of {read['customers']} customer. The update changed {written} routes; "
        f"{others} of other customers."
    )
    section.check(
        read["rows"] == own > 0 and read["customers"] == 1 and len(rows) > 1,
        f"the read got exactly {clumsy.name}'s own {own:,} rows",
    )
    section.check(
        written == clumsy.routes and others == 0, f"the write changed exactly {clumsy.name}'s own {written} routes"
    )
    section.facts(
        rows_in_table=everywhere,
        customers_in_table=len(rows),
        rows_returned=read["rows"],
        rows_of_others_returned=read["rows"] - own,
        rows_changed=written,
        rows_of_others_changed=others,
    )


async def _cross_tenant_write(demo: Demo, clumsy: Customer, victim: Customer) -> None:
    section = demo.story.section("cross_tenant_write", "A write into another customer's rows")
    section.claim("Not even SQL that names another customer on purpose gets through.")
    section.did(f"As {clumsy.name}, with {victim.name}'s id as $1:")
    section.quote(f"{_INSERT}\n{_HIJACK}\n{_REACH}")
    errors = [
        await _refusal(demo, clumsy, _INSERT, victim.id),
        await _refusal(demo, clumsy, _HIJACK, victim.id),
    ]
    reached = int((await demo.router.execute(clumsy.id, _REACH, victim.id)).split()[-1])
    section.saw("PostgreSQL's own words:")
    section.quote("\n".join(f"{error.sqlstate}  {error}" if error else "no error!" for error in errors))
    section.saw(f"The third found no such row: {reached} changed.")
    section.check(
        all(error is not None and error.sqlstate == INSUFFICIENT_PRIVILEGE for error in errors) and reached == 0,
        "both writes were refused, the third touched nothing",
    )
    section.facts(
        errors=[str(error) for error in errors],
        sqlstates=[error.sqlstate if error else None for error in errors],
        rows_reached=reached,
    )


async def _refusal(demo: Demo, customer: Customer, statement: str, *args: Any) -> asyncpg.PostgresError | None:
    try:
        await demo.router.execute(customer.id, statement, *args)
    except asyncpg.PostgresError as error:
        return error
    return None


async def _no_scope(demo: Demo) -> None:
    section = demo.story.section("no_scope", "No customer, no rows")
    section.claim(
        "A connection that is bound to no customer sees nothing, and gets no error either; the router, asked "
        "without a customer, says so at once."
    )
    section.did(
        f"A plain connection as the service's role {APP!r}, past the router; and the router without an id."
    )
    counts = {}
    async with demo.world.connection(SHARED, APP) as connection:
        for table in TABLES:
            counts[table] = await connection.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608  (our names)
    section.saw("Rows seen: " + ", ".join(f"{table} {count}" for table, count in counts.items()) + ".")
    nobody: Any = None
    message = ""
    try:
        await demo.router.fetch(nobody, "SELECT 1")
    except InvalidTenantId as error:
        message = str(error)
    section.quote(f"InvalidTenantId: {message}" if message else "no error!")
    section.check(not any(counts.values()), "unscoped, every table is empty")
    section.check(bool(message), "the router refuses to guess")
    section.facts(rows_seen=counts, router_error=message)
