"""Rules of preflight about the target: whether it can be made, holds the data, and takes the schema. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantry.move.definitions import differences
from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.runtime.sqltext import identifier

#: Extensions without which tables work elsewhere: Citus, and its columnar storage, which no table may use there.
CITUS: Final = ("citus", "citus_columnar")
#: Differences of definitions that are told one by one.
_TOLD: Final = 20


def creation(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Whether the target can be made on its server."""
    made, server = facts.creation, facts.target.server
    if made is None:
        return
    if not (server["superuser"] or server["creates_databases"]):
        yield PreflightFinding(
            "no-createdb",
            f"role {server['role']} may not create database {made.name} on the server of {facts.target_name}",
            f"ALTER ROLE {identifier(server['role'])} CREATEDB, or create the database yourself",
        )
    if made.provider == "b" and server["version"] < 170000:
        yield PreflightFinding(
            "collation-differs",
            f"the source's locale is PostgreSQL's own, which {facts.target_name} is too old for",
            "create on a server of PostgreSQL 17 or newer",
        )
    elif made.provider == "c" and made.collate not in server["locales"]:
        yield PreflightFinding(
            "locale-unknown",
            f"the server of {facts.target_name} may not have the locale {made.collate}: nothing there uses it",
            f"see that its machine has it (`locale -a`); {made.name} can't be created otherwise",
            refuses=False,
        )


def disk(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Whether the data fits, as far as that can be known."""
    room = facts.disk_space
    if room.free is None:
        return
    if room.free < room.needed:
        yield PreflightFinding(
            "no-disk",
            f"{facts.target_name} has {_size(room.free)} free ({room.origin}), the copy takes about "
            f"{_size(room.needed)}",
            "make room there, or raise the limit (`disk:` of the database or its server)",
        )
    elif room.free < room.needed * 1.2 + room.log:
        yield PreflightFinding(
            "disk-tight",
            f"{facts.target_name} has {_size(room.free)} free ({room.origin}): about {_size(room.needed)} "
            f"are needed, and up to {_size(room.log)} for the write-ahead log",
            "watch it while the move runs, or make room",
            refuses=False,
        )


def _size(size: int) -> str:
    """Bytes, for people."""
    value, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.3g} {unit}"


def target_schema(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    if facts.load_schema:
        if facts.pg_dump is None:
            major = facts.source.server["version"] // 10000
            yield PreflightFinding(
                "no-pg-dump",
                f"{facts.target_name} has no tables and no pg_dump of {major} or newer was found",
                f"install postgresql-client-{major}, or load the schema yourself",
            )
        return
    both = differences(facts.source_definitions, facts.target_definitions)
    for difference in both[:_TOLD]:
        fix = "bring both schemas to one version"
        if difference.fix:
            fix += f"; as {facts.source_name} has it: {'; '.join(difference.fix)}"
        yield PreflightFinding("schema-differs", difference.told(facts.source_name, facts.target_name), fix)
    if len(both) > _TOLD:
        yield PreflightFinding(
            "schema-differs",
            f"{len(both) - _TOLD} more definitions of {facts.target_name} differ",
            "bring both schemas to one version",
        )


def extensions(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    theirs = dict(line.split(" ", 1) for line in facts.target.server["extensions"])
    for line in facts.source.server["extensions"]:
        name, version = line.split(" ", 1)
        if name in CITUS and name not in theirs:
            continue  # the tables go without it
        if facts.load_schema and name not in theirs and name not in facts.target.server["available"]:
            yield PreflightFinding(
                "extension-missing",
                f"extension {name} is not installed on the server of {facts.target_name}",
                f"install its package there, so that CREATE EXTENSION {name} works",
            )
        if name in theirs and theirs[name] != version:
            yield PreflightFinding(
                "extension-differs",
                f"extension {name} is {version} here and {theirs[name]} at the target",
                f"ALTER EXTENSION {name} UPDATE",
                refuses=False,
            )


def undistributed(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """A schema that a move brings is not distributed, and its policies are not those of Citus."""
    if facts.load_schema and any(line.split(" ", 1)[0] == "citus" for line in facts.target.server["extensions"]):
        yield PreflightFinding(
            "not-distributed",
            f"{facts.target_name} has Citus and none of the tables: what a move makes there would stay on the "
            "coordinator",
            "make the tables there and distribute them, then run `tenantry rls apply`, and plan again",
        )


def roles(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    if not facts.load_schema:
        return
    wanted = set(facts.source.server["holders"])
    for table in (*(t for t, _ in facts.selection.tenant), *facts.selection.reference):
        wanted |= {table.owner, *table.grantees}
    for role in sorted(wanted - set(facts.target.server["roles"])):
        yield PreflightFinding(
            "role-missing",
            f"role {role} owns or may use something in {facts.source_name} and is missing at {facts.target_name}",
            f"CREATE ROLE {identifier(role)} there, as pg_dumpall --roles-only shows it",
        )


def emptiness(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    for name in facts.occupied:
        yield PreflightFinding(
            "target-not-empty",
            f"{name} at {facts.target_name} holds rows already",
            "choose an empty database, or `tenantry moves abort` the move that left them",
        )


def feeding(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Whether the copy of the reference tables would be copied on, to where those rows are already."""
    if facts.selection.reference and facts.feeds:
        yield PreflightFinding(
            "target-feeds-others",
            f"{facts.target_name} keeps the reference tables of another database in step "
            f"({', '.join(facts.feeds)}), which would get every row of them twice",
            "choose another database; or demote the tenant that was moved on from there, and release that first",
        )
