"""What abort, rollback and release take away: all that the move made, nothing of anybody else's, and to an end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from tenantry import kits
from tenantry.ids import Kind
from tenantry.move import Endpoint, MoveError, MoveRecord, MoveStopped, State, teardown
from tenantry.move.context import MoveContext
from tenantry.move.endings import rollback
from tests.support.databases import database, drop_database
from tests.support.estate import LIMITS, SCHEMA, Estate
from tests.support.installing import make_data
from tests.support.process import MoverProcess

#: A table that stays behind and references one that is carried.
OUTSIDE = (
    "CREATE TABLE exchange_rate (code text REFERENCES currency, day date, rate numeric, PRIMARY KEY (code, day))"
)
SLOTS = "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
SUBSCRIPTIONS = (
    "SELECT subname FROM pg_subscription AS s JOIN pg_database AS d ON d.oid = s.subdbid "
    "WHERE d.datname = current_database()"
)


async def execute(dsn: str, query: str, *args: Any) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(query, *args)
    finally:
        await connection.close()


async def prepare(dsn: str, name: str, kind: Kind) -> None:
    """A database with tenantry and the product's schema, as an operator prepares it: nobody lives there yet."""
    connection = await asyncpg.connect(dsn)
    await make_data(connection, "app", name=name, kind=kind)
    await connection.execute(SCHEMA.read_text())
    await connection.close()


async def killed_at(estate: Estate, point: str) -> MoveRecord:
    process = MoverProcess(estate, "move", str(estate.tenant), failpoints=f"{point}=kill")
    try:
        await process.killed()
    finally:
        process.end()
    (listed,) = await estate.mover().list(estate.tenant)
    return await estate.mover().show(listed.id)


async def rows_at(estate: Estate, place: str) -> dict[object, int]:
    """Rows of all tables by tenant."""
    found: dict[object, int] = {}
    for (_, tenant), (rows, _) in (await estate.checksums(place)).items():
        found[tenant] = found.get(tenant, 0) + rows
    return found


async def test_aborting_a_move_that_was_refused_at_anothers_home_leaves_it_alone(estate18: Estate) -> None:
    """Two plans for one prepared database: the first tenant lives there when the second one's is run."""
    first, second = estate18.tenants[:2]
    await prepare(estate18.endpoints["acme"].dsn, "acme", Kind.DEDICATED)
    mover = estate18.mover()
    late = await mover.plan(second, "acme")
    assert late.refusals == ()
    record = await mover.run(await mover.plan(first, "acme"))
    assert (await mover.release(record.id)).state is State.RELEASED
    before = await estate18.checksums("acme")
    with pytest.raises(MoveStopped, match="stamped for another tenant"):
        await mover.run(late)
    assert (await mover.abort(late.id)).state is State.ABORTED
    assert await estate18.checksums("acme") == before
    assert len(await estate18.fetch("acme", "SELECT FROM currency")) == 2


async def test_an_abort_that_comes_when_another_lives_there_deletes_its_own_rows_only(estate18: Estate) -> None:
    """The operator has given the database to another tenant meanwhile; a copy there is refused, too."""
    second = estate18.tenants[1]
    record = await killed_at(estate18, "copy.half")
    acme = estate18.endpoints["acme"].dsn
    await execute(acme, "UPDATE tenantry.database_identity SET tenant = $1", str(second))
    await execute(acme, "SELECT tenantry.enroll($1, 1)", str(second))
    await execute(acme, "INSERT INTO account (tenant_id, id) VALUES ($1, 1)", second)
    await execute(acme, "INSERT INTO currency VALUES ('CHF', 'Franc')")
    mover = estate18.mover()
    with pytest.raises(MoveError, match="somebody else uses acme"):
        await mover.resume(record.id)
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert await rows_at(estate18, "acme") == {second: 1}
    assert len(await estate18.fetch("acme", "SELECT FROM currency WHERE code = 'CHF'")) == 1
    assert await mover.leftovers() == []


