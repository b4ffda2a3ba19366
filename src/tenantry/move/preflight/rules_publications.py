"""Publications of the product's own: what feeds its warehouse or its search, and what a move may break in them.

PostgreSQL refuses every UPDATE and DELETE of a table that is published with a list of columns that lacks one of
its replica identity, or with a filter on a column outside it. A move puts the tenant column into the identity, at
both ends, so it looks first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tenantry.move.catalog import Table
from tenantry.move.errors import PreflightFinding
from tenantry.move.plan import fitting_identity
from tenantry.move.preflight.facts import PreflightFacts, PublishedTable
from tenantry.runtime.sqltext import identifier


def foreign_publications(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Publications that would make everybody's UPDATE and DELETE fail once the move has set the identities."""
    for table, column in facts.selection.tenant:
        name = fitting_identity(table, column)
        if name is None:
            continue
        whole = name == ""
        identity = [c.name for c in table.columns] if whole else []
        identity += [c for key in table.keys if key.name == name for c in key.columns]
        for each in facts.published:
            if each.table != table.quoted:
                continue
            unlisted = [c for c in identity if c not in each.listed] if each.listed else []
            outside = [c for c in each.filtered if c not in identity]
            # Of all columns as the identity no list is wide enough, not even one of all.
            if unlisted or outside or (whole and each.listed):
                yield _finding(table, each, identity, unlisted, outside)


def _finding(
    table: Table, each: PublishedTable, identity: Sequence[str], unlisted: Sequence[str], outside: Sequence[str]
) -> PreflightFinding:
    said = []
    if each.listed and (unlisted or table.identity == "f"):
        said.append("a list of columns that " + (f"lacks {', '.join(unlisted)}" if unlisted else "it can't have"))
    if outside:
        said.append(f"a filter on {', '.join(outside)}, outside it")
    return PreflightFinding(
        "publication-differs",
        f"publication {each.publication} of {each.database} has {each.part} with {' and '.join(said)}: beside the "
        f"move's replica identity ({', '.join(identity)}) every tenant's UPDATE and DELETE would fail",
        "; ".join(_fix(table, each, identity, unlisted, outside)),
    )


def _fix(
    table: Table, each: PublishedTable, identity: Sequence[str], unlisted: Sequence[str], outside: Sequence[str]
) -> Iterator[str]:
    # A key can hold the filter's columns too, unless they may be NULL; then only all columns together can.
    nullable = any(c.name in outside and not c.not_null for c in table.columns)
    whole = table.identity == "f" or (bool(outside) and (nullable or table.kind == "p"))
    if each.listed and (unlisted or outside or whole):
        kept = [] if whole else list(dict.fromkeys([*each.listed, *unlisted, *outside]))
        columns = f" ({', '.join(map(identifier, kept))})" if kept else ""
        where = f" WHERE ({each.filter})" if each.filter else ""
        yield f"ALTER PUBLICATION {each.publication} DROP TABLE {each.part}"
        yield f"ALTER PUBLICATION {each.publication} ADD TABLE {each.part}{columns}{where}"
    if outside and whole:
        yield f"ALTER TABLE {each.part} REPLICA IDENTITY FULL"
    elif outside:
        index = identifier(f"{table.name[:40]}_published")
        held = ", ".join(map(identifier, (*identity, *outside)))
        yield f"CREATE UNIQUE INDEX CONCURRENTLY {index} ON {each.part} ({held})"
        yield f"ALTER TABLE {each.part} REPLICA IDENTITY USING INDEX {index}"
