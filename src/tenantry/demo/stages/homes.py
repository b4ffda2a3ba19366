"""One call, two homes: most customers share a database, one has its own."""

from __future__ import annotations

from tenantry.demo.product import HEAVY, OWNED, named
from tenantry.demo.stage import Demo
from tenantry.demo.world import SHARED

_WHERE = "SELECT current_database(), inet_server_port(), count(*) FROM request_log"


async def run(demo: Demo) -> None:
    """The same call for a customer of each kind."""
    section = demo.story.section("homes", "The same call, wherever the customer lives")
    section.claim("The service does not know which database a customer lives in; the router does.")
    section.did(f"The same query for {HEAVY} and for {OWNED}, which has a database of its own.")
    section.quote(f"await router.fetchrow(customer, '{_WHERE}')")
    seen = {}
    for name in (HEAVY, OWNED):
        customer = named(name)
        placement = await demo.router.placement(customer.id)
        database, port, rows = await demo.router.fetchrow(customer.id, _WHERE) or ("", 0, 0)
        seen[name] = (placement.database, port, rows)
        section.saw(
            f"{name}: the {placement.kind} database {placement.database!r} (PostgreSQL's {database!r} on port "
            f"{port}), {rows:,} log entries."
        )
    async with demo.world.connection(SHARED) as connection:
        stray = await connection.fetchval("SELECT count(*) FROM request_log WHERE tenant_id = $1", named(OWNED).id)
    section.check(
        seen[HEAVY][1] == demo.world.shared.port
        and seen[OWNED][1] == demo.world.other.port
        and seen[OWNED][2] > 0
        and stray == 0,
        f"two servers, and no row of {OWNED}'s in the shared database ({stray} found)",
    )
    section.facts(
        heavy_database=seen[HEAVY][0],
        own_database=seen[OWNED][0],
        own_rows=seen[OWNED][2],
        own_rows_in_shared=stray,
    )
