"""The console's first line: is anything wrong, and what is to be done next. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import quote

from tenantry.operations.check.findings import ERROR
from tenantry.promotion import Action, Candidacy, Verdict, percent
from tenantry.server.console.values import Seen
from tenantry.server.fleet import Fleet, MoveRow

#: A move that is said to be stuck has not got on for so many seconds.
STUCK: Final = 6 * 3600.0
#: Part of the last hour that must have been reported.
COVERED: Final = 0.95
#: Callers that wait in front of one database, above which it is told.
WAITING: Final = 100
#: Steps after which a flipped move waits for its release only.
DONE: Final = frozenset({"audit", "finalize"})


class Trouble(NamedTuple):
    """Something that is wrong."""

    severe: bool
    """True: something does not work or is not safe. False: it may bite later."""
    what: str
    command: str
    """That mends it, or says how to."""
    page: str = "/"
    """Path of the page that has more."""


class Advice(NamedTuple):
    """Something to do when all is well."""

    what: str
    command: str
    page: str


@dataclass(frozen=True, slots=True)
class Judgement:
    """The answer to "is anything wrong?", and to "what do I do next?"."""

    troubles: tuple[Trouble, ...]
    """The severe ones first."""
    steps: tuple[Advice, ...]
    pending: tuple[str, ...]
    """What has not been looked at yet."""

    @property
    def state(self) -> str:
        """ "well", "pending", "warning" or "wrong"."""
        if any(trouble.severe for trouble in self.troubles):
            return "wrong"
        if self.troubles:
            return "warning"
        return "pending" if self.pending else "well"

    @property
    def line(self) -> str:
        """One line for people."""
        if self.troubles:
            more = len(self.troubles) - 1
            also = f" And {more} more below." if more else ""
            return f"{_sentence(self.troubles[0].what)}{also}"
        if self.pending:
            return f"Nothing is wrong so far; not looked at yet: {', '.join(self.pending)}."
        return "All is well."


def _sentence(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def judge(fleet: Fleet, seen: Seen, now: datetime) -> Judgement:
    """Judge the fleet as it was read."""
    if fleet.error is not None:
        away = (
            f"The control database can't be read ({fleet.error}): routers go on serving the tenants that they "
            "know, sign-ups and moves wait"
        )
        return Judgement((Trouble(True, away, "tenantry check", "/checks"),), (), ())
    if fleet.at is None:
        return Judgement((), (), ("the control database",))
    troubles = [
        *_databases(fleet, seen),
        *_checks(fleet, seen),
        *_moves(fleet, seen, now),
        *_backups(fleet),
        *_reporting(fleet, seen),
    ]
    if not fleet.databases:
        troubles.append(Trouble(False, "The directory is empty", "tenantry apply", "/databases"))
    pending = []
    if seen.probes is None:
        pending.append("the databases")
    if seen.checked is None:
        pending.append("`tenantry check`")
    ordered = sorted(troubles, key=lambda trouble: not trouble.severe)
    return Judgement(tuple(ordered), tuple(_steps(fleet, seen)), tuple(pending))


def _databases(fleet: Fleet, seen: Seen) -> Iterable[Trouble]:
    inhabited = {one.name for one in fleet.databases if one.tenants}
    for name, probe in (seen.probes or {}).items():
        page = f"/database?name={name}"
        if probe.unknown:
            what = f"Database {name} can't be looked at from this machine: {probe.error}"
            yield Trouble(False, what, f"tenantry databases show {name}", page)
        elif probe.error is not None:  # one where nobody lives may not have been made yet
            what = f"Database {name} does not answer ({probe.error})"
            yield Trouble(name in inhabited, what, "tenantry check", page)
        elif probe.connections and probe.allowed and probe.connections >= 0.9 * probe.allowed:
            what = f"Database {name} has {probe.connections} of {probe.allowed} connections in use"
            yield Trouble(False, what, "tenantry top", f"/database?name={name}")
    waiting: dict[str, int] = {}
    for (database, _), callers in seen.queues.items():
        waiting[database] = waiting.get(database, 0) + callers
    for database, callers in waiting.items():
        if callers > WAITING:
            what = f"{callers} callers wait for a connection to {database}"
            yield Trouble(True, what, "tenantry top --watch", f"/database?name={database}")


def _checks(fleet: Fleet, seen: Seen) -> Iterable[Trouble]:
    if seen.checked is None:
        return
    if seen.checked.error is not None:
        yield Trouble(False, f"`tenantry check` could not run ({seen.checked.error})", "tenantry check", "/checks")
    silent = {name for name, probe in (seen.probes or {}).items() if probe.error is not None}
    empty = {one.name for one in fleet.databases if not one.tenants}  # a move may be about to fill it
    for finding in (one for one in seen.checked.findings if one.severity == ERROR):
        if finding.database in silent:  # told already, and better
            continue
        severe = finding.database not in empty
        yield Trouble(severe, f"{finding.database}: {finding.problem}", finding.fix, "/checks")


def _moves(fleet: Fleet, seen: Seen, now: datetime) -> Iterable[Trouble]:
    for move in fleet.moves:
        if move.finished:
            continue
        page = f"/move?id={move.id}"
        if move.error is not None:
            what = f"The move {move.id} of {_called(move.tenant, seen)} has stopped: {move.error}"
            yield Trouble(True, what, f"tenantry moves resume {move.id}", page)
        elif not waits_for_release(move) and (now - move.changed_at).total_seconds() > STUCK:
            what = f"The move {move.id} of {_called(move.tenant, seen)} has not got on for six hours"
            yield Trouble(False, what, f"tenantry moves resume {move.id}", page)


def _backups(fleet: Fleet) -> Iterable[Trouble]:
    for name, age in sorted(fleet.numbers.backups.items()):
        every = fleet.numbers.backups_every.get(name)
        if every is not None and age > every:
            old = "has never been made" if age == float("inf") else f"is {duration(age)} old"
            what = f"The backup of {name} {old}; its policy wants one every {duration(every)}"
            yield Trouble(True, what, f"tenantry backup {name}", f"/database?name={name}")


def _reporting(fleet: Fleet, seen: Seen) -> Iterable[Trouble]:
    coverage = fleet.numbers.coverage
    if coverage is not None and coverage < COVERED and seen.reporting:
        what = f"Only {percent(coverage)} of the last hour was reported by the routers, so the rule waits"
        yield Trouble(False, what, "tenantry check", "/fleet")


def waits_for_release(move: MoveRow) -> bool:
    """The tenant lives in its new home, and all that is left is to delete the old rows."""
    return move.state == "flipped" and move.step in DONE and move.error is None


def _steps(fleet: Fleet, seen: Seen) -> Iterable[Advice]:
    moving = {move.tenant for move in fleet.moves if not move.finished}
    for verdict in fleet.verdicts:
        if verdict.state is Candidacy.CANDIDATE and verdict.tenant not in moving:
            yield Advice(_candidate(verdict, seen), command_of(verdict), tenant_page(verdict.tenant))
    for move in fleet.moves:
        if waits_for_release(move):
            who = _called(move.tenant, seen)
            what = f"The move {move.id} of {who} to {move.target} is complete and waits for its release"
            yield Advice(what, f"tenantry moves release {move.id}", f"/move?id={move.id}")


def _candidate(verdict: Verdict, seen: Seen) -> str:
    if verdict.action is Action.PROMOTE:
        return f"{_called(verdict.tenant, seen)} has outgrown {verdict.database}: look at what a move would do"
    return f"{_called(verdict.tenant, seen)} could return from {verdict.database} to a shared database"


def _called(tenant: str, seen: Seen) -> str:
    """What people call it."""
    return seen.names.get(tenant, tenant)


def command_of(verdict: Verdict) -> str:
    """The command that shows what the move would do."""
    tenant = shlex.quote(verdict.tenant)
    if verdict.action is Action.PROMOTE:
        return f"tenantry promote {tenant} --to DATABASE --plan"
    return f"tenantry demote {tenant} --plan"


def tenant_page(tenant: str) -> str:
    """Path of a tenant's page. An id may have any character: it travels in the query, quoted."""
    return f"/tenant?id={quote(tenant, safe='')}"


def next_commands(state: str, move: str, *, complete: bool, reversible: bool) -> tuple[tuple[str, str], ...]:
    """What can be done with a move: commands, and what each does.

    Args:
        complete: its last step is done.
        reversible: False: it was a copy under the fence, and there is no way back.
    """
    found: list[tuple[str, str]] = []
    if state in ("running", "rolling_back", "releasing", "aborting") or (state == "flipped" and not complete):
        found.append(("resume", "goes on"))
    if state == "running":
        found.append(("abort", "gives it up"))
    if state == "flipped" and reversible:
        found.append(("rollback", "takes the tenant back"))
    if state == "flipped":
        found.append(("release", "deletes the old rows"))
    return tuple((f"tenantry moves {command} {move}", does) for command, does in found)


def duration(seconds: float) -> str:
    """Seconds as people say them: 90 s, 12 min, 5 h, 3 days."""
    for unit, size in (("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
