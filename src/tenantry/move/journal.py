"""The journal in the control database: what was meant before it is done."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.directory import placements
from tenantry.move import kept_sessions
from tenantry.move.errors import MoveBusy, MoveRefused, PlanUnreadable, PreflightFinding, UnknownMove
from tenantry.move.plan import MovePlan
from tenantry.move.plan_format import Unreadable
from tenantry.move.results import NOTHING, MoveResult
from tenantry.move.states import FORCED, SUCCESSORS, State
from tenantry.runtime import locks

_COLUMNS: Final = "id, tenant, source, target, state, step, error, created_at, changed_at, flipped_at, ended_at"
#: Why an interrupted move stopped; forgotten once its ending is complete.
INTERRUPTED: Final = "it was interrupted"


@dataclass(frozen=True, slots=True)
class MoveSummary:
    """A move, as the journal's columns have it: readable whichever release wrote it."""

    id: str
    tenant: str
    source: str
    target: str
    state: State
    step: str | None
    """The last step that is complete."""
    error: str | None
    """Why the last attempt stopped."""
    created_at: datetime
    changed_at: datetime
    flipped_at: datetime | None
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class MoveRecord(MoveSummary):
    """A move with its plan and what it has found."""

    plan_json: str = field(repr=False)
    result: MoveResult

    @property
    def plan(self) -> MovePlan:
        """The plan.

        Raises:
            PlanUnreadable: this release can't read it.
        """
        try:
            return MovePlan.from_json(self.plan_json)
        except Unreadable as error:
            raise PlanUnreadable(self.id, str(error)) from error


@dataclass(frozen=True, slots=True)
class Leftover:
    """An object that a finished or dead move may have left."""

    move: str
    state: State
    database: str
    kind: str
    name: str


class Link(NamedTuple):
    """A replication that keeps the reference tables of one database in step with another's."""

    move: str
    """That made it."""
    released: bool
    """True if that move is over, and the link stays for the tenant that it brought."""
    name: str
    publisher: str
    subscriber: str


