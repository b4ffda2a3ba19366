"""What a database has beside its tables, as the catalogs have it."""

from __future__ import annotations

from dataclasses import replace

from tenantry import sql
from tenantry.move.plan import Creation
from tenantry.move.session import Connection
from tenantry.move.surroundings import Surrounding, missing_settings, roles_with_settings


async def read(connection: Connection) -> tuple[Surrounding, ...]:
    """Read one end."""
    return tuple(Surrounding(*row) for row in await connection.fetch(sql.query("move/surroundings")))


async def application_roles(connection: Connection, *, installed: bool) -> tuple[str, ...]:
    """The roles that may bind tenants."""
    if not installed:
        return ()
    return tuple(row["role"] for row in await connection.fetch(sql.query("move/application_roles")))


def of_server(lines: tuple[Surrounding, ...]) -> tuple[Surrounding, ...]:
    """What a database that is made on this server has from its beginning."""
    return tuple(line for line in lines if line.kind == "setting" and not line.name.startswith("here"))


def dressed(
    creation: Creation,
    ours: tuple[Surrounding, ...],
    theirs: tuple[Surrounding, ...],
    roles: set[str],
    *,
    application: tuple[str, ...],
    setting: str,
) -> Creation:
    """The database to be made, with the settings that roles have at the source and would not have there.

    `roles`: those of its server. The tenant's `setting` is no database's to set.
    """
    database = tuple(Surrounding("setting", "here ", line, "") for line in creation.settings)
    asked = (roles_with_settings(ours) | set(application)) & roles
    missing = missing_settings(ours, (*theirs, *database), asked, but=setting)
    return replace(creation, role_settings=tuple((one.role, one.name, one.value) for one in missing))
