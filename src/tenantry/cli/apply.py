"""`tenantry apply`: the file's databases, written to the directory."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tenantry.cli import exits
from tenantry.cli.command import command
from tenantry.cli.render import Column
from tenantry.cli.session import Session
from tenantry.config import ResolvedDatabase
from tenantry.directory import DatabaseRow
from tenantry.ids import Kind

COLUMNS = (
    Column("database"),
    Column("change"),
    Column("kind"),
    Column("dsn"),
    Column("settings"),
    Column("before"),
)
PlanOption = Annotated[bool, typer.Option("--plan", help="Only show what would change; exit 1 if anything would.")]


async def apply(session: Session, plan: PlanOption = False) -> None:
    """Write the file's databases to the directory, where routers and other processes find them.

    Databases that only the directory has are left alone: `tenantry databases remove` takes them out. Running it
    again changes nothing.
    """
    rows = await (compare(session) if plan else write_databases(session))
    session.out.rows(COLUMNS, rows)
    pending = [row for row in rows if row["change"] in ("add", "change")]
    if plan and pending:
        session.out.say(f"{len(pending)} would change; `tenantry apply` does it")
        raise typer.Exit(exits.FINDINGS)


async def compare(session: Session) -> list[dict[str, Any]]:
    """What would change, a row for each database of the file and of the directory."""
    there = {row.name: row for row in await session.store.databases()}
    rows = [difference(session.in_file(name), there.get(name)) for name in sorted(session.config.databases)]
    only = [row for name, row in there.items() if name not in session.config.databases]
    return rows + [
        {"database": r.name, "change": "only in directory", "kind": r.kind, "dsn": r.dsn, "settings": r.settings}
        for r in only
    ]


async def write_databases(session: Session) -> list[dict[str, Any]]:
    """Make the directory agree with the file.

    Raises:
        Refused: a database that holds several tenants would become a dedicated one.
    """
    rows = await compare(session)
    changing = [row for row in rows if row["change"] in ("add", "change")]
    await _refuse_crowded(session, changing)
    for row in changing:
        await session.store.put_database(row["database"], row["kind"], row["dsn"], row["settings"])
    if changing:
        names = {row["database"]: row["change"] for row in changing}
        await session.store.record("directory.applied", session.actor, detail={"databases": names})
    return rows


def difference(wanted: ResolvedDatabase, there: DatabaseRow | None) -> dict[str, Any]:
    """What writing `wanted` would change. Pure."""
    before = {} if there is None else {"kind": there.kind, "dsn": there.dsn, "settings": there.settings}
    settings = {**(there.settings if there else {}), **wanted.row_settings}
    after = {"kind": wanted.kind, "dsn": wanted.reference, "settings": settings}
    change = "add" if there is None else "same" if before == after else "change"
    changed = {key: value for key, value in before.items() if value != after[key]}
    return {"database": wanted.name, "change": change, **after, "before": changed}


async def _refuse_crowded(session: Session, changing: list[dict[str, Any]]) -> None:
    counts = await session.store.count_tenants()
    for row in changing:
        living = counts.get(row["database"], 0)
        if row["kind"] is Kind.DEDICATED and living > 1:
            raise exits.Refused(
                f"database {row['database']} holds {living} tenants, so it can't become a dedicated one; "
                "move them first (`tenantry move`), or leave its kind as it is"
            )


def register(root: typer.Typer) -> None:
    """Add `apply`."""
    command(root, "apply")(apply)
