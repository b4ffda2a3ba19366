"""A linter for isolation: it reads the catalogs and says what lets rows cross between tenants.

One rule is one module of `rules`, found by being there; its page is `docs/reference/audit/<code>.md`. The
rules are plain functions, so the audit needs no right but CONNECT and changes nothing.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from functools import cache
from typing import NamedTuple

from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog
from tenantry.isolation.audit import rules as _rules
from tenantry.isolation.audit.finding import AuditFinding, Check, Found, Rule, Severity, Subject
from tenantry.isolation.misspelt import Misspelt

__all__ = ["AuditFinding", "AuditReport", "Found", "Rule", "Severity", "Subject", "audit", "every_rule"]

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}


class AuditReport(NamedTuple):
    """What an audit found."""

    findings: tuple[AuditFinding, ...]
    """The worst first."""
    accepted: tuple[AuditFinding, ...]
    """Findings that the baseline accepts."""
    stale: tuple[str, ...]
    """Keys of the baseline that no finding has any longer."""
    tables: int
    """How many tenant tables were looked at."""
    unchecked: tuple[str, ...]
    """What could not be told, and why."""

    @property
    def clean(self) -> bool:
        """True when something was looked at and nothing was found."""
        return not self.findings and self.tables > 0


@cache
def every_rule() -> tuple[tuple[Rule, Check], ...]:
    """Every rule with its check, by code."""
    found = []
    for entry in pkgutil.iter_modules(_rules.__path__):
        module = importlib.import_module(f"{_rules.__name__}.{entry.name}")
        found.append((module.RULE, module.check))
    return tuple(sorted(found, key=lambda pair: pair[0].code))


def audit(
    catalog: Catalog,
    tenancy: Tenancy,
    *,
    role: str | None = None,
    baseline: Iterable[str] = (),
    misspelt: Mapping[int, Misspelt] | None = None,
) -> AuditReport:
    """Check every rule.

    Args:
        role: the application role. Without it the rules look at every role that anything is granted
            to, and those about the role itself can't say anything.
        baseline: keys of findings that are accepted (`baseline.parse`).
        misspelt: what `read_misspelt` has found in the rows; None: they were not looked at.
    """
    subject = Subject(catalog, tenancy, role, misspelt or {})
    accepted_keys = frozenset(baseline)
    found = [
        AuditFinding(rule, place.object, place.message, place.fix)
        for rule, check in every_rule()
        for place in check(subject)
    ]
    found.sort(key=lambda finding: (_ORDER[finding.rule.severity], finding.key))
    keys = {finding.key for finding in found}
    return AuditReport(
        findings=tuple(f for f in found if f.key not in accepted_keys),
        accepted=tuple(f for f in found if f.key in accepted_keys),
        stale=tuple(sorted(accepted_keys - keys)),
        tables=len(subject.tenant_tables),
        unchecked=tuple(_unchecked(subject)),
    )


def _unchecked(subject: Subject) -> Iterable[str]:
    if subject.role is None:
        yield "whether the application's role bypasses or owns anything: no role was named"
    elif subject.role not in subject.catalog.roles:
        yield f"anything about the role {subject.role}: this server has no such role"
    for oid, found in subject.misspelt.items():
        if not found.values:
            name = subject.catalog.relations[oid].key
            yield f"whether rows of {name} spell their tenants otherwise: they could not be read, or not in time"
    if not subject.tenant_tables:
        yield (f"any table: none has the column {subject.tenancy.column!r} in any spelling; set tenancy.column")
