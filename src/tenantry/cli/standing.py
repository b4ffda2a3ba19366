"""A tenant's standing, kept equal in the control database and in the database where the tenant lives.

In which order the two are written, and why, stands in `directory.placements`.
"""

from __future__ import annotations

from typing import Any

from tenantry.cli.session import Session
from tenantry.directory import TenantRow, placements
from tenantry.errors import ConfigError, DatabaseUnavailable, UnknownTenant
from tenantry.ids import Kind


async def find(session: Session, text: str) -> TenantRow:
    """The directory's row.

    Raises:
        InvalidTenantId: not an id of the configured type.
        UnknownTenant: it isn't in the directory.
    """
    tenant = str(session.config.tenancy.type.parse(text))
    rows = await session.store.tenants([tenant])
    if tenant not in rows:
        raise UnknownTenant(tenant)
    return rows[tenant]


async def add(
    session: Session,
    text: str,
    database: str | None,
    plan: str | None,
    weight: float,
    limits: dict[str, int],
) -> tuple[TenantRow, bool]:
    """Sign a tenant up as a service does; the row, and whether it is new.

    Comes back from removal too: that needs the operator's role, since the application's can't undo it.
    """
    tenant = session.config.tenancy.type.parse(text)
    known = await session.store.tenants([str(tenant)])
    home = await home_for_new(session, database)
    placement = await session.router.add_tenant(tenant, plan=plan, database=home, weight=weight, limits=limits)
    if placement.epoch > 1 and not known:
        async with session.operator(placement.database) as connection:
            await placements.restore(connection, str(tenant), placement.epoch)
    row = await find(session, text)
    if not known:
        await session.store.record("tenant.added", session.actor, tenant=row.id, database=row.database)
    return row, not known


async def change(session: Session, row: TenantRow, state: str, reason: str | None) -> None:
    """Suspend, resume or remove a tenant, in both databases."""
    await _check_operator(session, row.database)
    home = await session.store.set_state(session.operator, row, state)
    kind = {"active": "tenant.resumed"}.get(state, f"tenant.{state}")
    await session.store.record(kind, session.actor, tenant=row.id, database=home, reason=reason)


async def _check_operator(session: Session, name: str) -> None:
    """Before anything is written: can the second half be done at all?"""
    (await session.database(name)).require_operator_dsn()


async def home_for_new(session: Session, database: str | None) -> str:
    """Where a new tenant lives when nothing is said: as `Router.add_tenant` decides.

    Raises:
        ConfigError: there is more than one choice, or none.
    """
    if database is not None:
        return (await session.database(database)).name
    if session.config.tenancy.default_database is not None:
        return session.config.tenancy.default_database
    shared = [d.name for d in (await session.databases()).values() if d.kind is Kind.SHARED]
    if len(shared) != 1:
        raise ConfigError(f"{len(shared)} shared databases: pass --database, or set tenancy.default_database")
    return shared[0]


async def seen_by_database(session: Session, row: TenantRow) -> dict[str, Any]:
    """What the tenant's database has of it; what can't be read is said, not raised."""
    try:
        async with session.operator(row.database) as connection:
            placed = await placements.read(connection, row.id)
    except (ConfigError, DatabaseUnavailable) as error:
        return {"unknown": str(error)}
    return {"home": None, "epoch": None, "suspended": None} if placed is None else placed._asdict()