class Journal:
    """Reads and writes the journal. Every statement is a transaction of its own.

    Each runs in a session of its own, or inside `kept` in one that the next uses again. A session that was lost
    between two statements is opened anew; while the control database is away, that raises one of `TRANSIENT`.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def kept(self) -> contextlib.AbstractContextManager[None]:
        """Keep its sessions, and the move's others, open inside the body for the next use; may be nested."""
        return kept_sessions.kept()

    async def _execute(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with kept_sessions.lent(self._dsn, "journal") as connection:
            return await connection.fetch(query, *args)

    async def peek_id_block(self) -> int:
        """What `next_block` will say, unless another move begins before. Takes nothing."""
        (row,) = await self._execute(
            "SELECT coalesce(pg_sequence_last_value('tenantry.move_id_block'), 0) + 1 AS block"
        )
        return int(row["block"])

    async def take_id_block(self) -> int:
        """A number for a move's ids that no other move has."""
        (row,) = await self._execute("SELECT nextval('tenantry.move_id_block') AS block")
        return int(row["block"])

    async def placement(self, tenant: str) -> tuple[str, int] | None:
        """Where the directory says that the tenant lives: database and epoch."""
        rows = await self._execute(
            "SELECT database, epoch FROM tenantry.tenant WHERE id = $1 AND state <> 'removed'", tenant
        )
        return (rows[0]["database"], rows[0]["epoch"]) if rows else None

    async def place(self, tenant: str, database: str, epoch: int) -> None:
        """Tell the directory the tenant's new placement; an epoch that is not newer changes nothing."""
        await placements.point_directory(self._execute, tenant, database, epoch)

    async def only_dedicated_since_leaving(self, tenant: str, database: str, now: str) -> bool:
        """Whether the tenant once left `database` and has lived in dedicated ones since, in `now` at last."""
        (row,) = await self._execute(sql.query("move/homecoming"), tenant, database, now)
        return bool(row["so"])

    async def open(self, plan: MovePlan) -> None:
        """Write a new move.

        The same statement holds the directory's row, so no move of the tenant can end between the look at it and
        the new row: whoever overtakes this plan is either in the way or has made it outdated. It takes the lock
        of those who import or erase the tenant's data for its moment, too: they take theirs first, and then look
        for a move.

        Raises:
            MoveBusy: the tenant has a move that is not finished.
            MoveRefused: the tenant has been moved since the plan was made, or its data are being imported or
                erased.
        """
        try:
            opened = await self._execute(
                "INSERT INTO tenantry.move (id, tenant, source, target, plan) "
                "SELECT $1, id, $3, $4, $5::jsonb FROM tenantry.tenant "
                "WHERE id = $2 AND database = $3 AND epoch <= $6 "
                "AND pg_try_advisory_xact_lock_shared($7, hashtext($2)) FOR SHARE "
                "ON CONFLICT (id) DO NOTHING RETURNING 1",
                plan.id,
                plan.tenant,
                plan.source,
                plan.target,
                plan.to_json(),
                plan.epoch,
                locks.TENANT_DATA,
            )
        except asyncpg.UniqueViolationError:
            other = await self.unfinished(plan.tenant)
            raise MoveBusy(other or plan.id, f"tenant {plan.tenant} is being moved already") from None
        if not opened and not await self._execute("SELECT 1 FROM tenantry.move WHERE id = $1", plan.id):
            raise MoveRefused(plan.tenant, plan.target, [await self._outdated(plan)])
        await self.record(plan, "move.planned", {"target": plan.target})

    async def _outdated(self, plan: MovePlan) -> PreflightFinding:
        placed = await self.placement(plan.tenant)
        if placed is not None and placed[0] == plan.source and placed[1] <= plan.epoch:
            why = f"the data of tenant {plan.tenant} are being imported or erased"
            return PreflightFinding("data-busy", why, "move it when that is over")
        now = "is in the directory no more" if placed is None else f"lives in {placed[0]} at epoch {placed[1]} now"
        then = f"the plan was made for {plan.source} at epoch {plan.epoch}"
        return PreflightFinding("plan-outdated", f"tenant {plan.tenant} {now}, and {then}", "plan the move anew")

    async def unfinished(self, tenant: str) -> str | None:
        """The tenant's move that is not finished."""
        rows = await self._execute(sql.query("move/unfinished"), tenant)
        return rows[0]["id"] if rows else None

    async def show(self, move: str) -> MoveRecord:
        """One move.

        Raises:
            UnknownMove: there is none.
        """
        rows = await self._execute(
            f"SELECT {_COLUMNS}, plan AS plan_json, result FROM tenantry.move WHERE id = $1",  # noqa: S608  constant
            move,
        )
        if not rows:
            raise UnknownMove(move)
        values = {**_columns(rows[0]), "result": MoveResult.from_json(rows[0]["result"])}
        return MoveRecord(**values)

    async def list(self, tenant: str | None = None) -> list[MoveSummary]:
        """All moves, the newest first. Reads no plan, so no other release's plan can be in the way."""
        rows = await self._execute(
            f"SELECT {_COLUMNS} FROM tenantry.move WHERE $1::text IS NULL OR tenant = $1 "  # noqa: S608  constant
            "ORDER BY created_at DESC",
            tenant,
        )
        return [MoveSummary(**_columns(row)) for row in rows]

    async def complete_step(
        self, move: str, step: str, result: MoveResult = NOTHING, *, seconds: float | None = None
    ) -> None:
        """Record that a step is complete, with what it found and, under "seconds", how long it took."""
        took = {} if seconds is None else {step: round(seconds, 3)}
        await self._execute(
            "UPDATE tenantry.move SET step = $2, error = NULL, changed_at = now(), "
            "result = result || $3::jsonb || "
            "jsonb_build_object('seconds', coalesce(result -> 'seconds', '{}') || $4::jsonb) WHERE id = $1",
            move,
            step,
            result.to_json(),
            json.dumps(took),
        )

    async def record_result(
        self, move: str, result: MoveResult, *, seconds: dict[str, float] | None = None
    ) -> None:
        """Record what an ending has found, and how long it took. Why the move stopped before stays to be read."""
        await self._execute(
            "UPDATE tenantry.move SET error = nullif(error, $4), changed_at = now(), "
            "result = result || $2::jsonb || "
            "jsonb_build_object('seconds', coalesce(result -> 'seconds', '{}') || $3::jsonb) WHERE id = $1",
            move,
            result.to_json(),
            json.dumps({name: round(each, 3) for name, each in (seconds or {}).items()}),
            INTERRUPTED,
        )

    async def record_failure(self, move: str, error: str) -> None:
        """Record why an attempt stopped."""
        await self._execute("UPDATE tenantry.move SET error = $2, changed_at = now() WHERE id = $1", move, error)

    async def enter(self, plan: MovePlan, state: State, detail: dict[str, Any] | None = None) -> None:
        """Enter a state from one that allows it, and write the event. Harmless if the move is in it already."""
        await self._enter(plan, state, [before for before, after in SUCCESSORS.items() if state in after], detail)

    async def force_state(self, plan: MovePlan, before: State, detail: dict[str, Any] | None = None) -> None:
        """Leave an ending for the state that it gives way to. Harmless if the move is not in `before`."""
        await self._enter(plan, FORCED[before], [before], detail)

    async def _enter(
        self, plan: MovePlan, state: State, allowed: Sequence[State], detail: dict[str, Any] | None
    ) -> None:
        rows = await self._execute(
            "UPDATE tenantry.move SET state = $2, changed_at = now(), "
            "flipped_at = CASE WHEN $2 = 'flipped' THEN coalesce(flipped_at, now()) ELSE flipped_at END, "
            "ended_at = CASE WHEN $4 THEN now() END WHERE id = $1 AND state = ANY($3::text[]) RETURNING 1",
            plan.id,
            state.value,
            [before.value for before in allowed],
            state.finished,
        )
        if rows:
            await self.record(plan, f"move.{state.value}", detail or {})

    async def record(self, plan: MovePlan, kind: str, detail: dict[str, Any]) -> None:
        """Write to the audit trail."""
        await self._execute(
            "INSERT INTO tenantry.event (kind, actor, tenant, database, detail) "
            "VALUES ($1, session_user || ' / mover', $2, $3, $4::jsonb)",
            kind,
            plan.tenant,
            plan.source,
            json.dumps({"move": plan.id, **detail}),
        )

    # -- what the move makes outside ---------------------------------------------------------------

    async def record_intent(self, move: str, database: str, kind: str, name: str) -> None:
        """Write down that an object is about to be made."""
        await self._execute(
            "INSERT INTO tenantry.move_object (move, database, kind, name) VALUES ($1, $2, $3, $4) "
            "ON CONFLICT (move, database, kind, name) DO UPDATE SET removed_at = NULL",
            move,
            database,
            kind,
            name,
        )

    async def record_removed(self, move: str, database: str, kind: str, name: str) -> None:
        """Write down that an object is no more, or no longer the move's."""
        await self._execute(
            "UPDATE tenantry.move_object SET removed_at = now() WHERE move = $1 AND database = $2 AND kind = $3 "
            "AND name = $4 AND removed_at IS NULL",
            move,
            database,
            kind,
            name,
        )

    async def objects(self, move: str, database: str) -> Sequence[tuple[str, str]]:
        """Kind and name of what the move has, or may have, in one database."""
        rows = await self._execute(
            "SELECT kind, name FROM tenantry.move_object WHERE move = $1 AND database = $2 AND removed_at IS NULL",
            move,
            database,
        )
        return [(row["kind"], row["name"]) for row in rows]

    async def history(self, source: str) -> Sequence[Mapping[str, Any]]:
        """What the last moves out of a database took; see sql/move/history.sql."""
        return [dict(row) for row in await self._execute(sql.query("move/history"), source)]

    async def leftovers(self) -> Sequence[Leftover]:
        """Objects of moves that no mover is at work on; for `tenantry check`.

        Those of a flipped move are its way back, which stays until it is released. The link that keeps the
        reference tables of a released move in step is meant to stay while it is read, and is not listed.
        """
        rows = await self._execute(
            "SELECT o.move, m.state, o.database, o.kind, o.name FROM tenantry.move_object AS o "
            "JOIN tenantry.move AS m ON m.id = o.move WHERE o.removed_at IS NULL "
            "AND NOT (m.state = 'released' AND o.name LIKE '%\\_ref' AND EXISTS ("
            "  SELECT FROM tenantry.move_object AS s WHERE s.move = o.move AND s.name = o.name "
            "  AND s.kind IN ('subscription', 'slot') AND s.removed_at IS NULL HAVING count(*) = 2)) "
            "AND NOT EXISTS (SELECT FROM pg_locks AS l WHERE l.locktype = 'advisory' AND l.granted "
            "  AND l.classid = tenantry.move_lock_space()::oid AND l.objsubid = 2 "
            "  AND l.objid::bigint = hashtext(o.move)::bigint & 4294967295) ORDER BY 1, 3, 4, 5"
        )
        return [Leftover(r["move"], State(r["state"]), r["database"], r["kind"], r["name"]) for r in rows]

    async def migrations(self, databases: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """What `tenantry migrate` has to say of some databases; see sql/move/migrations.sql."""
        try:
            rows = await self._execute(sql.query("move/migrations"), list(databases), locks.MIGRATED)
        except asyncpg.UndefinedTableError:  # of an earlier tenantry, which has migrated nothing
            return ()
        return [dict(row) for row in rows]

    @contextlib.asynccontextmanager
    async def unmigrated(self, databases: Collection[str]) -> AsyncIterator[str | None]:
        """Keep migrations from databases while the body runs, inside `kept`; gives one that is migrated now.

        The lease does it for the rest of the move. Here it is only for the moment in which the move is written.
        """
        rows = await self._execute(sql.query("move/unmigrated"), locks.MIGRATED, list(databases))
        yield rows[0]["name"] if rows else None
        await self._execute(
            "SELECT pg_advisory_unlock_shared($1, hashtext(name)) FROM unnest($2::text[]) AS name",
            locks.MIGRATED,
            list(databases),
        )

    async def has_leftovers(self, move: str) -> bool:
        """Whether anything of a move may still be somewhere."""
        return bool(
            await self._execute(
                "SELECT 1 FROM tenantry.move_object WHERE move = $1 AND removed_at IS NULL LIMIT 1", move
            )
        )

    async def reference_links(self) -> Sequence[Link]:
        """The links that still bring reference tables from one database to another."""
        rows = await self._execute(
            "SELECT o.move, m.state, o.name, m.source, o.database FROM tenantry.move_object AS o "
            "JOIN tenantry.move AS m ON m.id = o.move "
            "WHERE o.kind = 'subscription' AND o.name LIKE '%\\_ref' AND o.removed_at IS NULL"
        )
        return [Link(r["move"], r["state"] == State.RELEASED, r["name"], r["source"], r["database"]) for r in rows]

    async def homes(self) -> frozenset[str]:
        """The databases where tenants live, as the directory has it."""
        rows = await self._execute("SELECT DISTINCT database FROM tenantry.tenant WHERE state <> 'removed'")
        return frozenset(row["database"] for row in rows)


#: Steps as the development versions before plan format 1 journalled them.
_FORMER_STEPS: Final = {
    "target": "prepare_target",
    "identity": "set_identities",
    "indexes": "build_indexes",
    "follow": "catch_up",
    "way_back": "prepare_reverse",
    "schema": "build_schema",
    "settle": "finalize",
}


def _columns(row: asyncpg.Record) -> dict[str, Any]:
    step = row["step"]
    return {**row, "state": State(row["state"]), "step": _FORMER_STEPS.get(step, step)}
