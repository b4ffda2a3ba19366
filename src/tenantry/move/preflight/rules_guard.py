"""The fence of a move has to hold for everybody, not for the routers alone. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import PreflightFacts


def guards(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Tables of the tenant without a guard: whoever writes them past the router writes through the fence."""
    for table in facts.unguarded:
        yield PreflightFinding(
            "no-guard",
            f"{table} has no guard in {facts.source_name}: who writes past the routers (psql, scripts, other "
            "services) would go on during the fence, and what they write would stay behind",
            f"run `tenantry rls apply --database {facts.source_name}`",
        )
