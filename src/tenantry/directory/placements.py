"""Every write of a tenant's placement, and of its twin in the directory. Nobody else writes the two tables.

A tenant's home stands in two places. `tenantry.placement` in a data database is the authority: `tenantry.bind`
obeys it, in the transaction that is about to write. `tenantry.tenant` in the control database is the directory:
routers read it to know where to ask. What keeps the two safe although they can't be written in one transaction:

- **The epoch never goes backwards.** It grows by one at each change of home, and only the flip's one commit gives
  a new one. Each write below has the epoch in its WHERE, so one that comes late finds nothing to change; the
  trigger `keep_newest` refuses whatever forgets it.
- **Suspended survives.** A write that changes the home leaves `suspended` as it is, or takes over what the home
  that is left says at the commit that decides. Only `set_state` and `restore` change it of their own accord.
- **Shutting out writes the directory first, letting in writes it last.** Whatever dies in between, nobody is let
  in by half, and the same call again ends it. A flip is not of this kind: the data database decides, and the
  directory, told last, is only late.

Functions that take a `Connection` write a data database, as the role that owns its `tenantry` schema; those that
take a `Query` write the control database, by whatever pool or session the caller has.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from tenantry.errors import DatabaseUnavailable
from tenantry.residence import Residence
from tenantry.rooms import Rooms
from tenantry.runtime.locks import PLACING
from tenantry.runtime.sqltext import literal

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

#: Runs one statement in the control database and returns its rows.
Query = Callable[..., Awaitable[Sequence[asyncpg.Record]]]
#: Opens a session in the data database of that name, as its operator.
Open = Callable[[str], AbstractAsyncContextManager[Connection]]

#: `{columns}` and `{values}` are a tenant's region and tier, where it names one: see `_settled`.
_ADD: Final = (
    "INSERT INTO tenantry.tenant (id, database, plan, weight, limits{columns}) "
    "VALUES ($1, $2, $3, $4, $5::jsonb{values}) ON CONFLICT (id) DO NOTHING"
)
_RESERVE: Final = (
    "INSERT INTO tenantry.tenant (id, database, plan, weight, limits, state{columns}) "
    "VALUES ($1, $2, $3, $4, $5::jsonb, 'removed'{values}) ON CONFLICT (id) DO NOTHING"
)
_ADD_MANY: Final = (
    "INSERT INTO tenantry.tenant (id, database, plan{columns}) "
    "SELECT DISTINCT id, $2, $3::text{values} FROM unnest($1::text[]) AS id "
    "ON CONFLICT (id) DO NOTHING RETURNING 1"
)
#: $1 id, $2 plan, $3 weight, $4 limits, $5 names in their order, $6 capacities, $7 whether to spread. A database
#: without a capacity is taken to be as large as the largest. Suspended tenants count, their rows are there.
_ADD_TO_ROOM: Final = """
WITH rooms AS (
    SELECT r.name, r.capacity, r.place, coalesce(r.capacity, max(r.capacity) OVER (), 1) AS size,
           (SELECT count(*) FROM tenantry.tenant AS t
            WHERE t.database = r.name AND t.state <> 'removed') AS tenants
    FROM unnest($5::text[], $6::bigint[]) WITH ORDINALITY AS r (name, capacity, place)
    JOIN tenantry.database AS d ON d.name = r.name
), home AS (
    SELECT name FROM rooms WHERE capacity IS NULL OR tenants < capacity
    ORDER BY CASE WHEN $7 THEN (tenants + 1)::float8 / size END, place LIMIT 1
)
INSERT INTO tenantry.tenant (id, database, plan, weight, limits{columns})
SELECT $1, home.name, $2, $3, $4::jsonb{values} FROM home
WHERE NOT EXISTS (SELECT FROM tenantry.tenant AS t WHERE t.id = $1)
ON CONFLICT (id) DO NOTHING
"""

#: Times that a tenant which is being moved meanwhile is followed to its next home.
_HOMES_FOLLOWED: Final = 5


class Placed(NamedTuple):
    """A placement, as a data database has it."""

    database: str
    """Where the tenant lives: this one, or the one to which it left."""
    epoch: int
    suspended: bool


# -- the placement, in a data database -------------------------------------------------------------


async def read(data: Connection, tenant: str) -> Placed | None:
    """What this database knows of the tenant; None: nothing."""
    row = await data.fetchrow(
        "SELECT database, epoch, suspended FROM tenantry.placement WHERE tenant = $1", tenant
    )
    return None if row is None else Placed(*row)


async def enroll(
    data: Connection, tenant: str, epoch: int, proof: str | None, *, timeout: float | None = None
) -> None:
    """Place a tenant that signs up. The application role may: `tenantry.enroll` holds the guards.

    Args:
        proof: from `proof.enroll_proof`, in hardened mode.
        timeout: seconds.
    """
    await data.execute("SELECT tenantry.enroll($1, $2, $3)", tenant, epoch, proof, timeout=timeout)


async def import_(data: Connection, tenants: Sequence[tuple[str, int, bool]]) -> None:
    """Place many tenants, given by id, epoch and whether suspended. Those that are known here stay as they are:
    one that has left must not be brought back by a list that was made before."""
    await data.execute(
        "INSERT INTO tenantry.placement (tenant, database, epoch, suspended) "
        "SELECT t.id, i.name, t.epoch, t.suspended FROM tenantry.database_identity AS i, "
        "unnest($1::text[], $2::bigint[], $3::boolean[]) AS t (id, epoch, suspended) "
        "ON CONFLICT DO NOTHING",
        [tenant for tenant, _, _ in tenants],
        [epoch for _, epoch, _ in tenants],
        [suspended for _, _, suspended in tenants],
    )


async def suspend(data: Connection, tenant: str, epoch: int, suspended: bool) -> str:
    """Shut the tenant out, or let it in; returns its home, which is another database if it has left.

    Home and epoch of a row that is there stay: a move may be on its way. Where the tenant has left, the mark stays
    too, and harms nobody: `bind` looks at the home first. `epoch` is that of a row which is not there yet.
    """
    home: str = await data.fetchval(
        "INSERT INTO tenantry.placement (tenant, database, epoch, suspended) "
        "SELECT $1, i.name, $2, $3 FROM tenantry.database_identity AS i "
        "ON CONFLICT (tenant) DO UPDATE SET suspended = excluded.suspended, changed_at = now() RETURNING database",
        tenant,
        epoch,
        suspended,
    )
    return home


async def close(data: Connection, tenant: str, home: str, epoch: int, suspended: bool) -> bool:
    """Write at a move's target that the tenant lives at its source, `home`. False: the target knows better.

    The row must be there before the flip, because the flip reaches the target as an UPDATE of it through
    replication; and it must name the source until then, so that the target refuses even a router that is sent
    there too early. A row with a newer epoch is of a later home than `home`: then this move is outdated.
    """
    await data.execute(
        "INSERT INTO tenantry.placement AS p (tenant, database, epoch, suspended) VALUES ($1, $2, $3, $4) "
        "ON CONFLICT (tenant) DO UPDATE SET database = excluded.database, epoch = excluded.epoch, "
        "suspended = excluded.suspended WHERE p.epoch <= excluded.epoch",
        tenant,
        home,
        epoch,
        suspended,
    )
    placed = await read(data, tenant)
    return placed is not None and (placed.database, placed.epoch) == (home, epoch)


def flip_sql(tenant: str, home: str, target: str, epoch: int) -> str:
    """The statements of PL/pgSQL that change the tenant's home from `home` to `target`; their COMMIT is the flip.

    They raise unless the tenant lives in `home` at `epoch`, so a mover that another's flip has overtaken ends its
    transaction here. `suspended` stays, and travels with the row.
    """
    return f"""
        UPDATE tenantry.placement
            SET database = {literal(target)}, epoch = {epoch + 1}, changed_at = clock_timestamp()
            WHERE tenant = {literal(tenant)} AND database = {literal(home)} AND epoch = {epoch};
        IF NOT FOUND THEN
            RAISE EXCEPTION 'tenant % does not live here at epoch {epoch}', {literal(tenant)};
        END IF;"""  # noqa: S608  quoted


async def admit(data: Connection, tenant: str, home: str, epoch: int, suspended: bool | None) -> None:
    """Let `home`, the new one, admit the tenant after the flip.

    The flip's own transaction says so too, by replication; whichever comes first. The older epoch in the WHERE
    keeps a late one from undoing what came after it.

    Args:
        suspended: what the old home says; None: this side's own mark stays.
    """
    await data.execute(
        "UPDATE tenantry.placement SET database = $2, epoch = $3, suspended = coalesce($4, suspended), "
        "changed_at = now() WHERE tenant = $1 AND epoch < $3",
        tenant,
        home,
        epoch,
        suspended,
    )


async def point(data: Connection, tenant: str, home: str, epoch: int, *, suspended: bool | None = None) -> None:
    """Change which home the target of a copy under the fence names, before there is a new epoch.

    Only the source's flip gives one. The equal epoch in the WHERE keeps this from touching a row that was admitted
    since, or that belongs to a later move. None: `suspended` stays.
    """
    await data.execute(
        "UPDATE tenantry.placement SET database = $2, suspended = coalesce($4, suspended) "
        "WHERE tenant = $1 AND epoch = $3",
        tenant,
        home,
        epoch,
        suspended,
    )


# -- its twin, in the control database -------------------------------------------------------------


async def add(
    control: Query,
    tenant: str,
    database: str,
    plan: str | None,
    weight: float,
    limits: dict[str, Any],
    residence: Residence,
) -> None:
    """Add a tenant, unless it is there. One that was removed stays so: only `restore` brings it back."""
    query, more = _settled(_ADD, residence, 6)
    await control(query, tenant, database, plan, weight, json.dumps(limits), *more)


async def add_to_room(
    control: Connection,
    tenant: str,
    rooms: Rooms,
    plan: str | None,
    weight: float,
    limits: dict[str, Any],
    residence: Residence,
) -> None:
    """The same where there is room; where there is none, nothing. `rooms`: those in which the tenant may live.

    The control database decides, one sign-up after the other, from the rows of the directory: a hundred routers of
    one configuration agree, and no database gets more tenants than it may have.
    """
    names, capacities = [one.database for one in rooms.rooms], [one.capacity for one in rooms.rooms]
    async with control.transaction(isolation="read_committed"):  # sees what was committed until the lock was got
        await control.execute("SELECT pg_advisory_xact_lock($1)", PLACING)
        query, more = _settled(_ADD_TO_ROOM, residence, 8)
        await control.execute(
            query, tenant, plan, weight, json.dumps(limits), names, capacities, rooms.spread, *more
        )


def _settled(query: str, residence: Residence, next_number: int) -> tuple[str, tuple[str | None, ...]]:
    """The statement and what else it wants. Who names nothing needs no columns, which a control database that
    `tenantry init` has not upgraded yet doesn't have."""
    if not any(residence):
        return query.format(columns="", values=""), ()
    return query.format(
        columns=", region, tier", values=f", ${next_number}::text, ${next_number + 1}::text"
    ), residence


