"""Everything that an operator asks first: facts are asked for (`facts`), then judged without I/O (`rules`)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tenantry.operations.check.facts import DatabaseFacts, FleetFacts, Reached, gather
from tenantry.operations.check.findings import ERROR, CheckFinding
from tenantry.operations.check.rules import judge, of_moves
from tenantry.operations.check.schemas import of_schemas
from tenantry.operations.context import Context
from tenantry.operations.moves import Moves

__all__ = ["CheckFinding", "CheckReport", "DatabaseFacts", "FleetFacts", "Reached", "check"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at, and what was found."""

    facts: FleetFacts
    findings: tuple[CheckFinding, ...]
    """The errors first; without those that were accepted."""
    accepted: tuple[CheckFinding, ...] = ()
    stale: tuple[str, ...] = ()
    """Keys that were accepted and are not found."""

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings


async def check(
    context: Context, processes: int = 1, *, moves: bool = False, accepted: Collection[str] = ()
) -> CheckReport:
    """Look at the configuration, the databases, their roles, versions, schemas and clocks.

    A database that does not answer is a finding, no error.

    Args:
        processes: router processes of the fleet, for the budgets of connections.
        moves: look too at what a move from or to each database would need.
        accepted: keys of findings that are no news: "CODE DATABASE".
    """
    facts = await gather(context)
    found = [*judge(facts, context.config, processes), *of_schemas(facts)]
    if moves:
        found += of_moves(await Moves(context).readiness())
    found.sort(key=lambda one: (one.severity != ERROR, one))
    return CheckReport(
        facts,
        tuple(finding for finding in found if finding.key not in accepted),
        tuple(finding for finding in found if finding.key in accepted),
        tuple(sorted(set(accepted) - {finding.key for finding in found})),
    )
