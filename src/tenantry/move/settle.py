"""After a flip: tell everybody, and turn the replication round. All of it goes forward only, and is idempotent."""

from __future__ import annotations

from tenantry.move import failpoints, publish
from tenantry.move.endpoint import Connection, Endpoint, session
from tenantry.move.work import Way, Work


async def admit(work: Work, way: Way, there: Connection) -> None:
    """Let the new home admit the tenant now.

    The flip's own transaction says so too, by replication; whichever comes first. The data is there: the marker
    was. The epoch keeps a late one from undoing what came after it.
    """
    await there.execute(
        "UPDATE tenantry.placement SET home = $2, epoch = $3, changed_at = now() WHERE tenant = $1 AND epoch < $3",
        work.plan.tenant,
        way.there.name,
        way.epoch + 1,
    )


async def admit_anew(work: Work, way: Way) -> None:
    """The same in a session of its own, for a mover that comes later."""
    async with session(way.there, f"admit {work.plan.id}") as there:
        await admit(work, way, there)


async def settle(work: Work, way: Way) -> None:
    """Tell the directory, and take this way's replication down.

    Routers with an old placement are corrected by the old home's refusal, which names the new one; so the
    directory may be late, and is told after the new home.
    """
    await admit_anew(work, way)
    await work.journal.place(work.plan.tenant, way.there.name, way.epoch + 1)
    failpoints.reach("K14")
    await take_down(work, way)


async def take_down(work: Work, way: Way) -> None:
    """Remove one way's subscription, slot and publication."""
    await take_down_named(work, work.name(way), way.here, way.there)


async def take_down_named(work: Work, name: str, here: Endpoint, there: Endpoint) -> None:
    """Remove a subscription at `there`, then its slot and publication at `here`.

    The subscription first: a slot that is still subscribed to comes alive again.
    """
    async with session(there, f"take down {work.plan.id}") as subscriber:
        await _drop(work, there, "subscription", name, subscriber)
    async with session(here, f"take down {work.plan.id}") as publisher:
        await _drop(work, here, "slot", name, publisher)
        await _drop(work, here, "publication", name, publisher)


async def drop_links_from(work: Work, publisher: Endpoint, subscriber: Endpoint) -> None:
    """Remove the links that earlier moves left to keep `subscriber`'s reference tables in step.

    The tenant that they were for is leaving it; a slot that nobody reads any more fills the publisher's disk.
    """
    for move, name in await work.journal.reference_links(subscriber.name, publisher.name):
        await take_down_named(work, name, publisher, subscriber)
        for place, kind in ((subscriber, "subscription"), (publisher, "slot"), (publisher, "publication")):
            await work.journal.gone(move, place.name, kind, name)


async def _drop(work: Work, place: Endpoint, kind: str, name: str, connection: Connection) -> None:
    drop = {
        "subscription": publish.drop_subscription,
        "slot": publish.drop_slot,
        "publication": publish.drop_publication,
    }[kind]
    await drop(connection, name)
    await work.journal.gone(work.plan.id, place.name, kind, name)


async def turn_round(work: Work) -> None:
    """Start the way back, after the way out is down: both at once would send rows round in circles on 15."""
    async with session(work.source, f"way back {work.plan.id}") as source:
        await publish.enable(source, work.name(work.back))
