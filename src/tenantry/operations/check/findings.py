"""What `check` finds."""

from __future__ import annotations

from typing import Final, NamedTuple

ERROR: Final = "error"
WARNING: Final = "warning"
#: Tables that a finding names; of the others it says how many.
NAMED: Final = 5


class CheckFinding(NamedTuple):
    """Something that an operator should know."""

    database: str
    severity: str
    """"error": something will not work or is not safe. "warning": it may bite later."""
    code: str
    """Stable."""
    problem: str
    fix: str

    @property
    def key(self) -> str:
        """What a baseline accepts: the code and the database."""
        return f"{self.code} {self.database}"
