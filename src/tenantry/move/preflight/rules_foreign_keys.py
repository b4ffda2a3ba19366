"""Rows of the moving tenant and of others that reference each other would be torn apart. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import ALTOGETHER, PATIENCE, PreflightFacts


def cross_tenant_keys(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """What hangs together across tenants would be torn apart."""
    for key in facts.cross_tenant_keys:
        ours, others = f"of tenant {facts.tenant}", "of other tenants"
        near, far = (ours, others) if key.outward else (others, ours)
        if key.rows is None:
            yield PreflightFinding(
                "references-unchecked",
                f"it is not known whether rows {near} in {key.child} reference rows {far} in {key.parent} "
                f"({key.constraint}): to look takes too long ({PATIENCE:g} s each, "
                f"{ALTOGETHER:g} s for all), or another role",
                f"see that this finds none: {key.query}",
                refuses=False,
            )
            continue
        many = key.rows != 1
        if key.outward:
            follows = f"the foreign key would fail in {facts.target_name}"
        else:
            follows = f"they would reference nothing once {facts.source_name} has given those away"
        yield PreflightFinding(
            "cross-tenant-reference",
            f"{key.rows} row{'s' if many else ''} {near} in {key.child} reference{'' if many else 's'} "
            f"rows {far} in {key.parent} ({key.constraint}): {follows}",
            f"put the tenant column into the foreign key, after a fix of the rows that this finds: {key.query}",
        )
