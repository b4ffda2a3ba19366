"""Everything that an operator asks first: facts are asked for (`facts`), then judged without I/O (`rules`)."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.operations.check.facts import DatabaseFacts, FleetFacts, Reached, gather
from tenantry.operations.check.rules import Finding, judge
from tenantry.operations.context import Context

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


async def check(context: Context, processes: int = 1) -> CheckReport:
    """Look at the configuration, the databases, their roles, versions, schemas and clocks.

    A database that does not answer is a finding, no error.

    Args:
        processes: router processes of the fleet, for the budgets of connections.
    """
    facts = await gather(context)
    return CheckReport(facts, tuple(judge(facts, context.config, processes)))
