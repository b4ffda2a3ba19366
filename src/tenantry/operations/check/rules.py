"""What is wrong with a fleet, from facts alone: no I/O, no clock. One function per question."""

from __future__ import annotations

from collections.abc import Mapping

from tenantry.config import Config
from tenantry.errors import TenantryError
from tenantry.move.errors import PreflightFinding as MoveFinding
from tenantry.operations.check import rules_citus as of_citus
from tenantry.operations.check import rules_database as of_one
from tenantry.operations.check import rules_fleet as of_all
from tenantry.operations.check.facts import FleetFacts
from tenantry.operations.check.findings import ERROR, WARNING, CheckFinding


def judge(facts: FleetFacts, config: Config, processes: int) -> list[CheckFinding]:
    """Everything that is wrong, the database's name first."""
    found = [*of_all.control(facts, config)]
    for one in facts.databases:
        found += of_one.reachable(one)
        found += of_one.role(one)
        found += of_one.two_roles(one, facts)
        found += of_one.guards(one)
        found += of_one.schema_of(one, config)
        found += of_one.tables(one)
        found += of_citus.citus(one, config)
        found += of_one.tls(one)
        found += of_one.pipelining(one)
        found += of_one.links(one)
    found += of_all.servers(facts)
    found += of_all.budgets(facts, config, processes)
    found += of_all.directory(facts, config)
    found += of_all.placements(facts)
    found += of_all.backups(facts)
    order = {ERROR: 0, WARNING: 1}
    return sorted(set(found), key=lambda finding: (order[finding.severity], finding))


def of_moves(found: Mapping[str, tuple[MoveFinding, ...] | TenantryError]) -> list[CheckFinding]:
    """What preflight would say of each database, with preflight's own codes; an error where it would refuse."""
    told: list[CheckFinding] = []
    for database, findings in found.items():
        if isinstance(findings, TenantryError):
            told.append(
                CheckFinding(
                    database, WARNING, "moves-unchecked", str(findings), "see the database's operator_dsn"
                )
            )
            continue
        told += [
            CheckFinding(database, ERROR if one.refuses else WARNING, one.code, one.problem, one.fix)
            for one in findings
        ]
    return told
