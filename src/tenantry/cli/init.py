"""`tenantry init`: the schema in the control and data databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import asyncpg
import typer

from tenantry import kits, sql
from tenantry.cli import exits
from tenantry.cli.apply import write_databases
from tenantry.cli.command import command
from tenantry.cli.render import Column
from tenantry.cli.session import Session
from tenantry.config import ResolvedDatabase, role_of
from tenantry.directory import schema
from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.runtime.sqltext import identifier

COLUMNS = (
    Column("database"),
    Column("side"),
    Column("version", right=True),
    Column("applied"),
    Column("role", "GRANTED TO"),
    Column("error"),
)

WithOption = Annotated[
    str,
    typer.Option(
        "--with",
        envvar="TENANTRY_INIT_WITH",
        help=f"Kits for the data databases, joined by commas: {', '.join(kits.KITS)}.",
        show_default=False,
    ),
]


async def init(session: Session, wanted: WithOption = "") -> None:
    """Install or upgrade the tenantry schema in the control and data databases.

    Uses control.direct_dsn (or control.dsn) and each database's operator_dsn, and grants what a router needs to
    the role of its dsn. Writes the file's databases to the directory. Kits that a database has are upgraded with
    it, named or not. Running it again changes nothing.
    """
    named = kits.parse(wanted)
    for name in session.config.databases:
        session.in_file(name).require_operator_dsn()  # all of them, before anything is touched
    rows = [row async for row in _install(session, named)]
    session.out.rows(COLUMNS, rows)
    if any(row["error"] for row in rows):
        raise typer.Exit(exits.UNAVAILABLE)
    session.out.say("installed; `tenantry check` looks at the rest")


async def _install(session: Session, named: tuple[str, ...]) -> AsyncIterator[dict[str, Any]]:
    control = session.config.control
    service, installer = role_of(control.dsn.get_secret_value()), role_of(control.listen_dsn)
    async with session.control() as connection:
        applied = await schema.install_control(connection)
        if service != installer:
            await _grant_control(connection, service)
    yield _row("control", "control", applied, service)
    await write_databases(session)
    for database in (await session.databases()).values():
        yield await _install_data(session, database, named)


async def _grant_control(connection: Any, role: str) -> None:
    quoted = identifier(role)
    await connection.execute(sql.query("grant_control").replace(":role", quoted))


async def _install_data(session: Session, database: ResolvedDatabase, named: tuple[str, ...]) -> dict[str, Any]:
    """One row of the result: a database that is down does not keep the others waiting."""
    if database.dsn is None:
        return _row(database.name, "data", [], None, str(database.unreadable["dsn"]))
    role = role_of(database.dsn)
    try:
        async with session.connect(database.name, database.require_operator_dsn()) as connection:
            applied = await schema.install_data(
                connection,
                name=database.name,
                kind=database.kind,
                setting=session.config.tenancy.setting,
                id_type=session.config.tenancy.type,
                application_role=role,
                tenant=database.tenant,
                key=session.config.key(database.name),
            )
            had = await kits.installed(connection)
            await kits.install(connection, {*had, *named}, application_role=role)
            applied += [f"kit {kit}" for kit in named if kit not in had]
    except (DatabaseUnavailable, ConfigError) as error:  # the file's were looked at before
        if database.reference.startswith("server:") and isinstance(
            error.__context__, asyncpg.InvalidCatalogNameError
        ):
            return _row(database.name, "data", ["not there yet: a move creates it"], role)
        return _row(database.name, "data", [], role, str(error))
    return _row(database.name, "data", applied, role)


def _row(
    database: str, side: str, applied: list[str], role: str | None, error: str | None = None
) -> dict[str, Any]:
    version = None if error else sql.migrations(side)[-1].number
    return {
        "database": database,
        "side": side,
        "version": version,
        "applied": applied,
        "role": role,
        "error": error,
    }


def register(root: typer.Typer) -> None:
    """Add `init`."""
    command(root, "init")(init)
