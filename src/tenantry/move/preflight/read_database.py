"""Whether a database is there, and how one has to be made to be like another."""

from __future__ import annotations

from tenantry import sql
from tenantry.move.plan import Creation
from tenantry.move.session import Connection, Endpoint, session


async def exists(endpoint: Endpoint) -> bool:
    """Whether the database exists. Asked of its server only where the mover may make it."""
    if endpoint.server_dsn is None:
        return True
    async with session(endpoint.server, "look", row_security="on") as target:
        return await has_database(target, endpoint.database)


async def read_template(source: Connection, target: Connection, name: str) -> Creation:
    """How the database has to be made to be like the one of `here`, on the server of `there`."""
    model = (await source.fetch(sql.query("move/database")))[0]
    roles = {row["rolname"] for row in await target.fetch("SELECT rolname::text FROM pg_roles")}
    me = await target.fetchrow("SELECT rolname::text AS name, rolsuper FROM pg_roles WHERE rolname = current_user")
    assert me is not None
    owner = model["owner"] if me["rolsuper"] and model["owner"] in roles else me["name"]
    return Creation(
        name=name,
        owner=owner,
        encoding=model["encoding"],
        collate=model["collate"],
        ctype=model["ctype"],
        provider=model["provider"],
        locale=model["locale"],
        rules=model["rules"],
        guarded=model["guarded"],
        grants=tuple((role, privilege) for role, privilege in model["grants"] if role in roles or not role),
        settings=tuple(model["settings"]),
    )


async def has_database(server: Connection, name: str) -> bool:
    """Whether a server has a database of this name."""
    return bool(await server.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name))
