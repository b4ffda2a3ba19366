"""What the steps and endings of a move have found, as the journal keeps it: read whichever release wrote it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tenantry.move import plan_format


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveResult:
    """Figures of a move; None: nothing is known of it yet. A step returns those that it has found."""

    copied_rows: int | None = None
    copied_bytes: int | None = None
    copy_seconds: float | None = None
    probe_seconds: float | None = None
    """That a marker took to the target, at worst, once it had caught up."""
    verified_rows: int | None = None
    """Of one side, compared before the flip."""
    verify_seconds: float | None = None
    pause_seconds: float | None = None
    """For which the tenant's clients waited at the flip."""
    fences: int | None = None
    """Tried until the flip."""
    audited_rows: int | None = None
    """Of one side, compared after the flip."""
    audit_seconds: float | None = None
    unaudited: str | None = None
    """Why they were not."""
    differences: tuple[str, ...] | None = None
    """That the audit found, one sentence each."""
    kept_rows: bool | None = None
    """True: rows of the tenant were left at the target when it went back."""
    verified_back_rows: int | None = None
    """Of one side, compared before the way back."""
    rollback_pause_seconds: float | None = None
    deleted_rows: int | None = None
    """At the old home, by the release."""
    kits_read_to: str | None = None
    """Position in the source's audit log up to which it was copied before the flip."""
    kits_limits: Mapping[str, Any] | None = None
    """The limits that were copied last, as both sides had them then."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """By step or ending: how long each took."""

    @classmethod
    def from_json(cls, text: str) -> MoveResult:
        """From the journal. What this release does not know is left out."""
        return plan_format.decode(cls, text)

    def found(self) -> dict[str, Any]:
        """What is known, by name; without the seconds, which the journal adds up by itself."""
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        del values["seconds"]
        return {name: value for name, value in values.items() if value is not None}

    def to_json(self) -> str:
        """What is known, for the journal: added to what it has."""
        return json.dumps(self.found())


#: Of steps that find out nothing worth keeping.
NOTHING = MoveResult()