async def test_a_table_that_stays_behind_and_references_one_that_is_carried_stops_no_abort(
    estate18: Estate,
) -> None:
    await execute(estate18.endpoints["shared"].dsn, OUTSIDE)
    record = await killed_at(estate18, "verify.started")
    assert (await estate18.mover().abort(record.id)).state is State.ABORTED
    assert await rows_at(estate18, "acme") == {}
    assert await estate18.fetch("acme", "SELECT FROM currency") == []
    assert await estate18.mover().leftovers() == []


async def test_a_table_that_stays_behind_and_references_one_that_is_carried_stops_no_rollback(
    estate18: Estate,
) -> None:
    await execute(estate18.endpoints["shared"].dsn, OUTSIDE)
    mover = estate18.mover()
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
    assert await rows_at(estate18, "acme") == {}
    assert await estate18.fetch("acme", "SELECT FROM currency") == []
    assert await mover.leftovers() == []


async def test_a_watched_table_that_came_during_the_move_stops_no_abort(estate18: Estate) -> None:
    shared = await asyncpg.connect(estate18.endpoints["shared"].dsn)
    await kits.install(shared, "audit", application_role="app")
    await shared.execute("SELECT tenantry.audit_on('public.account')")
    record = await killed_at(estate18, "subscription.enabled")
    await shared.execute("CREATE TABLE news (tenant_id uuid, id bigint, PRIMARY KEY (tenant_id, id))")
    await shared.execute("SELECT tenantry.audit_on('public.news')")
    await shared.close()
    assert (await estate18.mover().abort(record.id)).state is State.ABORTED
    assert await rows_at(estate18, "acme") == {}
    assert await estate18.mover().leftovers() == []


@asynccontextmanager
async def dropped(estate: Estate) -> AsyncIterator[None]:
    """While the body runs the target's database is not there; then an empty one of its name is."""
    drop_database(estate.far, estate.dedicated)
    try:
        yield
    finally:
        estate.far.psql(f'CREATE DATABASE "{estate.dedicated}"')


async def test_a_target_that_was_dropped_stops_no_abort_and_the_source_keeps_no_slot(estate18: Estate) -> None:
    record = await killed_at(estate18, "subscription.enabled")
    assert await estate18.fetch("shared", SLOTS)
    mover = estate18.mover(limits=replace(LIMITS, patience=2.0))
    async with dropped(estate18):
        assert (await mover.abort(record.id)).state is State.ABORTED
        assert await estate18.fetch("shared", SLOTS) == []
        assert {left.database for left in await mover.leftovers()} == {"acme"}
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert await mover.leftovers() == []


async def test_a_target_that_lets_the_mover_in_no_more_stops_no_abort(estate18: Estate) -> None:
    record = await killed_at(estate18, "subscription.enabled")
    shut = Endpoint("acme", Kind.DEDICATED, estate18.far.dsn(estate18.dedicated, user="dismissed"))
    mover = estate18.mover(endpoints={**estate18.endpoints, "acme": shut})
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert await estate18.fetch("shared", SLOTS) == []
    assert {left.database for left in await mover.leftovers()} == {"acme"}
    mover = estate18.mover()
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert await mover.leftovers() == []
    assert await rows_at(estate18, "acme") == {}


async def test_whatever_is_wrong_at_the_target_the_source_keeps_no_slot(estate18: Estate) -> None:
    """An error that somebody has to fix stops the abort, with the source clean already."""
    record = await killed_at(estate18, "subscription.enabled")
    acme = estate18.endpoints["acme"].dsn
    await execute(acme, "ALTER TABLE tenantry.placement RENAME TO placed")
    mover = estate18.mover(limits=replace(LIMITS, patience=1.0))
    with pytest.raises(MoveStopped, match=r"placement. does not exist"):
        await mover.abort(record.id)
    assert await estate18.fetch("shared", SLOTS) == []
    await execute(acme, "ALTER TABLE tenantry.placed RENAME TO placement")
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert await mover.leftovers() == []


