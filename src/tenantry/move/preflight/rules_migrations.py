"""No move under a schema that is being changed, and none between schemas of which one is behind. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import PreflightFacts


def migrations(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """What a move copies is one schema from its plan to its end; and a home that is behind would stay behind."""
    for one in facts.migrations:
        if one.locked:
            yield being_migrated(one.database)
        elif one.run is not None:
            yield PreflightFinding(
                "schema-behind",
                f"{one.database} is behind: run {one.run} of `tenantry migrate` is not done there ({one.state})",
                "run the same migration again, it goes on with who is behind; `tenantry migrate status` shows it, "
                "`tenantry migrate abandon` gives it up",
            )


def being_migrated(database: str) -> PreflightFinding:
    """The schema is changed right now."""
    return PreflightFinding(
        "being-migrated",
        f"`tenantry migrate` is at work in {database}",
        "let it end, and plan then; `tenantry migrate status` shows it",
    )
