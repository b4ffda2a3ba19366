"""Everything that an operator asks first: facts are asked for (`facts`), then judged without I/O (`rules`)."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.operations.check.facts import DatabaseFacts, FleetFacts, Reached, gather
from tenantry.operations.check.rules import ERROR, Finding, judge, of_moves
from tenantry.operations.context import Context
from tenantry.operations.moves import Moves

__all__ = ["CheckReport", "DatabaseFacts", "Finding", "FleetFacts", "Reached", "check"]


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What was looked at, and what was found."""

    facts: FleetFacts
    findings: tuple[Finding, ...]
    """The errors first."""

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings


async def check(context: Context, processes: int = 1, *, moves: bool = False) -> CheckReport:
    """Look at the configuration, the databases, their roles, versions, schemas and clocks.

    A database that does not answer is a finding, no error.

    Args:
        processes: router processes of the fleet, for the budgets of connections.
        moves: look too at what a move from or to each database would need.
    """
    facts = await gather(context)
    found = judge(facts, context.config, processes)
    if moves:
        found += of_moves(await Moves(context).readiness())
    return CheckReport(facts, tuple(sorted(found, key=lambda one: (one.severity != ERROR, one))))
