"""Whether all databases have one schema of the product, and who a migration has left behind. No I/O."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.fingerprint import drifts
from tenantry.ids import Kind
from tenantry.operations.check.facts import FleetFacts
from tenantry.operations.check.findings import NAMED, WARNING, CheckFinding
from tenantry.operations.migrate.values import DatabaseRun, MigrateRun, RunState


def of_schemas(facts: FleetFacts) -> Iterator[CheckFinding]:
    """Databases with another schema than most, and those that an unfinished migration has not reached."""
    # A shared one is the measure where two schemas are equally common.
    turns = sorted(facts.databases, key=lambda one: (one.database.kind is not Kind.SHARED, one.database.name))
    found = [(one.database.name, one.router.fingerprint) for one in turns]
    for drift in drifts((name, fingerprint) for name, fingerprint in found if fingerprint is not None):
        named, more = ", ".join(drift.differences[:NAMED]), len(drift.differences) - NAMED
        besides = f", and {more} more" if more > 0 else ""
        yield CheckFinding(
            drift.database,
            WARNING,
            "schema-drift",
            f"its schema is another one than {drift.reference}'s: it {named}{besides}",
            "run the product's migrations by `tenantry migrate`, or take back what was changed by hand",
        )
    yield from _behind(facts.migration)


def _behind(run: MigrateRun | None) -> Iterator[CheckFinding]:
    if run is None or run.state is not RunState.STOPPED:
        return
    behind: list[DatabaseRun] = [one for one in run.databases if one.database in run.behind]
    for one in behind:
        yield CheckFinding(
            one.database,
            WARNING,
            "schema-behind",
            f"run {run.id} of `tenantry migrate` is not done here ({one.state})",
            f"run it again: `{run.command}`; it goes on with who is behind. `tenantry migrate abandon` gives up",
        )