async def test_a_target_that_was_dropped_after_the_way_back_stops_no_rollback(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    mover = estate18.mover(limits=replace(LIMITS, patience=2.0))
    record = await mover.run(await mover.plan(estate18.tenant, "acme"))
    clean_up = rollback.clean_up

    async def late(work: MoveContext) -> None:
        drop_database(estate18.far, estate18.dedicated)
        await clean_up(work)

    monkeypatch.setattr(rollback, "clean_up", late)
    try:
        assert (await mover.rollback(record.id)).state is State.ROLLED_BACK
        assert await estate18.fetch("shared", SLOTS) == []
        assert {left.database for left in await mover.leftovers()} == {"acme"}
    finally:
        monkeypatch.undo()
        estate18.far.psql(f'CREATE DATABASE "{estate18.dedicated}"')


@asynccontextmanager
async def another_shared(estate: Estate) -> AsyncIterator[dict[str, Endpoint]]:
    """While the body runs there is a second shared database, "third"."""
    with database(estate.far, "shared2") as name:
        end = Endpoint("third", Kind.SHARED, estate.far.dsn(name))
        await prepare(end.dsn, "third", Kind.SHARED)
        await estate.fetch(
            "control", "INSERT INTO tenantry.database (name, kind, dsn) VALUES ('third', 'shared', 'config')"
        )
        yield {**estate.endpoints, "third": end}


async def links(estate: Estate) -> tuple[Sequence[object], Sequence[object]]:
    """Subscriptions in acme, and slots in the shared database."""
    return await estate.fetch("acme", SUBSCRIPTIONS), await estate.fetch("shared", SLOTS)


async def test_a_tenant_that_leaves_for_another_shared_database_leaves_no_link_behind(
    estate18: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not either where the release was interrupted in the middle of it."""
    async with another_shared(estate18) as endpoints:
        mover = estate18.mover(endpoints=endpoints)
        record = await mover.run(await mover.plan(estate18.tenant, "acme"))
        await mover.release(record.id)
        assert [len(found) for found in await links(estate18)] == [1, 1]
        away = await mover.run(await mover.plan(estate18.tenant, "third"))
        take_down = teardown.take_down
        broken: list[str] = []

        async def breaks(work: MoveContext, place: Endpoint, *rest: Any, **more: Any) -> None:
            if more.get("move") == record.id and not broken:
                broken.append(place.name)
                raise ConnectionResetError
            await take_down(work, place, *rest, **more)

        monkeypatch.setattr(teardown, "take_down", breaks)
        assert (await mover.release(away.id)).state is State.RELEASED
        assert broken == ["shared"]
        assert [len(found) for found in await links(estate18)] == [0, 0]
        assert await mover.leftovers() == []


async def test_a_link_whose_publisher_the_mover_knows_no_more_is_listed(estate18: Estate) -> None:
    async with another_shared(estate18) as endpoints:
        mover = estate18.mover(endpoints=endpoints)
        record = await mover.run(await mover.plan(estate18.tenant, "acme"))
        await mover.release(record.id)
        away = await mover.run(await mover.plan(estate18.tenant, "third"))
        del endpoints["shared"]
        assert (await estate18.mover(endpoints=endpoints).release(away.id)).state is State.RELEASED
        assert [len(found) for found in await links(estate18)] == [0, 1]
        left = [(one.move, one.database, one.kind) for one in await mover.leftovers()]
        assert left == [(record.id, "shared", "publication"), (record.id, "shared", "slot")]


async def test_cleaning_up_after_an_old_move_spares_the_home_that_a_newer_one_has_made(estate18: Estate) -> None:
    """Its target had been dropped when it was aborted; the tenant lives in the one that was made anew since."""
    record = await killed_at(estate18, "copy.half")
    mover = estate18.mover()
    drop_database(estate18.far, estate18.dedicated)
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert [one.move for one in await mover.leftovers()]
    estate18.far.psql(f'CREATE DATABASE "{estate18.dedicated}"')
    newer = await mover.run(await mover.plan(estate18.tenant, "acme"))
    assert (await mover.release(newer.id)).state is State.RELEASED
    before = await estate18.checksums("acme")
    assert (await mover.abort(record.id)).state is State.ABORTED
    assert await estate18.checksums("acme") == before
    assert [one for one in await mover.leftovers() if one.move == record.id] == []
