"""Rules of preflight about the source's tables: what replication can't carry, or would break. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.tables import Undecided
from tenantry.ids import Kind
from tenantry.move.catalog import Table
from tenantry.move.errors import PreflightFinding
from tenantry.move.plan import Mechanism, fitting_identity
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.runtime.sqltext import identifier


def tables(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    if not facts.selection.tenant:
        yield PreflightFinding(
            "no-tables",
            "no table has the tenant column",
            "set tenancy.column, or a table's column under `tables:`",
        )
    for table, question in facts.selection.unclear:
        if table.foreign:
            yield from _unreplicated(table)
        else:
            yield _undecided(question)
    for question in facts.selection.unmatched:
        yield _undecided(question)
    for table, key in facts.selection.stranded:
        yield PreflightFinding(
            "tenant-column-missing",
            f"{table.quoted} belongs to tenants by foreign keys only ({key})",
            f"give {table.quoted} the tenant column (`tenantry rls audit` prints the statements, TN204), or name "
            "under `tables:` the column that is",
        )
    for table, column in facts.selection.tenant:
        yield from _table(facts, table, column)
    for table in facts.selection.reference:
        yield from _unreplicated(table)
        yield from _unowned(facts, table)
        if not table.identity_columns() and facts.mechanism is Mechanism.REPLICATION:
            yield PreflightFinding(
                "reference-without-key",
                f"reference table {table.quoted} has no primary key",
                f"ALTER TABLE {table.quoted} ADD PRIMARY KEY (…)",
            )
    for table in facts.selection.once:
        yield from _unowned(facts, table)
    for table in facts.selection.other:
        yield PreflightFinding(
            "not-carried",
            f"{table.quoted} has no tenant column and nothing of the tenant needs it: not carried",
            "list it as a reference table under `tables:` if the tenant reads it",
            refuses=False,
        )


def stale_statistics(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """How many rows and bytes there are, and how long it takes, is estimated from statistics."""
    if facts.stale:
        yield PreflightFinding(
            "statistics-stale",
            f"the statistics of {', '.join(facts.stale)} are old or missing: estimates of rows, room and time are "
            "guesses",
            f"ANALYZE {', '.join(facts.stale)}",
            refuses=False,
        )


def _undecided(question: Undecided) -> PreflightFinding:
    """Rows that may be the tenant's would stay behind."""
    return PreflightFinding(
        "table-undecided", f"{question.object}: {question.problem}", " | ".join(question.choices)
    )


def _table(facts: PreflightFacts, table: Table, column: str) -> Iterator[PreflightFinding]:
    yield from _unreplicated(table)
    yield from _unowned(facts, table)
    if table.inherits:
        yield PreflightFinding(
            "inheritance",
            f"{table.quoted} is an inheritance child",
            "turn the inheritance into declarative partitions",
        )
    if facts.mechanism is Mechanism.REPLICATION and fitting_identity(table, column) is None:
        yield PreflightFinding(
            "identity-without-tenant",
            f"the replica identity of {table.quoted} lacks {column}: publishing it with a filter would make every "
            "tenant's UPDATE and DELETE fail",
            _identity(table, column),
        )
    if facts.mechanism is Mechanism.REPLICATION:
        yield from _applied(facts, table, column)
    if any(c.oid_type for c in table.columns) and facts.source.server["large_objects"]:
        yield PreflightFinding(
            "large-objects",
            f"{table.quoted} has a column that may point to large objects, which are not carried",
            "move them into bytea columns, or ignore the table",
        )
    if table.quoted in facts.null_tenants:
        yield PreflightFinding(
            "null-tenant",
            f"{table.quoted} has rows without a tenant; they stay behind",
            f"give them a tenant, then ALTER TABLE {table.quoted} ALTER {identifier(column)} SET NOT NULL",
            refuses=False,
        )


def _identity(table: Table, column: str) -> str:
    """What gives a table a replica identity with its tenant column: an index beside its key, or whole rows."""
    key = next((key for key in table.keys if key.primary), table.keys[0] if table.keys else None)
    if key is None:
        return f"ALTER TABLE {table.quoted} REPLICA IDENTITY FULL"
    columns = ", ".join(identifier(name) for name in (column, *key.columns))
    concurrently = "" if table.kind == "p" else "CONCURRENTLY "
    index = f"CREATE UNIQUE INDEX {concurrently}ON {table.quoted} ({columns})"
    if any(c.name == column and not c.not_null for c in table.columns):
        return f"ALTER TABLE {table.quoted} ALTER {identifier(column)} SET NOT NULL; {index}"
    return index


