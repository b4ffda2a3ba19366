"""What is wrong with the fleet: the control database, the servers, the directory, the backups."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import groupby
from typing import Final

from tenantry.config import Config
from tenantry.isolation.audit.rules.tn502_server_outdated import FIXES
from tenantry.move import State
from tenantry.move.errors import in_words
from tenantry.operations.check.facts import FleetFacts, Reached
from tenantry.operations.check.findings import ERROR, WARNING, CheckFinding
from tenantry.operations.check.rules_database import functions, plaintext, poolers, version

OLDEST: Final = 15
NEWEST: Final = 18
#: Seconds that clocks may differ: the ledger's hours and the leases of moves are counted by them.
SKEW: Final = 2.0
#: How much older than its policy says a backup may be: making it takes time.
LATE: Final = 1.25
#: Connections that a process holds to the control database: the store's and the listener.
CONTROL_CONNECTIONS: Final = 4
#: What ends a move that has left something, by its state; `resume` where nothing is said.
_ENDS: Final = {
    State.RUNNING: ("resume", "abort"),
    State.FLIPPED: ("release", "rollback"),
    State.ABORTED: ("abort",),
    State.ROLLED_BACK: ("abort",),
}


def control(facts: FleetFacts, config: Config) -> Iterator[CheckFinding]:
    control, listen = facts.control, facts.listen
    yield from poolers("control", control, "control.dsn")
    if control.error is not None:
        if not control.statement_pooler:
            yield CheckFinding("control", ERROR, "unreachable", control.error, "see that it runs, and the DSN")
        return
    if listen is not None and listen.error is not None:
        yield CheckFinding("control", ERROR, "direct-unreachable", listen.error, "see control.direct_dsn")
    if (listen or control).pooled:
        yield CheckFinding(
            "control",
            WARNING,
            "control-pooled",
            "it is reached through a pooler only, so changes are seen by polling, not at once",
            "set control.direct_dsn to its direct address",
        )
    directly = control if listen is None else listen
    yield from version("control", directly.schema, "control")
    yield from functions("control", directly, "control", None)
    for key, dsn in (("dsn", config.control.dsn), ("direct_dsn", config.control.direct_dsn)):
        if dsn is not None:
            yield from plaintext("control", f"control.{key}", dsn.get_secret_value())


def servers(facts: FleetFacts) -> Iterator[CheckFinding]:
    named = [("control", facts.control)] + [(one.database.name, one.router) for one in facts.databases]
    for name, reached in named:
        if reached.error is not None:
            continue
        major, minor = divmod(reached.version, 10_000)
        if major < OLDEST:
            problem = f"PostgreSQL {reached.version_text} is older than {OLDEST}"
            yield CheckFinding(name, ERROR, "version-unsupported", problem, f"upgrade to {OLDEST} or later")
        elif major > NEWEST:
            problem = f"PostgreSQL {reached.version_text} is newer than what this tenantry was tested with"
            yield CheckFinding(name, WARNING, "version-untested", problem, "upgrade tenantry")
        holes = {cve: fixed[major] for cve, fixed in FIXES.items() if minor < fixed.get(major, 0)}
        if holes:
            problem = f"PostgreSQL {reached.version_text} has {', '.join(sorted(holes))} in row-level security"
            yield CheckFinding(
                name, WARNING, "server-outdated", problem, f"upgrade to {major}.{max(holes.values())}"
            )
        if abs(reached.skew) > SKEW:
            problem = f"its clock is {abs(reached.skew):.1f} s {'ahead of' if reached.skew > 0 else 'behind'} ours"
            yield CheckFinding(name, WARNING, "clock-skew", problem, "run NTP on both machines")


def budgets(facts: FleetFacts, config: Config, processes: int) -> Iterator[CheckFinding]:
    """What `processes` routers may open on each server, against what it lets in."""
    wanted: dict[str, int] = defaultdict(int)
    servers: dict[str, tuple[list[str], Reached]] = {}
    for name, reached, size in [
        *((one.database.name, one.router, one.database.pool.max) for one in facts.databases),
        ("control", facts.control, 0),
    ]:
        if reached.error is None and reached.cluster is not None and not reached.pooled:
            wanted[reached.cluster] += size
            servers.setdefault(reached.cluster, ([], reached))[0].append(name)
    for cluster, (names, reached) in servers.items():
        each = min(wanted[cluster], config.router.connections)
        each += CONTROL_CONNECTIONS if "control" in names else 0
        most, room = each * processes, reached.max_connections - reached.reserved
        if most > room:
            problem = (
                f"{processes} processes may open {most} connections to the server of {', '.join(sorted(names))}, "
                f"which lets in {room}"
            )
            fix = f"raise max_connections to {most + reached.reserved}, lower pool.max, or put a pooler in between"
            yield CheckFinding(sorted(names)[0], WARNING, "max-connections", problem, fix)


def directory(facts: FleetFacts, config: Config) -> Iterator[CheckFinding]:
    if facts.directory is None:
        if facts.control.error is None and (facts.control.schema or 0) > 0:
            problem = facts.why_no_directory or "the directory can't be read"
            yield CheckFinding(
                "control", ERROR, "no-directory", problem, "run `tenantry init`: it grants what is needed"
            )
        return
    there = {row.name for row in facts.directory}
    for name in sorted(set(config.databases) - there):
        yield CheckFinding(name, WARNING, "not-in-directory", "only the file knows it", "run `tenantry apply`")
    for (move, state), objects in groupby(facts.leftovers, lambda one: (one.move, one.state)):
        places = Counter(one.database for one in objects)
        listed = " and ".join(f"{count} in {name}" for name, count in sorted(places.items()))
        problem = f"move {move} is {in_words(state)}, no mover is at work on it, and it has objects: {listed}"
        fix = " or ".join(f"`tenantry moves {command} {move}`" for command in _ENDS.get(state, ("resume",)))
        yield CheckFinding(
            "control", WARNING, "move-leftover", problem, f"{fix}; `tenantry moves leftovers` lists them"
        )


def placements(facts: FleetFacts) -> Iterator[CheckFinding]:
    for one in facts.placements:
        more = ", …" if one.tenants > len(one.named) else ""
        named = f" ({', '.join(one.named)}{more})" if one.named else ""
        severity = ERROR if one.rule == "region" else WARNING  # rows where they may not be, by contract or law
        yield CheckFinding(one.database, severity, f"placement-{one.rule}", one.problem + named, one.fix)


def backups(facts: FleetFacts) -> Iterator[CheckFinding]:
    for name, (age, allowed) in sorted(facts.backups.items()):
        if age <= allowed * LATE:
            continue
        last = "it was never backed up" if age == float("inf") else f"its last backup is {age / 3600:.1f} h old"
        yield CheckFinding(
            name,
            WARNING,
            "backup-overdue",
            f"{last}; the policy allows {allowed / 3600:.1f} h",
            f"see that a timer runs `tenantry backup` and what it says of {name}, or record one",
        )