async def reserve(
    control: Query,
    tenant: str,
    database: str,
    plan: str | None,
    weight: float,
    limits: dict[str, Any],
    residence: Residence,
) -> None:
    """Take an id for a tenant whose rows are on their way, unless it is taken: as one that was removed, so nobody
    is let in before `restore`."""
    query, more = _settled(_RESERVE, residence, 6)
    await control(query, tenant, database, plan, weight, json.dumps(limits), *more)


async def forget_terms(control: Query, tenant: str) -> None:
    """Leave of a tenant that was removed no more than keeps its id from coming back by itself."""
    await control(
        "UPDATE tenantry.tenant "
        "SET plan = NULL, weight = 1, limits = '{}', name = NULL, region = NULL, tier = NULL "
        "WHERE id = $1 AND state = 'removed' AND (plan, weight, limits, name, region, tier) "
        "IS DISTINCT FROM (NULL, 1, '{}'::jsonb, NULL, NULL, NULL)",
        tenant,
    )


async def add_many(
    control: Query, tenants: Sequence[str], database: str, plan: str | None, residence: Residence
) -> int:
    """Add many tenants; returns how many are new. Those that are there stay as they are, removed ones included."""
    query, more = _settled(_ADD_MANY, residence, 4)
    return len(await control(query, list(tenants), database, plan, *more))


