"""What the kits of a database keep, and what they say of the tenant that moves."""

from __future__ import annotations

from tenantry import kits, sql
from tenantry.move.preflight.facts import DEFAULT_PLAN, Kits
from tenantry.move.session import Connection


async def read(connection: Connection, tenant: str) -> Kits:
    """Read them, and what they say of the `tenant` that moves."""
    target = await kits.installed(connection)
    watched: set[tuple[str, str]] = set()
    for kit in {kits.QUOTAS, kits.AUDIT}.intersection(target):
        rows = await connection.fetch(sql.query(f"move/kit_{kit}"))
        watched |= {(kit, row["statement"]) for row in rows}
    if kits.QUOTAS not in target:
        return Kits(target, frozenset(watched))
    rows = await connection.fetch("SELECT plan, resource, max_rows FROM tenantry.quota_limit")
    own = await kits.limits_of(connection, tenant)
    return Kits(
        target,
        frozenset(watched),
        {(row["plan"], row["resource"]): row["max_rows"] for row in rows},
        own["quota_plan"][0][1] if own["quota_plan"] else DEFAULT_PLAN,
        frozenset(resource for _, resource, _ in own["quota_exception"]),
    )
