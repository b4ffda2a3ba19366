"""The threat model's tables, made from the values that the tests hold to what happens."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.conformance.attacks import KINDS
from tests.conformance.attacks.attack import Gain, Gains
from tests.conformance.attacks.availability import THREATS

PAGE: Final = Path(__file__).parents[3] / "docs" / "explanation" / "security.md"


def attacks() -> str:
    """What SQL injected into a scope gets, kind by kind."""
    lines = ["| SQL injected into A's scope tries | attacks | plain | hardened | |", "|---|---:|---|---|---|"]
    for kind in KINDS:
        cells = (kind.title, str(len(kind.attacks)), _gained(kind.plain), _gained(kind.hardened), kind.why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def availability() -> str:
    """What one tenant can do to the others' service."""
    lines = ["| attempt | the others | what bounds it | proved by |", "|---|---|---|---|"]
    for threat in THREATS:
        others = threat.others if threat.holds else f"**{threat.others}**"
        lines.append(f"| {threat.attempt} | {others} | {threat.bound} | `{threat.test}` |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its tables as they should be."""
    for name, table in (("attacks", attacks()), ("availability", availability())):
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{PAGE.name} has no place for the table of {name}: {start} … {end}")
        text = f"{before}{start}\n{table}\n{end}{after}"
    return text


def _gained(gains: Gains) -> str:
    return "; ".join(f"**{gain.value}**" for gain in Gain if gain in gains) or "holds"
