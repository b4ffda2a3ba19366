"""A configured database as the mover wants it, and databases that a move is to make on a server."""

from __future__ import annotations

from tenantry.cli.options import check_name
from tenantry.cli.session import Session
from tenantry.config import ResolvedDatabase, resolve
from tenantry.directory import DatabaseRow
from tenantry.errors import ConfigError
from tenantry.ids import Kind
from tenantry.move import Endpoint


def endpoint(session: Session, database: ResolvedDatabase) -> Endpoint:
    """What the mover is told of a database.

    Raises:
        ConfigError: no operator's role is configured for it.
        DsnUnreadable: its reference leads nowhere here.
    """
    section = database.section
    server = session.config.servers.get(section.server or "") if section else None
    reached = (server.direct_dsn or server.operator_dsn) if server else None
    return Endpoint(
        database.name,
        database.kind,
        database.require_operator_dsn(),
        key=session.config.key(database.name),
        server_dsn=None if reached is None else reached.get_secret_value(),
        disk=section.disk if section else None,
        server_disk=server.disk if server else None,
        autovacuum=section.autovacuum if section else {},
    )


async def target(session: Session, name: str) -> ResolvedDatabase:
    """The database to move to: a registered one, or a new one on the only server of the configuration.

    Raises:
        ConfigError: neither; or there are several servers.
    """
    known = await session.databases()
    servers = list(session.config.servers)
    if name in known or not servers:
        return await session.database(name)
    if len(servers) > 1:
        raise ConfigError(
            f"no database {name}, and {len(servers)} servers to make it on: say which by "
            f"`tenantry databases add {name} --kind dedicated --server {servers[0]}`"
        )
    check_name(name, "--to")
    row = DatabaseRow(name, Kind.DEDICATED, f"server:{servers[0]}", {})
    session.planned[name] = resolve(session.config, row)
    return session.planned[name]


async def register_planned(session: Session, name: str) -> None:
    """Write a planned database to the directory, before a move makes it: routers will look for it there."""
    database = session.planned.pop(name, None)
    if database is None:
        return
    await session.store.put_database(name, Kind.DEDICATED, database.reference)
    detail = {"kind": Kind.DEDICATED.value, "dsn": database.reference}
    await session.store.record("database.added", session.actor, database=name, detail=detail)
