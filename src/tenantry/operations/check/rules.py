"""What is wrong with a fleet, from facts alone: no I/O, no clock. One function per question."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tenantry import schema
from tenantry.config import Config
from tenantry.errors import TenantryError
from tenantry.isolation.audit.rules.tn502_server_outdated import FIXES
from tenantry.move import State
from tenantry.move.errors import PreflightFinding as MoveFinding
from tenantry.move.errors import in_words
from tenantry.operations.check.facts import DatabaseFacts, FleetFacts, Reached

ERROR: Final = "error"
WARNING: Final = "warning"

OLDEST: Final = 15
NEWEST: Final = 18
#: Seconds that clocks may differ: the ledger's hours and the leases of moves are counted by them.
SKEW: Final = 2.0
#: How much older than its policy says a backup may be: making it takes time.
LATE: Final = 1.25
#: Tables that a finding names; of the others it says how many.
NAMED: Final = 5
#: Connections that a process holds to the control database: the store's and the listener.
CONTROL_CONNECTIONS: Final = 4

#: What ends a move that has left something, by its state; `resume` where nothing is said.
_ENDS: Final = {
    State.RUNNING: ("resume", "abort"),
    State.FLIPPED: ("release", "rollback"),
    State.ABORTED: ("abort",),
    State.ROLLED_BACK: ("abort",),
}
_SAFE_MODES: Final = ("require", "verify-ca", "verify-full")
_LOCAL: Final = ("", "localhost", "127.0.0.1", "[::1]")


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


def judge(facts: FleetFacts, config: Config, processes: int) -> list[CheckFinding]:
    """Everything that is wrong, the database's name first."""
    found = [*_control(facts, config)]
    for one in facts.databases:
        found += _reachable(one)
        found += _role(one)
        found += _two_roles(one, facts)
        found += _guards(one)
        found += _schema(one, config)
        found += _tables(one)
        found += _tls(one)
        found += _pipelining(one)
        found += _links(one)
    found += _servers(facts)
    found += _budgets(facts, config, processes)
    found += _directory(facts, config)
    found += _backups(facts)
    order = {ERROR: 0, WARNING: 1}
    return sorted(set(found), key=lambda finding: (order[finding.severity], finding))


def of_moves(found: Mapping[str, tuple[MoveFinding, ...] | TenantryError]) -> list[CheckFinding]:
    """What preflight would say of each database, with preflight's own codes; an error where it would refuse."""
    told: list[CheckFinding] = []
    for database, findings in found.items():
        if isinstance(findings, TenantryError):
            told.append(
                CheckFinding(
                    database, WARNING, "moves-unchecked", str(findings), "see the database's operator_dsn"
                )
            )
            continue
        told += [
            CheckFinding(database, ERROR if one.refuses else WARNING, one.code, one.problem, one.fix)
            for one in findings
        ]
    return told


def _control(facts: FleetFacts, config: Config) -> Iterator[CheckFinding]:
    control, listen = facts.control, facts.listen
    yield from _poolers("control", control, "control.dsn")
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
    yield from _version("control", directly.schema, "control")
    yield from _functions("control", directly, "control", None)
    for key, dsn in (("dsn", config.control.dsn), ("direct_dsn", config.control.direct_dsn)):
        if dsn is not None:
            yield from _plaintext("control", f"control.{key}", dsn.get_secret_value())


def _reachable(one: DatabaseFacts) -> Iterator[CheckFinding]:
    name = one.database.name
    if one.router.missing and one.database.reference.startswith("server:"):
        fix = f"`tenantry promote TENANT --to {name}` creates it"
        yield CheckFinding(name, WARNING, "not-created", "it is registered, but not there yet", fix)
        return
    yield from _poolers(name, one.router, "its dsn")
    if one.router.error is not None and not one.router.statement_pooler:
        yield CheckFinding(name, ERROR, "unreachable", one.router.error, "see that it runs, and the DSN")
    if one.router.replica:
        yield CheckFinding(name, ERROR, "read-only", "its dsn leads to a standby", "point it at the primary")
    if one.operator is None and one.direct is None:
        fix = f"set databases.{name}.operator_dsn, or --operator-env"
        yield CheckFinding(name, WARNING, "no-operator", "init, suspend and moves can't reach it", fix)
    for code, reached in (("operator", one.operator), ("direct", one.direct)):
        if reached is not None and reached.error is not None:
            yield CheckFinding(name, ERROR, f"{code}-unreachable", reached.error, f"see its {code}_dsn")
    if one.direct is not None and one.direct.pooled:
        yield CheckFinding(
            name, ERROR, "direct-pooled", "its direct_dsn goes through a pooler", "name the server itself"
        )


