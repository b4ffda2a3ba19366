"""The gate: the one row that decides a move, in the database where the tenant lives.

Flip and abort (and, on the way back, rollback and release) both change the row from 'open'. The row's lock
serialises them and the loser finds it changed, so a mover that was cut off, frozen or replaced can't flip a move
that somebody else has aborted, nor the other way round.
"""

from __future__ import annotations

from tenantry.directory import placements
from tenantry.move.context import Direction, MoveContext
from tenantry.move.session import Connection
from tenantry.runtime.sqltext import literal

OPEN, FLIPPED, CLOSED = "open", "flipped", "closed"


async def put(context: MoveContext, direction: Direction, source: Connection) -> None:
    """Make the gate, open; leave it if it is there."""
    await source.execute(
        "INSERT INTO tenantry.move_gate (move, direction, tenant) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        context.plan.id,
        direction.name,
        context.plan.tenant,
    )


async def read(context: MoveContext, direction: Direction, source: Connection) -> str | None:
    """The gate's state; None: there is no gate. Waits for a flip that is just being decided."""
    row = await source.fetchrow(
        "SELECT state FROM tenantry.move_gate WHERE move = $1 AND direction = $2 FOR UPDATE",
        context.plan.id,
        direction.name,
    )
    return None if row is None else str(row["state"])


async def close(context: MoveContext, direction: Direction, source: Connection) -> bool:
    """Close the gate for good. False: the flip came first. A gate that was never made is made closed."""
    await source.execute(
        "INSERT INTO tenantry.move_gate (move, direction, tenant, state) VALUES ($1, $2, $3, 'closed') "
        "ON CONFLICT (move, direction) DO UPDATE SET state = 'closed', changed_at = now() "
        "WHERE move_gate.state = 'open'",
        context.plan.id,
        direction.name,
        context.plan.tenant,
    )
    return await read(context, direction, source) == CLOSED


def flip_sql(context: MoveContext, direction: Direction) -> str:
    """The statements that flip, for the fence's transaction: they fail unless the gate is open and the tenant
    lives here at this way's epoch."""
    move = literal(context.plan.id)
    return f"""
    DO $flip$
    BEGIN
        UPDATE tenantry.move_gate SET state = 'flipped', changed_at = clock_timestamp()
            WHERE move = {move} AND direction = '{direction.name}' AND state = 'open';
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the gate of move % is not open', {move};
        END IF;
        {placements.flip_sql(context.plan.tenant, direction.source.name, direction.target.name, direction.epoch)}
    END
    $flip$"""  # noqa: S608  quoted
