"""The move's protocol as an explicit-state model: every interleaving, checked against G14, G15 and progress.

Two routers with stale caches, each with a writer (one READ COMMITTED, one REPEATABLE READ); a mover that may die
at each step, the server's dead man's timer, replication both ways, a crash of the other side, a rival who aborts,
and the way back. The naive fences and movers are negative controls: the model must find their lost write.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest

SOURCE, TARGET = 0, 1


@dataclass(frozen=True)
class Protocol:
    """What is done; each False is a known way to get it wrong."""

    lock: bool = True  # bind takes the tenant's shared lock before it looks
    fresh: bool = True  # the look has a snapshot of its own, or locks the row and fails if it has changed
    marker: bool = True  # no flip until the marker is seen at the other side
    flushed: bool = True  # the other side confirms what is on its disk, not what it has applied
    behind: bool = True  # the target's row changes by the flip, not before it
    gate: bool = True  # flip and abort are decided by one row


class Writer(NamedTuple):
    repeatable: bool
    cached: tuple[int, int] = (SOURCE, 1)  # home and epoch, as the router believes
    phase: str = "idle"  # idle, begun, locked, checked, wrote
    snapshot: tuple[int, int] | None = None
    left: int = 2  # writes still to be made


class State(NamedTuple):
    logs: tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, int, int], ...]] = ((), ())
    applied: tuple[int, int] = (0, 0)  # of side i's log, at the other side
    flushed: tuple[int, int] = (0, 0)
    lost: frozenset[tuple[int, int]] = frozenset()  # entries that a crash took for good
    fence: tuple[int, str, int] | None = None  # side, phase, marker's place in the log
    alive: bool = True
    goals: int = 2  # flips still wanted: out, then back
    fences: int = 3  # attempts left
    crashes: int = 1
    gate: str = "open"
    rivals: int = 1
    wiped: bool = False
    early: bool = False  # the target's row was written before the flip
    told: tuple[int, int] = (0, 0)  # epoch that the mover has told each side itself, after a flip to it
    writers: tuple[Writer, ...] = (Writer(False), Writer(True))


def place(state: State, side: int) -> tuple[int, int]:
    """The side's placement row: its own flips, and those that have come over."""
    rows = [(SOURCE, 1)]
    if side == TARGET and state.early:
        rows.append((TARGET, 2))
    if state.told[side]:
        rows.append((side, state.told[side]))
    rows += [(home, epoch) for kind, home, epoch in state.logs[side] if kind == "place"]
    other = 1 - side
    rows += [
        (home, epoch)
        for at, (kind, home, epoch) in enumerate(state.logs[other][: state.applied[other]])
        if kind == "place" and (other, at) not in state.lost
    ]
    return max(rows, key=lambda row: row[1])


def admits(state: State, side: int) -> bool:
    return place(state, side)[0] == side


def append(state: State, side: int, entry: tuple[str, int, int]) -> State:
    logs = list(state.logs)
    logs[side] = (*logs[side], entry)
    # A commit here flushes the log up to itself: what had been applied here before it is on the disk too.
    other = 1 - side
    flushed = put(state.flushed, other, state.applied[other])
    return state._replace(logs=(logs[0], logs[1]), flushed=flushed)


def put(values: tuple[int, int], side: int, value: int) -> tuple[int, int]:
    return (value, values[1]) if side == 0 else (values[0], value)


def steps(state: State, protocol: Protocol) -> Iterator[State]:
    yield from replication(state, protocol)
    yield from mover(state, protocol)
    for index, writer in enumerate(state.writers):
        for changed, after in writer_steps(state, writer, index, protocol):
            writers = list(after.writers)
            writers[index] = changed
            yield after._replace(writers=tuple(writers))


def replication(state: State, protocol: Protocol) -> Iterator[State]:
    for side in (SOURCE, TARGET):
        if state.applied[side] < len(state.logs[side]):
            yield state._replace(applied=put(state.applied, side, state.applied[side] + 1))
        if state.flushed[side] < state.applied[side]:
            yield state._replace(flushed=put(state.flushed, side, state.applied[side]))
        if state.crashes and state.applied[side] > state.flushed[side]:
            # The other side crashes. What was applied but not flushed comes again, unless it was confirmed.
            gone = frozenset((side, at) for at in range(state.flushed[side], state.applied[side]))
            if protocol.flushed:
                after = state._replace(applied=put(state.applied, side, state.flushed[side]))
            else:
                after = state._replace(lost=state.lost | gone)
            writers = tuple(
                w._replace(phase="idle", snapshot=None) if w.cached[0] == 1 - side else w for w in state.writers
            )
            fence = None if state.fence and state.fence[0] == 1 - side else state.fence
            yield after._replace(crashes=state.crashes - 1, writers=writers, fence=fence)


