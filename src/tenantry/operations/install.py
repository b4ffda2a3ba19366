"""The tenantry schema, installed or upgraded in the control and data databases."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Collection
from typing import NamedTuple

import asyncpg

from tenantry import kits, schema, sql
from tenantry.catalog.values import Way
from tenantry.catalog.ways import problem
from tenantry.config import ResolvedDatabase, role_of
from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.operations import apply_config
from tenantry.operations.context import Context
from tenantry.router.driver import Connection
from tenantry.runtime.sqltext import identifier


class Installed(NamedTuple):
    """What was done in one database."""

    database: str
    side: str
    """"control" or "data"."""
    version: int | None
    """Number of the newest migration; None: it was not installed."""
    applied: tuple[str, ...]
    """Migrations, functions and kits that were not there before."""
    role: str | None
    """Was granted what a router needs."""
    error: str | None = None
    """Why it could not be done; None: it was."""
    warning: str | None = None
    """What is not as it should be, and works all the same."""


async def install(context: Context, wanted: Collection[str] = ()) -> AsyncIterator[Installed]:
    """Install or upgrade everywhere, and write the configuration's databases to the directory. Repeatable.

    A database that is down does not keep the others waiting.

    Args:
        wanted: kits for the data databases; those that a database has are upgraded in any case.

    Raises:
        ConfigError: a database of the configuration has no operator's role; nothing was touched.
        DatabaseUnavailable: the control database doesn't answer.
    """
    for database in context.configured().values():
        database.require_operator_dsn()  # all of them, before anything is touched
    control = context.config.control
    service, installer = role_of(control.dsn.get_secret_value()), role_of(control.listen_dsn)
    async with context.control() as connection:
        applied = await schema.install_control(connection)
        if service != installer:
            await schema.grant_control(connection, service)
    yield _done("control", "control", applied, service)
    await apply_config.write(context)
    for database in (await context.databases()).values():
        yield await _install_data(context, database, wanted)


async def _install_data(context: Context, database: ResolvedDatabase, wanted: Collection[str]) -> Installed:
    if database.dsn is None:
        return Installed(database.name, "data", None, (), None, str(database.unreadable["dsn"]))
    role = role_of(database.dsn)
    try:
        async with context.connect(database.name, database.require_operator_dsn()) as connection:
            applied = await schema.install_data(
                connection,
                name=database.name,
                kind=database.kind,
                setting=context.config.tenancy.setting,
                id_type=context.config.tenancy.type,
                application_role=role,
                tenant=database.tenant,
                key=context.config.key(database.name),
            )
            had = await kits.installed(connection)
            await kits.install(connection, {*had, *wanted}, application_role=role)
            applied += [f"kit {kit}" for kit in wanted if kit not in had]
            await _let_operators_be(connection, role, database.operator_dsn)
            warning = await _one_role(connection, role)
    except (DatabaseUnavailable, ConfigError) as error:  # the configuration's were looked at before
        if database.reference.startswith("server:") and isinstance(
            error.__context__, asyncpg.InvalidCatalogNameError
        ):
            return _done(database.name, "data", ["not there yet: a move creates it"], role)
        return Installed(database.name, "data", None, (), role, str(error))
    return _done(database.name, "data", applied, role)._replace(warning=warning)


async def _let_operators_be(connection: Connection, role: str, operator_dsn: str | None) -> None:
    """Let the operators' role become the scopes' (see `router.operators`), as far as that is ours to grant."""
    operator = None if operator_dsn is None else role_of(operator_dsn)
    if operator is None or await connection.fetchval(
        "SELECT pg_has_role($1::name, $2::name, 'MEMBER')", operator, role
    ):
        return
    with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
        async with connection.transaction():
            await connection.execute(f"GRANT {identifier(role)} TO {identifier(operator)}")


async def _one_role(connection: Connection, role: str) -> str | None:
    """Says so where the role of the scopes may use the control tables too."""
    rows = await connection.fetch(sql.query("catalog/ways"), None)
    found = [way for way in map(Way._make, rows) if (way.role, way.way) == (role, "directory")]
    return (
        f"role {role} {problem(found[0])}; docs/how-to/roles.md says how to part the two roles" if found else None
    )


def _done(database: str, side: str, applied: list[str], role: str) -> Installed:
    return Installed(database, side, schema.migrations(side)[-1].number, tuple(applied), role)