async def set_terms(
    control: Query, tenant: str, plan: str | None, weight: float | None, limits: dict[str, Any] | None
) -> bool:
    """Change what is given of a tenant's terms, leave the rest. False: no such tenant, or removed."""
    rows = await control(
        "UPDATE tenantry.tenant SET plan = coalesce($2, plan), weight = coalesce($3, weight), "
        "limits = coalesce($4::jsonb, limits) WHERE id = $1 AND state <> 'removed' RETURNING 1",
        tenant,
        plan,
        weight,
        None if limits is None else json.dumps(limits),
    )
    return bool(rows)


async def set_name(control: Query, tenant: str, name: str | None) -> bool:
    """Call a tenant so; None: it has no name any more. False: no such tenant, or removed."""
    rows = await control(
        "UPDATE tenantry.tenant SET name = $2 WHERE id = $1 AND state <> 'removed' RETURNING 1", tenant, name
    )
    return bool(rows)


async def set_residence(control: Query, tenant: str, region: str | None, tier: str | None) -> bool:
    """Change what a tenant asks of its home; "": nothing any more, None: as it was. False: as of `set_name`."""
    rows = await control(
        "UPDATE tenantry.tenant SET region = nullif(coalesce($2, region), ''), "
        "tier = nullif(coalesce($3, tier), '') WHERE id = $1 AND state <> 'removed' RETURNING 1",
        tenant,
        region,
        tier,
    )
    return bool(rows)


