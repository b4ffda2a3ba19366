"""The SQL that brings every tenant table to the standard, in steps that do not block. Pure.

A plan is computed from the catalogs alone, so it is resumable by nature: what was done is no longer
in the next plan, and a plan that was applied whole leaves an empty one behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tenantry.catalog.tables import Undecided
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan import columns, grants, identity, indexes, policies, references, views
from tenantry.isolation.plan.step import Plan, PlanContext, PlanStep, PolicyMode

__all__ = ["Plan", "PlanContext", "PlanStep", "PolicyMode", "plan"]

# Indexes first, since a policy without one is slow; a column is filled before it becomes part of an
# identity; policies close the tables; views come last, because they then need the policies below
# them.
_PHASES: tuple[Callable[[PlanContext], Iterator[PlanStep | Undecided]], ...] = (
    indexes.steps,
    columns.steps,
    identity.steps,
    references.steps,
    grants.steps,
    policies.steps,
    views.steps,
)
_OBSERVING: tuple[Callable[[PlanContext], Iterator[PlanStep | Undecided]], ...] = (
    indexes.steps,
    policies.observe,
)


def plan(
    catalog: Catalog,
    tenancy: Tenancy,
    *,
    role: str | None = None,
    nulls: frozenset[int] = frozenset(),
    foreign_keys: bool = False,
    not_null: bool = True,
    mode: PolicyMode = PolicyMode.ENFORCE,
) -> Plan:
    """Compute what is to be done.

    Args:
        role: the application role that gets the grants; None leaves grants to others alone.
        nulls: tables known to hold rows without a tenant (`apply.null_tenants`).
        foreign_keys: True to make foreign keys between tenant tables compare the tenants too.
        not_null: True to make tenant columns NOT NULL where nothing says that rows of nobody are meant; False
            leaves each to a decision.
        mode: OBSERVE installs policies that allow everything and record; ENFORCE the real ones.
    """
    context = PlanContext(Facts(catalog, tenancy, role), nulls, foreign_keys, not_null)
    steps: list[PlanStep] = []
    undecided = [*_installed(catalog, tenancy), *context.facts.tables.undecided]
    for phase in _PHASES if mode is PolicyMode.ENFORCE else _OBSERVING:
        for found in phase(context):
            if isinstance(found, PlanStep):
                steps.append(found)
            else:
                undecided.append(found)
    return Plan(tuple(steps), tuple(undecided), context.kept())


def _installed(catalog: Catalog, tenancy: Tenancy) -> Iterator[Undecided]:
    wanted = "admitted_tenant" if tenancy.hardened else "admitted"
    names = {f.name for f in catalog.functions.values() if f.schema == "tenantry"}
    if wanted not in names:
        yield Undecided(
            "tenantry",
            f"the policies call tenantry.{wanted}(), which is not installed here",
            ("run `tenantry init` first",),
            "schema",
        )
