"""What a move can say when it does not go on. One class per fact; the message says the state and the next step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tenantry.errors import TenantryError


class PreflightFinding(NamedTuple):
    """Something that preflight found."""

    code: str
    """Stable name of the rule, such as "tenant-column-missing"."""
    problem: str
    """One sentence."""
    fix: str = ""
    """The statement or the step that fixes it; empty in a plan that was journalled before findings had it."""
    refuses: bool = True
    """False: worth knowing, the move goes on."""


class MoveError(TenantryError):
    """Base of the errors of moves."""


class MoveRefused(MoveError):
    """Preflight found what the move can't carry. Nothing was touched.

    Attributes:
        findings: those that refuse.
    """

    def __init__(self, tenant: str, target: str, findings: Sequence[PreflightFinding]) -> None:
        self.findings = tuple(findings)
        listed = "; ".join(f"{f.problem} (fix: {f.fix})" for f in findings)
        super().__init__(f"moving tenant {tenant} to {target} is refused, nothing was touched: {listed}")


class AlreadyThere(MoveError):
    """The tenant lives in the wanted database already.

    Attributes:
        tenant: its id.
        database: where it lives.
    """

    def __init__(self, tenant: str, database: str) -> None:
        self.tenant = tenant
        self.database = database
        super().__init__(f"tenant {tenant} lives in {database} already; there is nothing to do")


class UnknownMove(MoveError, LookupError):
    """The journal has no such move."""

    def __init__(self, move: str) -> None:
        self.move = move
        super().__init__(f"no move {move} in the journal; see `tenantry moves list`")


class PlanUnreadable(MoveError):
    """The journal's plan of a move can't be read by this release. Nothing was touched.

    Attributes:
        move: its id.
        reason: what is in the way.
    """

    def __init__(self, move: str, reason: str) -> None:
        self.move = move
        self.reason = reason
        super().__init__(
            f"this release can't read the plan of move {move}: {reason}. The tenant goes on working; use the "
            "release of tenantry that planned the move, or a later one"
        )


class MoveBusy(MoveError):
    """Another mover is at it.

    Attributes:
        move: the move that is in the way.
    """

    def __init__(self, move: str, why: str) -> None:
        self.move = move
        super().__init__(f"move {move} is in the way: {why}; see `tenantry moves show {move}`")


class WrongState(MoveError):
    """The move is not in a state in which this can be done."""

    def __init__(self, move: str, state: str, wanted: str, next_step: str) -> None:
        self.move = move
        self.state = state
        super().__init__(f"move {move} is {in_words(state)}, so it can't be {wanted}; {next_step}")


class MoveStopped(MoveError):
    """The move stopped before its end. The tenant works where it lives.

    Attributes:
        move: its id.
        reason: why.
    """

    def __init__(self, move: str, reason: str) -> None:
        self.move = move
        self.reason = reason
        super().__init__()
        self.advise(f"`tenantry moves resume {move}` tries again, `tenantry moves abort {move}` gives up")

    def advise(self, next_step: str) -> None:
        """Name another next step, where the move's state asks for one."""
        self.args = (f"move {self.move} stopped: {self.reason}; the tenant goes on working. {next_step}",)


class SchemaChanged(MoveStopped):
    """A table of the tenant changed its shape or its files since the move was planned."""


class SlotLost(MoveStopped):
    """A replication slot is lost or gone, and with it what it kept for the other side."""

    def __init__(self, move: str, database: str) -> None:
        why = "max_slot_wal_keep_size), or gone with the server that had it (a failover"
        super().__init__(move, f"the replication slot on {database} is lost ({why})")
        self.advise(f"`tenantry moves abort {move}` gives up; then move again")


class DataDiffers(MoveStopped):
    """The two sides do not hold the same rows.

    Attributes:
        differences: the first of them, one sentence each.
    """

    def __init__(self, move: str, differences: Sequence[str]) -> None:
        self.differences = tuple(differences)
        super().__init__(move, "the two sides differ: " + "; ".join(differences[:5]))


class MoveInterrupted(MoveError):
    """The move was stopped from outside, at a clean point: Ctrl-C. The tenant works where it lives.

    Attributes:
        move: its id.
        state: its state.
        home: the database where the tenant lives; None: it could not be asked.
    """

    def __init__(self, move: str, state: str, home: str | None) -> None:
        self.move = move
        self.state = state
        self.home = home
        other = {
            "running": f"`tenantry moves abort {move}` gives it up",
            "flipped": f"`tenantry moves rollback {move}` takes the tenant back",
        }.get(state)
        super().__init__(
            f"move {move} was interrupted and is {in_words(state)}; "
            f"the tenant works on{f' in {home}' if home else ''}. "
            f"`tenantry moves resume {move}` goes on" + (f", {other}" if other else "")
        )


class LeaseLost(MoveError):
    """The session that held the move's lease broke, and another mover has it or has gone on with the move."""

    def __init__(self, move: str) -> None:
        self.move = move
        super().__init__(
            f"the lease of move {move} was lost to another mover; `tenantry moves show {move}` says how it "
            f"stands, `tenantry moves resume {move}` goes on once nobody runs it"
        )


class FenceMissed(MoveError):
    """One attempt at the fence ended by itself; the tenant went on where it was."""


class Unreachable(MoveError):
    """A database did not answer, or not directly."""


def in_words(state: str) -> str:
    """A state as people read it; JSON has it as it is in the journal."""
    return state.replace("_", " ")
