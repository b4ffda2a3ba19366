"""The states of a move and what may follow what. Pure."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tenantry.move.errors import WrongState


class State(StrEnum):
    """Where a move stands. The tenant lives in the source until FLIPPED, and again from ROLLED_BACK on."""

    RUNNING = "running"
    FLIPPED = "flipped"
    ROLLING_BACK = "rolling_back"
    RELEASING = "releasing"
    ABORTING = "aborting"
    RELEASED = "released"
    ROLLED_BACK = "rolled_back"
    ABORTED = "aborted"

    @property
    def finished(self) -> bool:
        """True if nothing is left to do."""
        return self in (State.RELEASED, State.ROLLED_BACK, State.ABORTED)


#: Each state's successors. FLIPPED is the point of no return: from there on a move is undone by moving back.
SUCCESSORS: Final = {
    State.RUNNING: frozenset({State.FLIPPED, State.ABORTING}),
    State.FLIPPED: frozenset({State.ROLLING_BACK, State.RELEASING}),
    State.ROLLING_BACK: frozenset({State.ROLLED_BACK}),
    State.RELEASING: frozenset({State.RELEASED}),
    State.ABORTING: frozenset({State.ABORTED, State.FLIPPED}),  # FLIPPED: the flip came first
    State.RELEASED: frozenset[State](),
    State.ROLLED_BACK: frozenset[State](),
    State.ABORTED: frozenset[State](),
}

#: Endings that give way to another state once the way back's gate has told what happened. Only who holds the lease
#: and has just seen the gate may say so: see `Journal.turn`.
FORCED: Final = {
    State.ROLLING_BACK: State.FLIPPED,  # given up before its flip: the way back may be broken for good
    State.RELEASING: State.ROLLING_BACK,  # its flip came first, by a mover that was cut off
}
#: What is wished: the state that begins it, and the one in which it is done.
_COMMANDS: Final = {
    "aborted": (State.ABORTING, State.ABORTED),
    "rolled back": (State.ROLLING_BACK, State.ROLLED_BACK),
    "released": (State.RELEASING, State.RELEASED),
}
_NEXT_STEP: Final = {
    State.RUNNING: "resume or abort it first",
    State.FLIPPED: "roll it back or release it",
    State.ROLLING_BACK: "resume it: it is on its way back",
    State.RELEASING: "resume it: the old rows are being deleted",
    State.ABORTING: "resume it: it is being cleaned up",
    State.RELEASED: "plan a new move if the tenant is to go elsewhere",
    State.ROLLED_BACK: "plan a new move",
    State.ABORTED: "plan a new move",
}


def begin(move: str, state: State, wish: str) -> State | None:
    """The state that begins what is wished; None if it is done already, so that asking twice is harmless.

    Raises:
        WrongState: it can't be done from here.
    """
    goal, done = _COMMANDS[wish]
    if state is done:
        return None
    if state is goal or goal in SUCCESSORS[state]:
        return goal
    raise WrongState(move, state.value, wish, _NEXT_STEP[state])
