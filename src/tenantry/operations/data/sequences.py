"""Sequences, past the ids that an archive brings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantry.errors import OperationRefused
from tenantry.ids import Kind
from tenantry.move.catalog import Generator
from tenantry.move.plan import blocks_begin
from tenantry.move.session import Connection
from tenantry.move.steps.sequences import last_value, set_sequences
from tenantry.operations.data.holdings import Holdings
from tenantry.operations.data.manifest import Manifest
from tenantry.runtime.sqltext import identifier

_NUMBERS: Final = frozenset({"smallint", "integer", "bigint"})
#: Up to so many ids are taken one by one, which meets nobody. setval could take a sequence back under somebody who
#: counts meanwhile; further away than this nobody gets between its look and its write.
_BY_COUNTING: Final = 1_000_000


async def advance(connection: Connection, kind: Kind, holdings: Holdings, manifest: Manifest, tenant: str) -> None:
    """Let every sequence that feeds the tenant's tables go on behind its ids, and behind what it had given out
    where they were made. Not undone by a rollback: then ids are left out, as PostgreSQL leaves some out anyway.

    Raises:
        OperationRefused: a sequence counts downwards.
    """
    archived = {sequence.name: sequence.last for sequence in manifest.sequences}
    types = {table.oid: {one.name: one.type for one in table.columns} for table, _ in holdings.selection.tenant}
    tables = {table.oid: table.quoted for table, _ in holdings.selection.tenant}
    where = {table.quoted: table.where(tenant) for table in holdings.tables}
    for sequence in holdings.sequences:
        fed = [(oid, name) for oid, name in sequence.feeds if oid in tables]
        if not fed:
            continue
        if sequence.increment < 0:
            raise OperationRefused(f"the sequence {sequence.quoted} counts downwards: nothing was written")
        largest = 0
        for oid, name in fed:
            if types[oid].get(name) not in _NUMBERS:
                continue  # a number within a text, say
            table = tables[oid]
            found = await connection.fetchval(
                f"SELECT max({identifier(name)})::bigint FROM {table} WHERE {where[table]}"  # noqa: S608  quoted
            )
            largest = max(largest, found or 0)
        wanted = [largest, archived.get(sequence.quoted, 0)]
        if kind is Kind.SHARED:
            wanted = list(_below_blocks(sequence, wanted))
        await _reach(connection, kind, sequence, min(max(wanted, default=0), sequence.max))


def _below_blocks(sequence: Generator, wanted: list[int]) -> Iterator[int]:
    block = blocks_begin(sequence)
    return (value for value in wanted if value < block or sequence.last >= block)


async def _reach(connection: Connection, kind: Kind, sequence: Generator, value: int) -> None:
    if kind is Kind.DEDICATED:  # nobody works there before the tenant comes
        if value > 0:
            await set_sequences(connection, [(sequence.quoted, value)])
        return
    while (missing := value - await last_value(connection, sequence.quoted)) > 0:
        steps = -(-missing // sequence.increment)
        if steps > _BY_COUNTING:
            await set_sequences(connection, [(sequence.quoted, value)])
            return
        counted = "SELECT count(nextval(to_regclass($1))) FROM generate_series(1, $2::bigint)"
        await connection.fetchval(counted, sequence.quoted, steps)
