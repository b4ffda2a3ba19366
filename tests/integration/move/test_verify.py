"""F21, F19, F16, F17: no flip without an equal comparison, and nothing that replication misses gets by."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tenantry.move import DataDiffers, MoveRecord, MoveStopped, Progress, SchemaChanged, State, StepStarted
from tests.support.estate import Estate
from tests.support.load import check, load

#: Kind of corruption -> the SQL that makes it at the target, and what is said of the row.
CORRUPTIONS = {
    "one byte": (
        "UPDATE entry SET note = overlay(note placing 'y' from 1 for 1) WHERE id = (SELECT max(id) FROM entry)",
        '"public"."entry" row ({max}) differs',
    ),
    "one bit of a float": (
        'UPDATE "Blob" SET f = f + 1e-15 WHERE "Key" = \'k7\'',
        '"public"."Blob" row (k7) differs',
    ),
    "NULL for a value": (
        'UPDATE "Blob" SET body = NULL WHERE "Key" = \'k3\'',
        '"public"."Blob" row (k3) differs',
    ),
    "NULL for a TOASTed value": (
        'UPDATE "Blob" SET raw = NULL WHERE "Key" = \'big\'',
        '"public"."Blob" row (big) differs',
    ),
    "missing": (
        "DELETE FROM entry WHERE id = (SELECT min(id) FROM entry)",
        '"public"."entry" row ({min}) is missing in acme',
    ),
    "extra": (
        "INSERT INTO account (tenant_id, id) SELECT tenant_id, 999 FROM account LIMIT 1",
        '"public"."account" row (999) is only in acme',
    ),
    "swapped": (
        "UPDATE entry AS a SET note = b.note FROM entry AS b WHERE a.id + b.id = "
        "(SELECT min(id) * 2 + 131 FROM entry) AND abs(a.id - b.id) = 1",
        '"public"."entry" row ({swapped}) differs',
    ),
    "another tenant's row": (
        "INSERT INTO account (tenant_id, id) SELECT md5('stranger')::uuid, id FROM account WHERE id = 3",
        '"public"."account" row (3) of another tenant ({stranger}) is only in acme',
    ),
    "numeric scale": (
        'UPDATE "Blob" SET price = price + 0.001 WHERE "Key" = \'k5\'',
        '"public"."Blob" row (k5) differs',
    ),
    "case": (
        "UPDATE \"Blob\" SET tags = ARRAY['A', '5'] WHERE \"Key\" = 'k5'",
        '"public"."Blob" row (k5) differs',
    ),
}


async def named(estate: Estate, text: str) -> str:
    """Fill in the ids that the rows have in this run."""
    ids = (
        await estate.fetch(
            "shared",
            "SELECT min(id), max(id), min(id) + 65 AS swapped, md5('stranger')::uuid AS stranger FROM entry "
            "WHERE tenant_id = $1",
            estate.tenant,
        )
    )[0]
    return text.format(**dict(ids))


def quick(names: Iterable[str], *chosen: str) -> list[Any]:
    """All of them; those that are not chosen only with the fault matrix."""
    return [pytest.param(name, marks=() if name in chosen else pytest.mark.faults) for name in names]


def at(step: str, action: Callable[[], object]) -> Callable[[Progress], None]:
    """Do something when a step starts."""

    def tell(event: Progress) -> None:
        if isinstance(event, StepStarted) and event.step == step:
            action()

    return tell


async def stopped_move(
    estate: Estate, step: str, side: str, sql: str, error: type[MoveStopped]
) -> tuple[MoveStopped, MoveRecord]:
    """Run a move, damage one side at a step, and see it stop with that error."""
    mover = estate.mover()
    plan = await mover.plan(estate.tenant, "acme")
    server, database = (estate.far, estate.dedicated) if side == "acme" else (estate.near, estate.shared)
    quiet = "SET session_replication_role = replica; "
    with pytest.raises(error) as caught:
        await mover.run(plan, at(step, lambda: server.psql(quiet + sql, database)))
    return caught.value, await mover.show(plan.id)


@pytest.mark.parametrize("corruption", quick(CORRUPTIONS, "one byte", "another tenant's row"))
async def test_every_corruption_of_the_target_is_found_before_the_flip(estate18: Estate, corruption: str) -> None:
    await estate18.fetch(
        "shared",
        'INSERT INTO "Blob" (tenant_id, "Key", raw) SELECT $1, \'big\', '
        "(SELECT string_agg(sha512(i::text::bytea), '') FROM generate_series(1, 2000) AS i)",
        estate18.tenant,
    )
    sql, differs = CORRUPTIONS[corruption]
    differs = await named(estate18, differs)
    error, record = await stopped_move(estate18, "verify", "acme", sql, DataDiffers)
    assert isinstance(error, DataDiffers)
    assert len(error.differences) == (2 if corruption == "swapped" else 1)
    assert differs in error.differences
    assert record.state is State.RUNNING
    assert (await estate18.homes())["shared"] == ("shared", 1)
    assert (await estate18.mover().abort(record.id)).state is State.ABORTED


async def test_corruption_after_the_flip_is_found_by_the_audit_which_takes_the_tenant_back(
    estate18: Estate,
) -> None:
    # As if the disk had done it: the way back carries no change that has an origin of its own.
    unseen = "SELECT pg_replication_origin_create('disk'), pg_replication_origin_session_setup('disk'); "
    async with load(estate18) as running:
        _, record = await stopped_move(
            estate18, "audit", "acme", unseen + CORRUPTIONS["NULL for a value"][0], DataDiffers
        )
        await running.reach(estate18.tenant, 20)
    estate18.far.psql("SELECT pg_replication_origin_drop('disk')")
    assert record.state is State.ROLLED_BACK
    assert (await estate18.homes())["control"] == ("shared", 3)
    await check(estate18, running)


DDL = {
    "add a column": "ALTER TABLE entry ADD extra int",
    "add a column with a volatile default": "ALTER TABLE entry ADD extra uuid DEFAULT gen_random_uuid()",
    "drop a column": "ALTER TABLE entry DROP note",
    "widen": "ALTER TABLE account ALTER balance TYPE numeric",
    "rename": 'ALTER TABLE "Blob" RENAME raw TO cooked',
    "new index": "CREATE INDEX late ON entry (tenant_id, at)",
    "drop a key": "ALTER TABLE entry DROP CONSTRAINT entry_tenant_id_account_fkey",
    "truncate": 'TRUNCATE "Blob"',
}


@pytest.mark.parametrize("step", quick(["catch_up", "flip"], "flip"))
@pytest.mark.parametrize("ddl", quick(DDL, "add a column", "truncate"))
async def test_a_schema_that_changes_under_the_move_stops_it_before_the_flip(
    estate18: Estate, ddl: str, step: str
) -> None:
    _, record = await stopped_move(estate18, step, "shared", DDL[ddl], SchemaChanged)
    assert record.state is State.RUNNING
    assert record.error is not None
    assert (await estate18.mover().abort(record.id)).state is State.ABORTED


async def test_a_row_that_moves_into_the_tenant_past_the_policies_stops_the_move_or_arrives_whole(
    estate18: Estate,
) -> None:
    other = estate18.tenants[1]
    sql = (
        f"UPDATE \"Blob\" SET tenant_id = '{estate18.tenant}', \"Key\" = 'in' "
        f"WHERE tenant_id = '{other}' AND \"Key\" = 'k1'"
    )
    mover = estate18.mover()
    plan = await mover.plan(estate18.tenant, "acme")
    record = await mover.run(plan, at("verify", lambda: estate18.near.psql(sql, estate18.shared)))
    assert record.state is State.FLIPPED
    ours, theirs = await estate18.checksums("shared"), await estate18.checksums("acme")
    assert theirs == {key: value for key, value in ours.items() if key[1] == estate18.tenant}
