"""Sequences of the target: a block of ids of the move's own before the fence, or past the source's value in it."""

from __future__ import annotations

from collections.abc import Sequence

from tenantry.move.context import MoveContext
from tenantry.move.plan import SequenceRule
from tenantry.move.session import Connection, session


async def start_sequences(context: MoveContext) -> None:
    """Let the target's sequences start at this move's block of ids, if they are not in it already."""
    async with session(context.target, f"sequences {context.plan.id}") as target:
        for sequence in context.plan.sequences:
            if sequence.rule is SequenceRule.BLOCK:
                last = await last_value(target, sequence.quoted)
                if last < sequence.start:
                    await set_sequences(target, [(sequence.quoted, sequence.start)])


async def last_value(connection: Connection, sequence: str) -> int:
    """The last value given out; 0 if none was."""
    return int(await connection.fetchval("SELECT coalesce(pg_sequence_last_value(to_regclass($1)), 0)", sequence))


async def set_sequences(connection: Connection, values: Sequence[tuple[str, int]]) -> None:
    """Let each sequence go on after its value, unless it is past it."""
    await connection.execute(
        "SELECT setval(to_regclass(name), value) FROM unnest($1::text[], $2::bigint[]) AS s(name, value) "
        "WHERE value > coalesce(pg_sequence_last_value(to_regclass(name)), 0)",
        [name for name, _ in values],
        [value for _, value in values],
    )