async def mark(control: Query, tenant: str, state: str) -> bool:
    """Change a tenant's state in the directory. False: no such tenant, or removed: `restore` brings that back."""
    rows = await control(
        "UPDATE tenantry.tenant SET state = $2 WHERE id = $1 AND state <> 'removed' RETURNING 1", tenant, state
    )
    return bool(rows)


async def point_directory(control: Query, tenant: str, database: str, epoch: int) -> bool:
    """Tell the directory the tenant's new home. False: it knows that, or a later one.

    Its state stays: a tenant that was removed under its move stays removed, with its data at the new home.
    """
    rows = await control(
        "UPDATE tenantry.tenant SET database = $2, epoch = $3, placed_at = now() "
        "WHERE id = $1 AND epoch < $3 RETURNING 1",
        tenant,
        database,
        epoch,
    )
    return bool(rows)


async def remove_database(control: Query, database: str) -> bool:
    """Take a database out of the directory, and with it the tenants that were removed while they lived there.

    One statement, so that a removed tenant is not forgotten where the database stays. False: no such database.

    Raises:
        asyncpg.ForeignKeyViolationError: tenants live in it.
    """
    rows = await control(
        "WITH gone AS (DELETE FROM tenantry.tenant WHERE database = $1 AND state = 'removed') "
        "DELETE FROM tenantry.database WHERE name = $1 RETURNING 1",
        database,
    )
    return bool(rows)


# -- both, in their order --------------------------------------------------------------------------


async def set_state(control: Query, data: Open, tenant: str, database: str, epoch: int, state: str) -> str:
    """Make a tenant "active", "suspended" or "removed" in both databases; returns the home's name.

    `database` and `epoch` are the directory's. A tenant that is being moved meanwhile is followed.

    Raises:
        DatabaseUnavailable: it was somewhere else each time that it was looked for.
    """
    if state != "active":
        await mark(control, tenant, state)
    home = await _suspend_at_home(data, tenant, database, epoch, state != "active")
    if state == "active":
        await mark(control, tenant, state)
    return home


async def restore(control: Query, data: Open, tenant: str, database: str, epoch: int) -> str:
    """Let a tenant that was removed in again, where it lives; returns that database's name.

    It is no change of home, so the epoch stays, and a move that had begun goes on. Arguments and errors as of
    `set_state`. For a tenant that was not removed the directory's row stays as it is.
    """
    home = await _suspend_at_home(data, tenant, database, epoch, False)
    await control("UPDATE tenantry.tenant SET state = 'active' WHERE id = $1 AND state = 'removed'", tenant)
    return home


async def _suspend_at_home(data: Open, tenant: str, database: str, epoch: int, suspended: bool) -> str:
    for _ in range(_HOMES_FOLLOWED):
        async with data(database) as connection:
            home = await suspend(connection, tenant, epoch, suspended)
        if home == database:
            return home
        database = home
    raise DatabaseUnavailable(database, f"tenant {tenant} moves faster than it can be followed; try again")
