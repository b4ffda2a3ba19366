"""A tenant's standing, kept equal in the control database and in the database where the tenant lives.

The control row is what routers read, the data row what `tenantry.bind` obeys. Shutting a tenant out writes the
control row first, letting it in writes it last: whatever dies in between, nobody is let in by half, and the
command can be repeated.
"""

from __future__ import annotations

from typing import Any, Final

from tenantry.cli.session import Session
from tenantry.directory import TenantRow
from tenantry.errors import ConfigError, DatabaseUnavailable, UnknownTenant
from tenantry.router.driver import Connection
from tenantry.tenant import Kind

#: A tenant that is being moved meanwhile is followed so many times.
FOLLOW: Final = 5

_SUSPEND: Final = """
INSERT INTO tenantry.placement AS p (tenant, home, epoch, suspended)
SELECT $1, l.name, $2, $3 FROM tenantry.local AS l
ON CONFLICT (tenant) DO UPDATE SET suspended = excluded.suspended, changed_at = now()
RETURNING home
"""
# A tenant that was removed and comes back has a newer epoch; for every other this changes nothing.
_COME_BACK: Final = """
INSERT INTO tenantry.placement AS p (tenant, home, epoch)
SELECT $1, l.name, $2 FROM tenantry.local AS l
ON CONFLICT (tenant) DO UPDATE
SET home = excluded.home, epoch = excluded.epoch, suspended = false, changed_at = now()
WHERE p.epoch < excluded.epoch
"""


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
            await connection.execute(_COME_BACK, str(tenant), placement.epoch)
    row = await find(session, text)
    if not known:
        await session.store.record("tenant.added", session.actor, tenant=row.id, database=row.database)
    return row, not known


async def change(session: Session, row: TenantRow, state: str, reason: str | None) -> None:
    """Suspend, resume or remove a tenant, in both databases."""
    await _check_operator(session, row.database)
    if state != "active":
        await session.store.set_tenant(row.id, state=state)
    home = await _write_home(session, row, suspended=state != "active")
    if state == "active":
        await session.store.set_tenant(row.id, state=state)
    kind = {"active": "tenant.resumed"}.get(state, f"tenant.{state}")
    await session.store.record(kind, session.actor, tenant=row.id, database=home, reason=reason)


async def _check_operator(session: Session, name: str) -> None:
    """Before anything is written: can the second half be done at all?"""
    (await session.database(name)).require_operator_dsn()


async def _write_home(session: Session, row: TenantRow, *, suspended: bool) -> str:
    """Write the data row where the tenant lives; follow it if it is being moved. Returns the home's name."""
    name = row.database
    for _ in range(FOLLOW):
        async with session.operator(name) as connection:
            home: str = await connection.fetchval(_SUSPEND, row.id, row.epoch, suspended)
        if home == name:
            return home
        name = home
    raise DatabaseUnavailable(name, f"tenant {row.id} moves faster than it can be followed; try again")


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
            return await _placement(connection, row.id)
    except (ConfigError, DatabaseUnavailable) as error:
        return {"unknown": str(error)}


async def _placement(connection: Connection, tenant: str) -> dict[str, Any]:
    found = await connection.fetchrow(
        "SELECT home, epoch, suspended FROM tenantry.placement WHERE tenant = $1", tenant
    )
    return {"home": None, "epoch": None, "suspended": None} if found is None else dict(found)
