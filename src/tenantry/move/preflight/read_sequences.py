"""The sequences that feed a tenant's tables, and those whose ids may meet others' in a shared target."""

from __future__ import annotations

from typing import Final

from tenantry.ids import Kind
from tenantry.move.catalog import Side
from tenantry.move.journal import Journal
from tenantry.move.plan import Selection, SequencePlan, SequenceRule, sequence_plan
from tenantry.move.session import Connection, Endpoint

_EXISTS: Final = "SELECT to_regclass($1) IS NOT NULL"


def sequence_plans(
    ours: Side, selection: Selection, target_kind: Kind, block: int
) -> tuple[tuple[SequencePlan, ...], tuple[str, ...]]:
    """The plans of the sequences, and the names of those for which there is none: their ids collide."""
    tables = {table.oid: (table, column) for table, column in selection.tenant}
    plans, colliding = [], []
    for sequence in ours.sequences:
        if sequence.feeds and not any(oid in tables for oid, _ in sequence.feeds):
            continue
        planned = sequence_plan(sequence, tables, target_kind, block)
        if planned is None:
            colliding.append(sequence.quoted)
        else:
            plans.append(planned)
    return tuple(plans), tuple(colliding)


async def collisions(
    journal: Journal,
    tenant: str,
    source: Endpoint,
    target: Endpoint,
    at_target: Connection | None,
    selection: Selection,
    sequences: tuple[SequencePlan, ...],
) -> tuple[str, ...]:
    """Sequences whose ids may meet others' in a shared target: unless the tenant came from there, where its low
    ids were given out, and got ids from blocks of its own since; or the target's table is empty. `there` is None
    if the target is to be made."""
    if at_target is None or await journal.only_dedicated_since_leaving(tenant, target.name, source.name):
        return ()
    kept = {s.quoted for s in sequences if s.rule is SequenceRule.KEEP}
    busy = []
    for table, column in selection.tenant:
        exposed = any(column not in key.columns for key in (*table.keys, *table.uniques))
        if not (exposed and kept and await at_target.fetchval(_EXISTS, table.quoted)):
            continue
        if await at_target.fetchval(f"SELECT EXISTS (SELECT FROM {table.quoted})"):  # noqa: S608  quoted
            busy.append(table.quoted)
    return tuple(busy)
