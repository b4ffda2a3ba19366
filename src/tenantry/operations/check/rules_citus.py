"""What is wrong with a database that has Citus, or is said to have it."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.config import Config
from tenantry.operations.check.facts import DatabaseFacts
from tenantry.operations.check.findings import ERROR, NAMED, WARNING, CheckFinding


def citus(one: DatabaseFacts, config: Config) -> Iterator[CheckFinding]:
    """The engine is what the configuration says, and used in the way that it can be."""
    name, section = one.database.name, config.databases.get(one.database.name)
    reached = next((r for r in (one.router, one.direct, one.operator) if r and r.error is None), None)
    if reached is None:
        return
    found, said = reached.citus, section.engine if section else None
    if said is not None and said != ("postgresql" if found is None else "citus"):
        problem = f"engine is {said}, and the database has {'no' if found is None else 'the extension'} Citus"
        fix = f"correct databases.{name}.engine, or see where the DSN leads"
        yield CheckFinding(name, ERROR, "engine-differs", problem, fix)
    if found is None:
        return
    if config.tenancy.hardened:
        problem = "hardened mode does not hold on Citus, whose workers can't check a proof"
        yield CheckFinding(name, ERROR, "citus-hardened", problem, "keep its tenants in databases without Citus")
    if not found.coordinator:
        problem = "its dsn leads to a worker of Citus, which has no placements"
        yield CheckFinding(name, ERROR, "citus-worker", problem, "point it at the coordinator")
    if found.elsewhere:
        some = _listed(found.elsewhere)
        problem = f"Citus does not distribute these tenant tables by their tenant column: {some}"
        fix = "distribute them by it: create_distributed_table, or alter_distributed_table if they are distributed"
        yield CheckFinding(name, WARNING, "citus-distribution", problem, fix)


def _listed(names: tuple[str, ...]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
