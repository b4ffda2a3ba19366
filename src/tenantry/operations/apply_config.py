"""The configuration's databases, written to the directory, where routers and other processes find them."""

from __future__ import annotations

from typing import Any, NamedTuple

from tenantry.config import ResolvedDatabase
from tenantry.config.databases import SITE
from tenantry.directory import DatabaseRow
from tenantry.errors import OperationRefused
from tenantry.ids import Kind
from tenantry.operations.context import Context


class DatabaseChange(NamedTuple):
    """What writing one database to the directory would change, or has changed."""

    database: str
    change: str
    """"add", "change", "same", or "only in directory": the configuration doesn't name it, and it is left alone."""
    kind: Kind
    dsn: str
    """The reference to the DSN."""
    settings: dict[str, Any]
    before: dict[str, Any] | None = None
    """What changes, as it was; None: nothing is compared."""

    @property
    def pending(self) -> bool:
        """Writing it would change something."""
        return self.change in ("add", "change")


async def compare(context: Context) -> tuple[DatabaseChange, ...]:
    """What would change, for each database of the configuration and of the directory."""
    there = {row.name: row for row in await context.store.databases()}
    ours = context.configured()
    changes = [difference(database, there.get(name)) for name, database in ours.items()]
    only = [row for name, row in there.items() if name not in ours]
    return (*changes, *(DatabaseChange(r.name, "only in directory", r.kind, r.dsn, r.settings) for r in only))


async def write(context: Context) -> tuple[DatabaseChange, ...]:
    """Make the directory agree with the configuration.

    Raises:
        OperationRefused: a database that holds several tenants would become a dedicated one.
    """
    changes = await compare(context)
    pending = [change for change in changes if change.pending]
    await _refuse_crowded(context, pending)
    for change in pending:
        await context.store.put_database(change.database, change.kind, change.dsn, change.settings)
    if pending:
        names = {change.database: change.change for change in pending}
        await context.store.record("directory.applied", context.actor, detail={"databases": names})
    return changes


def difference(wanted: ResolvedDatabase, there: DatabaseRow | None) -> DatabaseChange:
    """What writing `wanted` would change. Pure."""
    before = {} if there is None else {"kind": there.kind, "dsn": there.dsn, "settings": there.settings}
    kept = {key: value for key, value in (there.settings if there else {}).items() if key not in SITE}
    settings = {**kept, **wanted.row_settings}  # of its site the file says all, as what it leaves out
    after = {"kind": wanted.kind, "dsn": wanted.reference, "settings": settings}
    change = "add" if there is None else "same" if before == after else "change"
    changed = {key: value for key, value in before.items() if value != after[key]}
    return DatabaseChange(wanted.name, change, wanted.kind, wanted.reference, settings, changed)


async def _refuse_crowded(context: Context, pending: list[DatabaseChange]) -> None:
    counts = await context.store.count_tenants()
    for change in pending:
        living = counts.get(change.database, 0)
        if change.kind is Kind.DEDICATED and living > 1:
            raise OperationRefused(
                f"database {change.database} holds {living} tenants, so it can't become a dedicated one; "
                "move them first (`tenantry move`), or leave its kind as it is"
            )
