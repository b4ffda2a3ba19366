"""A move in one piece: what an operator pastes into a ticket."""

from __future__ import annotations

import contextlib
from datetime import datetime
from typing import Any, Final

from tenantry.cli.render import Renderer
from tenantry.move import Mechanism, MovePlan, MoveRecord, MoveSummary, PlanUnreadable, State
from tenantry.move.errors import in_words
from tenantry.move.steps import offline, procedure

#: What can be done with a move, by its state: command and what it does.
_NEXT: Final[dict[State, tuple[tuple[str, str], ...]]] = {
    State.RUNNING: (("resume", "goes on"), ("abort", "gives it up")),
    State.FLIPPED: (("rollback", "takes the tenant back"), ("release", "deletes the old rows")),
    State.ROLLING_BACK: (("resume", "goes on with the way back"),),
    State.RELEASING: (("resume", "goes on deleting the old rows"),),
    State.ABORTING: (("resume", "goes on cleaning up"),),
}
_KEPT: Final = (("abort", "deletes the rows that were kept at the target"),)
_ORDER: Final = [step.name for step in (*offline.PROCEDURE[:-2], *procedure.PROCEDURE)]
#: Steps after which a flipped move has nothing left to do.
_LAST: Final = {Mechanism.REPLICATION: "audit", Mechanism.COPY: "finalize"}


def row(record: MoveSummary) -> dict[str, Any]:
    """A line of the list."""
    return {
        "id": record.id,
        "tenant": record.tenant,
        "source": record.source,
        "target": record.target,
        "state": record.state.value,
        "step": record.step,
        "created_at": record.created_at,
        "error": record.error,
    }


def facts(record: MoveRecord) -> dict[str, Any]:
    """Everything, with stable keys. What the plan would say is null where this release can't read it."""
    plan = _plan(record)
    return {
        **row(record),
        "mechanism": plan and plan.mechanism.value,
        "flipped_at": record.flipped_at,
        "ended_at": record.ended_at,
        "expected_rows": plan and plan.rows,
        "expected_bytes": plan and plan.bytes,
        **record.result.found(),
        "seconds": _phases(record),
        "next": [f"tenantry moves {command} {record.id}" for command, _ in _next(record)],
    }


def text(record: MoveRecord) -> dict[str, str]:
    """The same for people: what there is to say, a line each."""
    found = record.result.found()
    told = {
        "move": record.id,
        "tenant": record.tenant,
        "from": record.source,
        "to": record.target,
        "state": _state(record),
        "why it stopped": record.error or "",
        "plan": _unreadable(record),
        "started": _when(record.created_at),
        "flipped": _when(record.flipped_at),
        "ended": _when(record.ended_at),
        "rows": _rows(record),
        "bytes": f"{found['copied_bytes']:,} copied" if "copied_bytes" in found else "",
        "pause": _pause(found),
        "verification": _verification(found),
        "phases": ", ".join(f"{step} {seconds:.1f} s" for step, seconds in _phases(record).items()),
        "next": "; ".join(f"`tenantry moves {command} {record.id}` {does}" for command, does in _next(record)),
    }
    return {name: value for name, value in told.items() if value}


def show(out: Renderer, record: MoveRecord, *, as_event: bool = False) -> None:
    """Print it. `as_event`: in JSON it is the last line of a stream."""
    if not out.as_json:
        with out.unless_unread():
            out.facts(text(record))
    elif as_event:
        out.event({"event": "move.summary", **facts(record)})
    else:
        out.tree(facts(record))


def _plan(record: MoveRecord) -> MovePlan | None:
    """The plan; None: this release can't read it."""
    with contextlib.suppress(PlanUnreadable):
        return record.plan
    return None


def _unreadable(record: MoveRecord) -> str:
    """Why the plan can't be read; "": it can."""
    try:
        record.plan  # noqa: B018  read for its error
    except PlanUnreadable as error:
        return str(error)
    return ""


def _phases(record: MoveRecord) -> dict[str, float]:
    """Seconds by step, in the order of the procedure; the journal keeps them in none."""
    took = record.result.seconds
    return dict(
        sorted(took.items(), key=lambda phase: _ORDER.index(phase[0]) if phase[0] in _ORDER else len(_ORDER))
    )


def _next(record: MoveRecord) -> tuple[tuple[str, str], ...]:
    if record.state is State.ROLLED_BACK and record.result.kept_rows:
        return _KEPT
    plan, possible = _plan(record), _NEXT.get(record.state, ())
    if plan is None:
        return ()
    if record.state is not State.FLIPPED:
        return possible
    if plan.mechanism is Mechanism.COPY:  # without replication there is no way back
        possible = possible[1:]
    return possible if record.step == _LAST[plan.mechanism] else (("resume", "finishes it"), *possible)


def _state(record: MoveRecord) -> str:
    after = f", after step {record.step}" if record.state is State.RUNNING and record.step else ""
    return in_words(record.state.value) + after


def _rows(record: MoveRecord) -> str:
    found = record.result.found()
    told = [f"{found['copied_rows']:,} copied"] if "copied_rows" in found else []
    if not told and (plan := _plan(record)):
        told = [f"about {plan.rows:,}"]
    if "deleted_rows" in found:
        told.append(f"{found['deleted_rows']:,} deleted at the old home")
    return ", ".join(told)


def _pause(found: dict[str, Any]) -> str:
    told = []
    if "pause_seconds" in found:
        fences = found.get("fences", 1)
        told.append(f"{found['pause_seconds'] * 1000:.0f} ms at fence {fences}")
    if "rollback_pause_seconds" in found:
        told.append(f"{found['rollback_pause_seconds'] * 1000:.0f} ms on the way back")
    return ", ".join(told)


def _verification(found: dict[str, Any]) -> str:
    compared = (
        ("verified_rows", "before the flip"),
        ("audited_rows", "after it"),
        ("verified_back_rows", "before the way back"),
    )
    told = [f"{found[key]:,} rows {when}" for key, when in compared if key in found]
    said = [f"all equal: {', '.join(told)}"] if told else []
    if "unaudited" in found:
        said.append("not compared after the flip, because the way back was lost")
    if "differences" in found:
        said.append(f"the audit after the flip found differences: {'; '.join(found['differences'][:5])}")
    return "; ".join(said)


def _when(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S} UTC"
