"""Taking away what a move has made: replication, markers, and what can't be reached any more."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import Final

import asyncpg

from tenantry.move import replication
from tenantry.move.context import Direction, MoveContext
from tenantry.move.journal import Link
from tenantry.move.session import Endpoint, session
from tenantry.runtime.connection_errors import TRANSIENT

#: The parts of a replication, in the order in which they go: a slot that is still subscribed to comes alive again.
PARTS: Final = {
    "subscription": replication.drop_subscription,
    "slot": replication.drop_slot,
    "publication": replication.drop_publication,
}
#: What is said of a database that was dropped, or lets the mover in no more.
_CLOSED: Final = (asyncpg.InvalidCatalogNameError, asyncpg.InvalidAuthorizationSpecificationError)


@contextlib.contextmanager
def ignoring_unreachable() -> Iterator[None]:
    """Clean a database as far as it can be reached: what may be there stays in the journal, as leftovers."""
    with contextlib.suppress(*TRANSIENT, *_CLOSED):
        yield


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says no more than that a database can't be reached."""
    return isinstance(error, (*TRANSIENT, *_CLOSED))


async def take_down(
    context: MoveContext,
    place: Endpoint,
    names: Sequence[str],
    parts: Collection[str] = PARTS,
    *,
    move: str | None = None,
) -> None:
    """Remove these parts of replications in one database. `move`: whose they are; None: the one that is run."""
    async with session(place, f"take down {context.plan.id}") as connection:
        for part in (part for part in PARTS if part in parts):
            for name in names:
                await PARTS[part](connection, name)
                await context.journal.record_removed(move or context.plan.id, place.name, part, name)


async def take_down_all(context: MoveContext, place: Endpoint) -> None:
    """Remove whatever the move has of replication in one database."""
    await take_down(
        context,
        place,
        (
            context.replication_name(context.forward),
            context.replication_name(context.reverse),
            context.reference_name,
        ),
    )


async def take_down_direction(context: MoveContext, direction: Direction) -> None:
    """Remove one way's subscription, slot and publication, in this order."""
    await take_down(context, direction.target, [context.replication_name(direction)], ["subscription"])
    await take_down(context, direction.source, [context.replication_name(direction)], ["slot", "publication"])


async def delete_markers(context: MoveContext, place: Endpoint) -> None:
    """Delete the move's markers in one database. The gate stays: a frozen mover must find it closed."""
    async with session(place, f"forget {context.plan.id}") as connection:
        await connection.execute("DELETE FROM tenantry.move_marker WHERE move = $1", context.plan.id)
        await connection.execute("DELETE FROM tenantry.move_loaded WHERE move = $1", context.plan.id)


async def is_installed(context: MoveContext, place: Endpoint) -> bool:
    """Whether tenantry is installed in a database; else no move has begun there, or another one has its name."""
    async with session(place, f"look {context.plan.id}") as connection:
        return bool(await connection.fetchval("SELECT to_regclass('tenantry.move_loaded') IS NOT NULL"))


async def drop_unneeded_links(context: MoveContext) -> None:
    """Remove the links that kept the reference tables of the source in step, which the tenant has left for good.

    A slot that nobody reads any more fills its publisher's disk. What is in a database that lets the mover in no
    more stays in the journal, as a leftover.
    """
    places = {**context.endpoints, context.source.name: context.source, context.target.name: context.target}
    links = unneeded(
        await context.journal.reference_links(),
        await context.journal.homes(),
        left=context.source.name,
        home=context.target.name,
    )
    for link in links:
        source, target = places.get(link.publisher), places.get(link.subscriber)
        if target is None:
            continue
        gone = False
        with contextlib.suppress(*_CLOSED):
            with contextlib.suppress(asyncpg.InvalidCatalogNameError):  # it went with its database
                async with session(target, f"take down {context.plan.id}") as connection:
                    await replication.drop_subscription(connection, link.name)
            gone = True
        if source is not None:
            with contextlib.suppress(*_CLOSED):
                await take_down(context, source, [link.name], ["slot", "publication"], move=link.move)
        if gone:  # last, so that a release that was interrupted finds the rest of the link
            await context.journal.record_removed(link.move, target.name, "subscription", link.name)


def unneeded(links: Sequence[Link], homes: Collection[str], *, left: str, home: str) -> list[Link]:
    """The links that nobody needs once a tenant has left the database `left` for `home`. Pure.

    A link is needed while a tenant lives in its subscriber, or another needed link starts there. Only links of
    released moves are judged, and only those that `left` hangs on, directly or through others.
    """
    if left in homes:
        return []
    gone = [link for link in links if (link.publisher, link.subscriber) == (home, left) and link.released]
    rest = [link for link in links if link not in gone]
    suspects = {left}
    while True:
        needed = {link.publisher for link in rest}
        loose = [
            link
            for link in rest
            if link.released and link.subscriber in suspects and link.subscriber not in {*homes, *needed}
        ]
        if not loose:
            return gone
        gone += loose
        suspects |= {link.publisher for link in loose}
        rest = [link for link in rest if link not in loose]
