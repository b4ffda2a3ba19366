"""Whether a target with tables of its own has the source's kits, and limits that mean the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tenantry import kits
from tenantry.ids import Kind
from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import DEFAULT_PLAN, PreflightFacts


def kit_rules(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """A target that we fill gets the source's kits; one with tables must have them, watching the same tables."""
    if facts.load_schema:
        return
    source, target = facts.source_name, facts.target_name
    for kit in facts.source_kits.installed:
        if kit not in facts.target_kits.installed:
            yield PreflightFinding(
                "kit-missing",
                f"{source} has the kit {kit} and {target} has not",
                f"run `tenantry init --with {kit}`, then what lets it watch the same tables",
            )
    for kit, statement in sorted(facts.source_kits.watched - facts.target_kits.watched):
        yield PreflightFinding(
            "kit-not-watching",
            f"the kit {kit} watches a table in {source} that it does not watch in {target}",
            f"run there: {statement}",
        )
    yield from _other_limits(facts)


def _other_limits(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """A tenant that comes to a shared database finds there what its plan means to everybody."""
    ours, theirs = facts.source_kits, facts.target_kits
    if facts.target_kind is not Kind.SHARED or not {kits.QUOTAS} <= {*ours.installed} & {*theirs.installed}:
        return
    limits = theirs.limits
    if all(plan != ours.plan for plan, _ in limits):  # then the tenant brings them
        limits = {
            **limits,
            **{key: rows for key, rows in ours.limits.items() if key[0] == ours.plan != DEFAULT_PLAN},
        }
    source, target = _allowed(ours.limits, ours.plan), _allowed(limits, ours.plan)
    for resource in sorted((source.keys() | target.keys()) - ours.exceptions):
        if source.get(resource) != target.get(resource):
            yield PreflightFinding(
                "kit-limits-differ",
                f"the plan {ours.plan} allows {_said(source.get(resource))} {resource} in {facts.source_name}, "
                f"and {_said(target.get(resource))} in {facts.target_name}, where that then holds for the tenant",
                f"if it is to keep what it has, give it an exception in {facts.source_name}: it is taken along",
                refuses=False,
            )


def _allowed(limits: Mapping[tuple[str, str], int | None], plan: str) -> dict[str, int | None]:
    """What a plan allows, resource by resource: its own limits, else those of the plan "default"."""
    found = {resource: rows for (name, resource), rows in limits.items() if name == DEFAULT_PLAN}
    return found | {resource: rows for (name, resource), rows in limits.items() if name == plan}


def _said(rows: int | None) -> str:
    return "any number of" if rows is None else str(rows)