def _unreplicated(table: Table) -> Iterator[PreflightFinding]:
    """Tables and partitions whose rows PostgreSQL does not write to its log, or does not have."""
    for name, kind in ((table.quoted, "f" if table.kind == "f" else table.persistence), *table.odd):
        if kind == "f":
            yield PreflightFinding(
                "foreign-table",
                f"{name} is a foreign table and holds tenants' rows elsewhere",
                f"make {name} an ordinary table, or ignore it under `tables:`",
            )
        elif kind == "u":
            yield PreflightFinding(
                "unlogged",
                f"{name} is unlogged: its rows are not replicated",
                f"ALTER TABLE {name} SET LOGGED",
            )


def _unowned(facts: PreflightFacts, table: Table) -> Iterator[PreflightFinding]:
    if not table.ours:
        role = facts.source.server["role"]
        yield PreflightFinding(
            "not-owner",
            f"role {role} may neither read nor publish {table.quoted}, which belongs to {table.owner}",
            f"GRANT {identifier(table.owner)} TO {identifier(role)}",
        )


def _applied(facts: PreflightFacts, table: Table, column: str) -> Iterator[PreflightFinding]:
    """What keeps the target's server from applying changes, or the source's from making them."""
    if any(c.name == column and not c.portable for c in table.columns):
        id_type = facts.source.local.id_type if facts.source.local else "text"
        yield PreflightFinding(
            "tenant-column-type",
            f"{table.quoted} is told apart by {column}, whose type is not PostgreSQL's own: row filters refuse it",
            f"ALTER TABLE {table.quoted} ALTER {identifier(column)} TYPE {id_type} "
            f"USING {identifier(column)}::{id_type}",
        )
    generated = _identity_columns(table, column) & {c.name for c in table.columns if c.generated}
    newest = max(facts.source.server["version"], facts.target.server["version"])
    if column in generated or (generated and newest >= 180000):
        name = min(generated)
        yield PreflightFinding(
            "identity-generated",
            f"the replica identity of {table.quoted} has the generated column {name}, which is not replicated: "
            "publishing the table would make every tenant's UPDATE and DELETE fail",
            f"ALTER TABLE {table.quoted} ALTER {identifier(name)} DROP EXPRESSION",
        )
    odd = [c.name for c in table.columns if not c.comparable]
    if odd and not table.keys and table.identity == "f":
        yield PreflightFinding(
            "identity-not-comparable",
            f"{table.quoted} has no key, and PostgreSQL can't compare its {', '.join(odd)}: changed rows would "
            "not be found at the target",
            f"ALTER TABLE {table.quoted} ADD PRIMARY KEY ({identifier(column)}, …)",
        )
    for trigger in table.always:
        yield PreflightFinding(
            "trigger-always",
            f"trigger {trigger} of {table.quoted} fires for replicated rows too, so it would act twice",
            f"ALTER TABLE {table.quoted} ENABLE TRIGGER {identifier(trigger)}",
        )
    key = next((key for key in table.keys if key.primary), None)
    if table.kind == "p" and (key is None or column not in key.columns):
        yield PreflightFinding(
            "partition-identity",
            f"a new partition of {table.quoted} would lack {column} in its replica identity: UPDATE and DELETE "
            "in it would fail until the move is released",
            "make the next partitions before, and none until the release",
            refuses=False,
        )


def _identity_columns(table: Table, column: str) -> frozenset[str]:
    """The columns of the replica identity that the move will need."""
    name = fitting_identity(table, column)
    if name == "":
        return frozenset(c.name for c in table.columns)
    return frozenset(c for key in table.keys if key.name == name for c in key.columns)


def ids(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    down = {sequence.quoted for sequence in facts.source.sequences if sequence.increment < 0}
    for name in facts.colliding:
        if name in down:
            yield PreflightFinding(
                "sequence-descends",
                f"{name} counts downwards, so it can't be given a range of its own",
                f"ALTER SEQUENCE {name} INCREMENT 1, with a range above all ids",
            )
            continue
        yield ids_taken(name) if facts.target_kind is Kind.SHARED else no_ids(name)


def ids_taken(table: str) -> PreflightFinding:
    """The tenant's ids were given out elsewhere, and others may have the same ones in the target."""
    return PreflightFinding(
        "ids-would-collide",
        f"ids of {table} are unique without the tenant, and may be others' in the target",
        "put the tenant column into the table's keys, in both databases",
    )


def no_ids(sequence: str) -> PreflightFinding:
    """There is no block of ids left that only this move would have."""
    return PreflightFinding(
        "ids-would-collide",
        f"ids from {sequence} would meet ids of others when the tenant comes back",
        "make the sequence and its column bigint, or put the tenant column into the key",
    )