def mover(state: State, protocol: Protocol) -> Iterator[State]:
    if state.fence is not None:
        yield state._replace(fence=None)  # the dead man's timer, at any moment
    if state.rivals and state.gate == "open":
        gate = "closed" if protocol.gate else "open"
        yield state._replace(rivals=0, gate=gate, wiped=True)  # somebody aborts the move: the target is emptied
    if not state.alive:
        return
    yield state._replace(alive=False)
    for there in (SOURCE, TARGET):
        home, epoch = place(state, 1 - there)
        if home == there and epoch > place(state, there)[1]:
            # The mover tells the new home itself; a commit there, so it flushes what was applied before.
            flushed = put(state.flushed, 1 - there, state.applied[1 - there])
            yield state._replace(told=put(state.told, there, epoch), flushed=flushed)
    side = SOURCE if state.goals == 2 else TARGET
    if state.fence is None:
        if state.goals and state.fences and admits(state, side):
            early = state.early or not protocol.behind
            yield state._replace(fence=(side, "asked", 0), fences=state.fences - 1, early=early)
        return
    side, phase, marker = state.fence
    if phase == "asked":
        if not any(holds(writer, side) for writer in state.writers) or not protocol.lock:
            yield state._replace(fence=(side, "locked", 0))
    elif phase == "locked":
        marked = append(state, side, ("marker", 0, 0))
        yield marked._replace(fence=(side, "marked", len(marked.logs[side])))
    elif phase == "marked":
        reached = state.flushed[side] if protocol.flushed else state.applied[side]
        if not protocol.marker or reached >= marker:
            yield state._replace(fence=(side, "proven", marker))
    elif phase == "proven" and (side == TARGET or state.gate == "open") and admits(state, side):
        epoch = place(state, side)[1] + 1
        flipped = append(state, side, ("place", 1 - side, epoch))
        gate = "flipped" if side == SOURCE else state.gate
        yield flipped._replace(fence=None, goals=state.goals - 1, gate=gate)


def holds(writer: Writer, side: int) -> bool:
    return writer.phase in ("locked", "checked", "wrote") and writer.cached[0] == side


def writer_steps(state: State, writer: Writer, index: int, protocol: Protocol) -> Iterator[tuple[Writer, State]]:
    side = writer.cached[0]
    now = place(state, side)
    if writer.phase == "idle" and writer.left:
        # Under REPEATABLE READ, and where lock and check share a statement, the snapshot is older than the lock.
        old = writer.repeatable or not protocol.fresh
        yield writer._replace(phase="begun", snapshot=now if old else None), state
    elif writer.phase == "begun":
        if not protocol.lock or state.fence is None or state.fence[0] != side:
            yield writer._replace(phase="locked"), state
        else:
            yield writer._replace(phase="idle", snapshot=None), state  # fenced: parked, and tried again
    elif writer.phase == "locked":
        seen = writer.snapshot if writer.snapshot is not None else now
        if protocol.fresh and writer.snapshot is not None and writer.snapshot != now:
            yield writer._replace(phase="idle", snapshot=None), state  # 40001
        elif seen[0] == side:
            yield writer._replace(phase="checked"), state
        else:
            cached = seen if seen[1] > writer.cached[1] else writer.cached
            yield writer._replace(phase="idle", snapshot=None, cached=cached), state
    elif writer.phase == "checked":
        yield writer._replace(phase="wrote"), state
    elif writer.phase == "wrote":
        done = writer._replace(phase="idle", snapshot=None, left=writer.left - 1)
        kind = "write" if admits(state, side) else "astray"
        yield done, append(state, side, (kind, index, writer.left))


def violation(state: State) -> str | None:
    """What is wrong in this state, if anything."""
    if admits(state, SOURCE) and admits(state, TARGET):
        return "two homes"
    for side in (SOURCE, TARGET):
        if any(kind == "astray" for kind, _, _ in state.logs[side]):
            return "a write into the old home"
        other = 1 - side
        if not admits(state, side):
            continue
        for at, (kind, _, _) in enumerate(state.logs[other]):
            if kind == "write" and (at >= state.applied[other] or (other, at) in state.lost):
                return "an acknowledged write is not in the new home"
        if side == TARGET and state.wiped:
            return "the new home was emptied"
    settled = settle(state)
    if admits(settled, SOURCE) == admits(settled, TARGET):
        return "nobody can write, and nothing will change that"
    return None


def settle(state: State) -> State:
    """What becomes of it with the mover dead: timers fire, replication arrives."""
    ends = (len(state.logs[0]), len(state.logs[1]))
    return state._replace(fence=None, alive=False, applied=ends, flushed=ends)


def explore(protocol: Protocol, start: State) -> tuple[str | None, int]:
    """The first violation, and how many states were seen."""
    seen = {start}
    todo = deque([start])
    while todo:
        state = todo.popleft()
        if wrong := violation(state):
            return wrong, len(seen)
        for after in steps(state, protocol):
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return None, len(seen)


SMALL = State(writers=(Writer(False, left=1), Writer(True, left=1)), fences=2)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(SMALL, id="two writers, out and back"),
        pytest.param(SMALL._replace(writers=(Writer(True, left=2),), rivals=0), id="one writer, twice"),
        pytest.param(SMALL._replace(writers=(Writer(False, cached=(TARGET, 2), left=1),)), id="told too early"),
    ],
)
def test_every_interleaving_keeps_one_home_and_every_write(start: State) -> None:
    wrong, states = explore(Protocol(), start)
    assert wrong is None
    assert states > 1_000


@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        ("lock", {"a write into the old home", "an acknowledged write is not in the new home"}),
        ("fresh", {"a write into the old home"}),
        ("marker", {"an acknowledged write is not in the new home"}),
        (
            "flushed",
            {"an acknowledged write is not in the new home", "nobody can write, and nothing will change that"},
        ),
        ("behind", {"two homes"}),
        ("gate", {"the new home was emptied"}),
    ],
)
def test_naive_protocols_are_caught(flaw: str, found: set[str]) -> None:
    wrong, _ = explore(replace(Protocol(), **{flaw: False}), SMALL)
    assert wrong in found
