"""What a migration looks at before anything is touched: every database can be had, and nobody moves there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.catalog.read import read_fingerprint
from tenantry.config import ResolvedDatabase
from tenantry.errors import ConfigError, DatabaseUnavailable, DsnUnreadable, OperationRefused, UnknownDatabase
from tenantry.operations.context import Context
from tenantry.operations.migrate.journal import MigrationJournal
from tenantry.operations.migrate.values import MigrateOptions
from tenantry.runtime.connection_errors import ANY_FAILURE

#: Databases asked at once.
_AT_ONCE: Final = 16
#: Problems that a refusal spells out; of others it says how many.
_NAMED: Final = 10
#: Seconds between two looks at moves that are waited for.
_AGAIN: Final = 1.0


class Ground(NamedTuple):
    """What was found of the databases."""

    databases: Mapping[str, ResolvedDatabase]
    """In their turns, the canary first."""
    absent: tuple[str, ...]
    """Registered, but not made yet."""
    fingerprints: Mapping[str, str]
    """Where they were asked for."""


class _Found(NamedTuple):
    name: str
    problem: str | None = None
    absent: bool = False
    place: str = ""
    fingerprint: str = ""


async def survey(
    context: Context, names: Collection[str], options: MigrateOptions, *, fingerprints: bool = False
) -> Ground:
    """Look at every database.

    Args:
        names: only these; empty: all of them.
        fingerprints: read what their schemas are.

    Raises:
        UnknownDatabase: there is no such database.
        ConfigError: the canary is none of them.
        OperationRefused: one of them can't be had; nothing was touched.
    """
    known = await context.databases()
    for name in (*names, *([options.canary] if options.canary else [])):
        if name not in known:
            raise UnknownDatabase(name, list(known))
    chosen = {name: one for name, one in known.items() if not names or name in names}
    if options.canary and options.canary not in chosen:
        raise ConfigError(f"{options.canary} is none of the databases that are to be migrated", key="canary")
    gate = asyncio.Semaphore(_AT_ONCE)
    found = await asyncio.gather(*(_look(context, gate, one, fingerprints) for one in chosen.values()))
    problems = [f"{one.name}: {one.problem}" for one in found if one.problem]
    problems += _doubles(found)
    if problems:
        more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise OperationRefused(
            f"nothing was touched, for these databases can't be migrated: {'; '.join(problems[:_NAMED])}{more}"
        )
    absent = tuple(one.name for one in found if one.absent)
    living = await context.store.count_tenants()
    turns = sorted(
        (one.name for one in found if not one.absent),
        key=lambda name: (name != options.canary, living.get(name, 0), name),
    )
    if not turns:
        raise OperationRefused("there is no database to migrate; see `tenantry databases list`")
    return Ground(
        {name: chosen[name] for name in turns},
        absent,
        {one.name: one.fingerprint for one in found if one.fingerprint},
    )


async def _look(
    context: Context, gate: asyncio.Semaphore, database: ResolvedDatabase, fingerprints: bool
) -> _Found:
    name = database.name
    try:
        dsn = database.require_operator_dsn()
    except (ConfigError, DsnUnreadable) as error:
        return _Found(name, str(error))
    async with gate:
        try:
            async with context.connect(name, dsn) as connection:
                row = await connection.fetchrow(sql.query("migrate/ground"), timeout=30.0)
                assert row is not None
                if row["standby"]:
                    return _Found(name, "it is on a standby, which takes no writes; see its operator_dsn")
                printed = (await read_fingerprint(connection)).digest if fingerprints else ""
                return _Found(name, place=row["place"], fingerprint=printed)
        except DatabaseUnavailable as error:
            if database.reference.startswith("server:") and isinstance(
                error.__context__, asyncpg.InvalidCatalogNameError
            ):
                return _Found(name, absent=True)
            return _Found(name, str(error))
        except ANY_FAILURE as error:
            return _Found(name, context.why(error))


def _doubles(found: Sequence[_Found]) -> list[str]:
    """Names that lead to one database: it would be migrated twice, at once."""
    places: dict[str, list[str]] = {}
    for one in found:
        if one.place:
            places.setdefault(one.place, []).append(one.name)
    return [
        f"{' and '.join(names)} lead to the same database: leave out one, with --database"
        for names in places.values()
        if len(names) > 1
    ]


async def without_moves(journal: MigrationJournal, names: Collection[str], options: MigrateOptions) -> None:
    """See that no tenant is being moved from or to these databases; wait for it as long as the options say.

    A move copies and compares tables as they were when it was planned: a change under it would stop it. What is
    flipped is over but for its way back, which replicates from the new home to the old one.

    Raises:
        OperationRefused: there is a move.
    """
    deadline = asyncio.get_running_loop().time() + options.wait
    while True:
        moves = await journal.moves(names)
        in_the_way = [m for m in moves if m["state"] != "flipped" or not options.with_way_back]
        if not in_the_way:
            return
        # A way back stays open until somebody ends it: waiting would be in vain.
        waits = all(m["state"] != "flipped" for m in in_the_way)
        if not waits or asyncio.get_running_loop().time() >= deadline:
            raise OperationRefused(_in_words(in_the_way))
        await asyncio.sleep(min(_AGAIN, max(options.wait, 0.01)))


def _in_words(moves: Sequence[Mapping[str, object]]) -> str:
    told = []
    for move in moves[:_NAMED]:
        what = f"move {move['id']} of tenant {move['tenant']} from {move['source']} to {move['target']}"
        if move["state"] == "flipped":
            told.append(
                f"{what} has its way back open: `tenantry moves release {move['id']}` gives it up, "
                "`--with-way-back` migrates all the same, after which it may be broken"
            )
        else:
            told.append(
                f"{what} is under way: let it end (`--wait 10m`), or see `tenantry moves show {move['id']}`"
            )
    return f"no schema is changed under a move: {'; '.join(told)}"