def _poolers(name: str, reached: Reached, what: str) -> Iterator[CheckFinding]:
    if reached.statement_pooler:
        yield CheckFinding(
            name,
            ERROR,
            "statement-pooler",
            f"{what} leads to a pooler in statement mode, which has no transactions, so no scopes",
            "set pool_mode = transaction",
        )


def _role(one: DatabaseFacts) -> Iterator[CheckFinding]:
    for problem, fix in one.router.role_problems:
        yield CheckFinding(one.database.name, ERROR, "unsafe-role", f"role {one.router.role}: {problem}", fix)


def _two_roles(one: DatabaseFacts, facts: FleetFacts) -> Iterator[CheckFinding]:
    """The scopes' role and the directory's are apart."""
    role, name, control = one.router.role, one.database.name, facts.control
    fix = f"give control.dsn a role of its own, run `tenantry init`, restart the routers; then take from {role} "
    for access in one.router.control_access:
        problem = f"role {role} {access}"
        yield CheckFinding(name, ERROR, "one-role", problem, f"{fix}what `tenantry rls audit` names (TN413)")
    if one.router.control_access or control.cluster is None or control.cluster != one.router.cluster:
        return
    if role == control.role or role in control.directory_roles:
        problem = (
            f"role {role} serves scopes and may use the control tables: who has its password has every tenant"
        )
        yield CheckFinding(
            name, WARNING, "one-role", problem, f"{fix}its rights in the control database (docs/roles.md)"
        )


def _guards(one: DatabaseFacts) -> Iterator[CheckFinding]:
    tables, name = one.router.unguarded, one.database.name
    if tables:
        problem = (
            f"the fence of a move would not hold for who writes past the routers: no guard on {_listed(tables)}"
        )
        yield CheckFinding(name, WARNING, "no-guard", problem, f"run `tenantry rls apply --database {name}`")


def _listed(tables: tuple[str, ...]) -> str:
    return ", ".join(tables[:NAMED]) + (f" and {len(tables) - NAMED} more" if len(tables) > NAMED else "")


def _schema(one: DatabaseFacts, config: Config) -> Iterator[CheckFinding]:
    name, reached = one.database.name, one.router
    known = next((r for r in (one.direct, one.operator, reached) if r and r.schema is not None), None)
    if reached.error is None and not reached.installed:
        yield CheckFinding(
            name, ERROR, "not-installed", "the tenantry schema is not installed", "run `tenantry init`"
        )
        return
    if known is None:
        return
    yield from _version(name, known.schema, "data")
    if known.local is not None:
        yield from _identity(one, known.local, config)
        tenancy = config.tenancy
        yield from _functions(name, known, "data", schema.Identity(name, tenancy.setting, tenancy.type))


def _tables(one: DatabaseFacts) -> Iterator[CheckFinding]:
    """What nobody has decided of its tables: the generator leaves them as they are, and a move refuses some."""
    reached = next((r for r in (one.router, one.direct, one.operator) if r and r.error is None), None)
    if reached is None:
        return
    if reached.undecided:
        count = len(reached.undecided)
        what = "1 table is" if count == 1 else f"{count} tables are"
        problem = f"{what} not decided: nothing says whose rows {_listed(reached.undecided)} hold"
        fix = "`tenantry rls plan` lists the choices; most are an entry under tenancy.tables"
        yield CheckFinding(one.database.name, WARNING, "tables-undecided", problem, fix)
    for key in reached.unmatched:
        problem = f"tenancy.tables has an entry for {key}, and there is no such table"
        fix = "correct or remove the entry; names are case-sensitive, as schema.table without quotes"
        yield CheckFinding(one.database.name, WARNING, "override-unmatched", problem, fix)


