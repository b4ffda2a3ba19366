"""Baselines: findings that a team has looked at and accepts. Pure.

One key a line, as the audit and `check` print it; what follows a `#` says why.
"""

from __future__ import annotations

from collections.abc import Iterable

_HEAD = "# Findings of tenantry that are accepted: one key a line, and after two blanks and a # why."


def parse(text: str) -> tuple[str, ...]:
    """The keys of a baseline file."""
    lines = (line.split("  #", 1)[0].strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))


def render(keys: Iterable[str]) -> str:
    """A baseline file that accepts the findings with these keys."""
    return "\n".join([_HEAD, *sorted(set(keys))]) + "\n"
