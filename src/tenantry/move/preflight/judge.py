"""Everything that would stop or harm a move, named before anything is touched. Pure rules over catalog values.

Each rule yields findings: a problem and its fix. The list `RULES` is the whole of preflight.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.move.preflight.rules_foreign_keys import cross_tenant_keys
from tenantry.move.preflight.rules_general import (
    bypassing,
    consent,
    distributed,
    earlier_schema,
    hidden,
    logins,
    long_running,
    placement,
    pooler,
    privileges,
    resources,
    servers,
    standby,
    subscriptions,
    target_identity,
)
from tenantry.move.preflight.rules_guard import guards
from tenantry.move.preflight.rules_hardening import hardening
from tenantry.move.preflight.rules_kits import kit_rules
from tenantry.move.preflight.rules_migrations import migrations
from tenantry.move.preflight.rules_privileges import privileges_of_tables
from tenantry.move.preflight.rules_publications import foreign_publications
from tenantry.move.preflight.rules_source import ids, stale_statistics, tables
from tenantry.move.preflight.rules_spelling import spelling
from tenantry.move.preflight.rules_surroundings import surroundings
from tenantry.move.preflight.rules_target import (
    creation,
    disk,
    emptiness,
    extensions,
    feeding,
    roles,
    target_schema,
    undistributed,
)

Check = Callable[[PreflightFacts], Iterator[PreflightFinding]]


def judge(facts: PreflightFacts) -> tuple[PreflightFinding, ...]:
    """Run every rule."""
    return tuple(finding for rule in RULES for finding in rule(facts))


RULES: Final[tuple[Check, ...]] = (
    pooler,
    standby,
    earlier_schema,
    migrations,
    placement,
    target_identity,
    hardening,
    kit_rules,
    privileges,
    logins,
    servers,
    resources,
    subscriptions,
    distributed,
    tables,
    stale_statistics,
    spelling,
    guards,
    cross_tenant_keys,
    foreign_publications,
    creation,
    disk,
    target_schema,
    privileges_of_tables,
    surroundings,
    extensions,
    undistributed,
    roles,
    emptiness,
    feeding,
    hidden,
    bypassing,
    long_running,
    ids,
    consent,
)
