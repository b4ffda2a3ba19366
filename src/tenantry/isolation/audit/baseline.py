"""Baselines: findings that a team has looked at and accepts. Pure.

One key a line, as the audit prints it; what follows a `#` says why.
"""

from __future__ import annotations

from collections.abc import Iterable

from tenantry.isolation.audit.finding import Finding

_HEAD = "# Findings of `tenantry rls audit` that are accepted: one key a line, and after a # why."


def parse(text: str) -> tuple[str, ...]:
    """The keys of a baseline file."""
    lines = (line.split("  #", 1)[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def render(findings: Iterable[Finding]) -> str:
    """A baseline file that accepts these findings."""
    keys = sorted({finding.key for finding in findings})
    return "\n".join([_HEAD, *keys]) + "\n"
