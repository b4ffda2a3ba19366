"""The model of G23: what may be told of a COMMIT, by what has become of it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, NamedTuple


class Truth(Enum):
    """What the database holds, read from outside when all is over."""

    COMMITTED = "its row is there"
    NOT_COMMITTED = "its row is not there"


class Told(Enum):
    """What a caller was told of its scope."""

    COMMITTED = "the scope ended without an error"
    REFUSED = "an error, which says that nothing is committed"
    UNKNOWN = "CommitUnknown"
    CANCELLED = "nothing: it was cancelled, and did not wait for an answer"


class Link(Enum):
    """What became of the connection."""

    KEPT = "it lived"
    LOST = "it went away before COMMIT was answered"
    LOST_LATER = "it went away, and the answer to COMMIT had arrived"


#: The whole truth table. A caller that was cancelled may be told anything that is not false, or nothing.
ALLOWED: Final[dict[tuple[Truth, Link], frozenset[Told]]] = {
    (Truth.COMMITTED, Link.KEPT): frozenset({Told.COMMITTED}),
    (Truth.NOT_COMMITTED, Link.KEPT): frozenset({Told.REFUSED}),
    (Truth.COMMITTED, Link.LOST): frozenset({Told.COMMITTED, Told.UNKNOWN}),
    (Truth.NOT_COMMITTED, Link.LOST): frozenset({Told.REFUSED, Told.UNKNOWN}),
    (Truth.COMMITTED, Link.LOST_LATER): frozenset({Told.COMMITTED}),
    (Truth.NOT_COMMITTED, Link.LOST_LATER): frozenset({Told.REFUSED}),
}


class Report(NamedTuple):
    """One caller's scope."""

    caller: str
    truth: Truth
    told: Told
    cancelled: bool = False
    """Somebody had cancelled the caller."""
    error: str = ""


def violations(reports: Iterable[Report], link: Link) -> list[str]:
    """What is false in the reports of callers that shared a connection one after the other, or costs too much.

    One connection that is lost can cost one caller its scope: whoever comes next is served elsewhere.
    """
    reports = list(reports)
    wrong = []
    for report in reports:
        allowed = ALLOWED[report.truth, link]
        if report.cancelled:
            allowed |= {Told.CANCELLED}
        if report.told not in allowed:
            wrong.append(f"{report.caller}: told {report.told.name} ({report.error}), and {report.truth.value}")
    harmed = [one.caller for one in reports if one.told is not Told.COMMITTED and not one.cancelled]
    if link is not Link.KEPT and len(harmed) > 1:
        wrong.append(f"one lost connection has harmed {', '.join(harmed)}")
    return wrong
