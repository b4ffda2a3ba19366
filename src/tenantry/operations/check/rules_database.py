"""What is wrong with one database. One function per question."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tenantry import schema
from tenantry.config import Config
from tenantry.operations.check.facts import DatabaseFacts, FleetFacts, Reached
from tenantry.operations.check.findings import ERROR, NAMED, WARNING, CheckFinding

_SAFE_MODES: Final = ("require", "verify-ca", "verify-full")
_LOCAL: Final = ("", "localhost", "127.0.0.1", "[::1]")


def reachable(one: DatabaseFacts) -> Iterator[CheckFinding]:
    name = one.database.name
    if one.router.missing and one.database.reference.startswith("server:"):
        fix = f"`tenantry promote TENANT --to {name}` creates it"
        yield CheckFinding(name, WARNING, "not-created", "it is registered, but not there yet", fix)
        return
    yield from poolers(name, one.router, "its dsn")
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


def poolers(name: str, reached: Reached, what: str) -> Iterator[CheckFinding]:
    if reached.statement_pooler:
        yield CheckFinding(
            name,
            ERROR,
            "statement-pooler",
            f"{what} leads to a pooler in statement mode, which has no transactions, so no scopes",
            "set pool_mode = transaction",
        )


def role(one: DatabaseFacts) -> Iterator[CheckFinding]:
    for problem, fix in one.router.role_problems:
        yield CheckFinding(one.database.name, ERROR, "unsafe-role", f"role {one.router.role}: {problem}", fix)


def two_roles(one: DatabaseFacts, facts: FleetFacts) -> Iterator[CheckFinding]:
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
            name, WARNING, "one-role", problem, f"{fix}its rights in the control database (docs/how-to/roles.md)"
        )


def guards(one: DatabaseFacts) -> Iterator[CheckFinding]:
    tables, name = one.router.unguarded, one.database.name
    if tables:
        problem = (
            f"the fence of a move would not hold for who writes past the routers: no guard on {_listed(tables)}"
        )
        yield CheckFinding(name, WARNING, "no-guard", problem, f"run `tenantry rls apply --database {name}`")


def _listed(tables: tuple[str, ...]) -> str:
    return ", ".join(tables[:NAMED]) + (f" and {len(tables) - NAMED} more" if len(tables) > NAMED else "")


def schema_of(one: DatabaseFacts, config: Config) -> Iterator[CheckFinding]:
    name, reached = one.database.name, one.router
    known = next((r for r in (one.direct, one.operator, reached) if r and r.schema is not None), None)
    if reached.error is None and not reached.installed:
        yield CheckFinding(
            name, ERROR, "not-installed", "the tenantry schema is not installed", "run `tenantry init`"
        )
        return
    if known is None:
        return
    yield from version(name, known.schema, "data")
    if known.local is not None:
        yield from _identity(one, known.local, config)
        tenancy = config.tenancy
        yield from functions(name, known, "data", schema.Identity(name, tenancy.setting, tenancy.type))


def tables(one: DatabaseFacts) -> Iterator[CheckFinding]:
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


def version(name: str, version: int | None, side: str) -> Iterator[CheckFinding]:
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


def functions(name: str, known: Reached, side: str, identity: schema.Identity | None) -> Iterator[CheckFinding]:
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


def pipelining(one: DatabaseFacts) -> Iterator[CheckFinding]:
    if one.unpipelined is not None:
        yield CheckFinding(
            one.database.name,
            WARNING,
            "unpipelined",
            f"its scopes take a flight more, their openings can't travel with statements: {one.unpipelined}",
            "install an asyncpg that this version of tenantry knows: see its requirements",
        )


def tls(one: DatabaseFacts) -> Iterator[CheckFinding]:
    for key in ("dsn", "operator_dsn", "direct_dsn"):
        dsn = getattr(one.database, key)
        if dsn is not None:
            yield from plaintext(one.database.name, key, dsn)


def plaintext(name: str, key: str, dsn: str) -> Iterator[CheckFinding]:
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


def links(one: DatabaseFacts) -> Iterator[CheckFinding]:
    for name in one.router.stuck:
        yield CheckFinding(
            one.database.name,
            WARNING,
            "link-stuck",
            f"{name} can't apply what it is sent: nothing more arrives, and its slot keeps the sender's log",
            "see this server's log for the row that is in the way, and take that away; it goes on by itself",
        )
