"""The target as a database of its own that is not there yet: made by the move, taken away by its abort.

It is made under a name that carries the move's id, stamped, and only then renamed. So at every instant either its
name or its stamp says whose it is, and whatever has the wanted name without the stamp is somebody else's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

import asyncpg

from tenantry.catalog.read import read_details
from tenantry.move import failpoints
from tenantry.move.context import MoveContext
from tenantry.move.errors import MoveStopped
from tenantry.move.plan import Creation, MovePlan
from tenantry.move.preflight.read_database import has_database
from tenantry.move.session import session
from tenantry.move.surroundings import setting_sql
from tenantry.runtime.sqltext import identifier, literal

#: Providers of locales, as pg_database spells them, and their keywords of CREATE DATABASE.
_PROVIDERS: Final = {"c": ("libc", ""), "i": ("icu", "ICU_LOCALE"), "b": ("builtin", "BUILTIN_LOCALE")}
_OURS: Final = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1"
_STRANGERS: Final = """
SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND application_name NOT LIKE 'tenantry%'
    AND backend_type = 'client backend'
"""


async def create(context: MoveContext) -> None:
    """Make the target, or find what this move has made of it."""
    plan, made = context.plan, context.plan.creation
    if made is None:
        return
    await context.journal.record_intent(plan.id, plan.target, "database", made.name)
    async with session(context.target.server, f"create {plan.id}", row_security="on") as server:
        if await has_database(server, made.name):
            if await server.fetchval(_OURS, made.name) != stamp(plan):
                raise MoveStopped(
                    plan.id,
                    f"a database {made.name} has appeared on the server of {plan.target} that this move did not "
                    "make; rename it, or abort and plan anew",
                )
            return
        building = _building(plan)
        if not await has_database(server, building):
            # A mover that was killed here has left its server process behind, which went on.
            with contextlib.suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                await server.execute(_create_sql(building, made))
        failpoints.reach("database.created")
        for statement in _dress_sql(building, made, stamp(plan)):
            await server.execute(statement)
        await server.execute(f"ALTER DATABASE {identifier(building)} RENAME TO {identifier(made.name)}")
    failpoints.reach("database.renamed")


async def is_ours(context: MoveContext) -> bool:
    """Whether the target that is there was made by this move; what is there otherwise is not to be touched."""
    made = context.plan.creation
    assert made is not None
    async with session(context.target.server, f"abort {context.plan.id}", row_security="on") as server:
        return bool(await server.fetchval(_OURS, made.name) == stamp(context.plan))


async def drop_unfinished(context: MoveContext) -> None:
    """Take away what was being made under the move's own name; nothing else of it is at the target."""
    plan = context.plan
    async with session(context.target.server, f"abort {plan.id}", row_security="on") as server:
        await server.execute(f"DROP DATABASE IF EXISTS {identifier(_building(plan))}")
    for kind, name in await context.journal.objects(plan.id, plan.target):
        await context.journal.record_removed(plan.id, plan.target, kind, name)


async def drop_if_unused(context: MoveContext) -> bool:
    """Drop the target that this move has made (`is_ours`), for an abort. False: it stays, and in the journal.

    It goes only while it is provably this move's alone: no tenant lives in it, it holds nothing but what the move
    brought, and nobody else is connected to it.
    """
    made = context.plan.creation
    assert made is not None
    if await _is_used(context):
        return False
    async with session(context.target.server, f"abort {context.plan.id}", row_security="on") as server:
        if await server.fetchval(_STRANGERS, made.name):
            return False
        await server.execute(f"DROP DATABASE {identifier(made.name)} WITH (FORCE)")
    await drop_unfinished(context)
    return True


async def _is_used(context: MoveContext) -> bool:
    """Whether the database holds what the move did not bring."""
    plan = context.plan
    carried = {table.quoted for table in (*plan.tables, *plan.references, *plan.once)}
    async with session(context.target, f"abort {plan.id}") as target:
        if await target.fetchval("SELECT to_regclass('tenantry.placement') IS NOT NULL"):
            query = (
                "SELECT EXISTS (SELECT FROM tenantry.placement AS p, tenantry.database_identity AS i "
                "WHERE p.database = i.name)"
            )
            if await target.fetchval(query):
                return True
        for table in (await read_details(target)).relations.values():
            # A partition's rows are its parent's.
            if table.kind not in ("r", "p", "f") or table.partition or table.sql in carried:
                continue
            if await target.fetchval(f"SELECT EXISTS (SELECT FROM {table.sql})"):  # noqa: S608  quoted
                return True
    return False


def stamp(plan: MovePlan) -> str:
    """The comment that tells whose a database is."""
    return f"made by tenantry's move {plan.id} for tenant {plan.tenant}"


def _building(plan: MovePlan) -> str:
    return f"tenantry_{plan.id}"


def _create_sql(name: str, made: Creation) -> str:
    """From template0: it has nothing of its own, and takes any encoding and locale."""
    provider, keyword = _PROVIDERS[made.provider]
    more = f" {keyword} = {literal(made.locale)}" if keyword and made.locale else ""
    more += f" ICU_RULES = {literal(made.rules)}" if made.rules else ""
    return (
        f"CREATE DATABASE {identifier(name)} OWNER = {identifier(made.owner)} TEMPLATE = template0 "
        f"ENCODING = {literal(made.encoding)} LC_COLLATE = {literal(made.collate)} "
        f"LC_CTYPE = {literal(made.ctype)} LOCALE_PROVIDER = {provider}{more}"
    )


def _dress_sql(name: str, made: Creation, comment: str) -> Iterator[str]:
    """What the source's database has and a dump of its schema does not bring: who may come in, and settings."""
    quoted = identifier(name)
    yield f"COMMENT ON DATABASE {quoted} IS {literal(comment)}"
    if made.guarded:
        yield f"REVOKE ALL ON DATABASE {quoted} FROM PUBLIC"
    for role, privilege in made.grants:
        yield f"GRANT {privilege} ON DATABASE {quoted} TO {identifier(role) if role else 'PUBLIC'}"
    for setting in made.settings:
        key, _, value = setting.partition("=")
        if value:
            yield setting_sql(name, "", key, value)
    for role, key, value in made.role_settings:
        yield setting_sql(name, role, key, value)