def _version(name: str, version: int | None, side: str) -> Iterator[CheckFinding]:
    ours = schema.migrations(side)[-1].number
    if version == 0:
        yield CheckFinding(
            name, ERROR, "not-installed", "the tenantry schema is not installed", "run `tenantry init`"
        )
    elif version is not None and version < ours:
        problem = f"its schema is at {version}, this tenantry knows {ours}"
        yield CheckFinding(name, ERROR, "schema-old", problem, "run `tenantry init`")
    elif version is not None and version > ours:
        problem = f"its schema is at {version}, newer than the {ours} of this tenantry"
        yield CheckFinding(name, WARNING, "schema-new", problem, "upgrade tenantry here")


def _functions(name: str, known: Reached, side: str, identity: schema.Identity | None) -> Iterator[CheckFinding]:
    """Functions of another version, where the tables are of ours: a release may change nothing else."""
    if known.functions is None or known.schema != schema.migrations(side)[-1].number:
        return
    form, checksum = known.functions
    ours = schema.checksum(schema.Form(form), identity)
    if checksum != ours:
        problem = f"its functions are of another version ({checksum}) than this tenantry's ({ours})"
        fix = "run `tenantry init`, by the newer of the two"
        yield CheckFinding(name, ERROR, "functions-differ", problem, fix)


def _identity(one: DatabaseFacts, local: dict[str, object], config: Config) -> Iterator[CheckFinding]:
    wanted = {
        "name": one.database.name,
        "kind": one.database.kind.value,
        "setting": config.tenancy.setting,
        "id_type": config.tenancy.type.value,
        "hardened": config.tenancy.hardened,
    }
    if local.get("citus_came_later"):
        problem = "Citus was installed after the tenantry schema, whose settings do not reach its workers"
        yield CheckFinding(one.database.name, ERROR, "citus-later", problem, "run `tenantry init`")
    for key, value in wanted.items():
        if local.get(key, value) != value:
            problem = f"it was installed with {key} {local[key]}, the configuration says {value}"
            fix = "check the DSN: it may lead elsewhere" if key == "name" else "correct it, or run `tenantry init`"
            yield CheckFinding(one.database.name, ERROR, "differs", problem, fix)


def _pipelining(one: DatabaseFacts) -> Iterator[CheckFinding]:
    if one.unpipelined is not None:
        yield CheckFinding(
            one.database.name,
            WARNING,
            "unpipelined",
            f"its scopes take a flight more, their openings can't travel with statements: {one.unpipelined}",
            "install an asyncpg that this version of tenantry knows: see its requirements",
        )


def _tls(one: DatabaseFacts) -> Iterator[CheckFinding]:
    for key in ("dsn", "operator_dsn", "direct_dsn"):
        dsn = getattr(one.database, key)
        if dsn is not None:
            yield from _plaintext(one.database.name, key, dsn)


def _plaintext(name: str, key: str, dsn: str) -> Iterator[CheckFinding]:
    parts = urlsplit(dsn)
    hosts = [host if host.endswith("]") else host.partition(":")[0] for host in _hosts(parts.netloc)]
    query = parse_qs(parts.query)
    hosts += [host for value in query.get("host", ()) for host in value.split(",")]
    remote = [host for host in hosts if host not in _LOCAL and not host.startswith(("/", "%2F"))]
    if remote and query.get("sslmode", ["prefer"])[-1] not in _SAFE_MODES:
        yield CheckFinding(
            name,
            WARNING,
            "no-tls",
            f"{key} reaches {remote[0]} over the network without insisting on TLS",
            "add sslmode=verify-full (or require) to it",
        )


def _hosts(netloc: str) -> list[str]:
    return [
        host.rpartition(":")[0] if host.rpartition("]")[2].startswith(":") and "]" in host else host
        for host in netloc.rpartition("@")[2].split(",")
    ]


def _servers(facts: FleetFacts) -> Iterator[CheckFinding]:
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


def _budgets(facts: FleetFacts, config: Config, processes: int) -> Iterator[CheckFinding]:
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


def _backups(facts: FleetFacts) -> Iterator[CheckFinding]:
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


def _links(one: DatabaseFacts) -> Iterator[CheckFinding]:
    for name in one.router.stuck:
        yield CheckFinding(
            one.database.name,
            WARNING,
            "link-stuck",
            f"{name} can't apply what it is sent: nothing more arrives, and its slot keeps the sender's log",
            "see this server's log for the row that is in the way, and take that away; it goes on by itself",
        )


def _directory(facts: FleetFacts, config: Config) -> Iterator[CheckFinding]:
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
