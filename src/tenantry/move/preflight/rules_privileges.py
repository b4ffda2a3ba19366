"""What guards the tables at both ends, and who may use them: a target with tables of its own has to do both alike.

A target whose tables the move loads gets all of this from the source. One that has tables already was made by
migrations, or by an earlier move, and may lack it: without policies tenants would read each other's rows from the
flip on, without grants the product would be refused every row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.ids import Kind
from tenantry.move.catalog import Side
from tenantry.move.errors import Finding
from tenantry.move.session import Connection
from tenantry.runtime.sqltext import identifier

if TYPE_CHECKING:
    from tenantry.move.preflight.facts import Facts

#: The end of the tenant policy, plain and hardened: the two forms prove the same in different ways.
_PROOF: Final = re.compile(
    r" AND (\( SELECT tenantry\.admitted\(\) AS admitted\)"
    r"|COALESCE\(\(.{1,200} = \( SELECT .{1,80} AS admitted_tenant\)\), false\))\)$"
)
#: How CREATE TRIGGER's result is told to be anything but enabled (pg_trigger.tgenabled).
_TRIGGER: Final = {"D": "DISABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}


class TablePolicy(NamedTuple):
    """A policy, but for its name, which means nothing."""

    permissive: bool
    command: str
    roles: tuple[str, ...]
    """Quoted where they have to be; "PUBLIC" is everybody."""
    using: str | None
    check: str | None

    def normalized(self) -> TablePolicy:
        """It with one form for what is the tenant policy's proof at either end."""
        using, check = (None if text is None else _PROOF.sub(" AND proven)", text) for text in self[3:])
        return self._replace(using=using, check=check)

    def is_tenant_policy(self, column: str, setting: str) -> bool:
        """True if it is the tenant policy, whatever the forms of its comparison and proof."""
        tie = re.compile(
            rf"\(\(\(?(?:{re.escape(column)}|{re.escape(identifier(column))})\)?(?:::[\w ]+)? = "
            rf"[^=]*current_setting\('{re.escape(setting)}'::text[^=]*\) AND proven\)"
        )
        using, check = self.normalized()[3:]
        texts = [text for text in (using, check) if text is not None]
        whole = (self.permissive, self.command, self.roles) == (True, "ALL", ("PUBLIC",)) and len(texts) == 2
        return whole and all(tie.fullmatch(text) and " OR " not in text for text in texts)

    def statement(self, name: str, table: str) -> str:
        """Makes it."""
        using = "" if self.using is None else f" USING ({self.using})"
        check = "" if self.check is None else f" WITH CHECK ({self.check})"
        return (
            f"CREATE POLICY {identifier(name)} ON {table} AS {'PERMISSIVE' if self.permissive else 'RESTRICTIVE'} "
            f"FOR {self.command} TO {', '.join(self.roles)}{using}{check}"
        )


class Privilege(NamedTuple):
    """A privilege that a role has, however it got it."""

    on: str
    """As GRANT has it: a table, or SEQUENCE or SCHEMA and a name."""
    privilege: str
    """Of a column: with its name in parentheses."""
    role: str


@dataclass(frozen=True, slots=True)
class Access:
    """What guards the tables of one end, and who may use them."""

    roles: tuple[str, ...] = ()
    """The application's: those that may bind tenants."""
    guards: frozenset[tuple[str, str]] = frozenset()
    """Tables, and what their row-level security is: "ENABLE", "FORCE"."""
    policies: tuple[tuple[str, str, TablePolicy], ...] = ()
    """Table, name, policy."""
    triggers: tuple[tuple[str, str, str, str], ...] = ()
    """Table, name, pg_trigger.tgenabled, definition: of the product's own."""
    may: frozenset[Privilege] = frozenset()
    """Privileges of the application's roles at both ends."""
    granted: frozenset[Privilege] = frozenset()
    """What was granted on tables, to any role but their owners."""
    sequences: frozenset[str] = frozenset()
    """Those of the source that are there."""

    def of(self, table: str) -> dict[str, TablePolicy]:
        """The policies of a table, by their names."""
        return {name: policy for on, name, policy in self.policies if on == table}


async def look(
    source: Connection,
    target: Connection,
    sides: tuple[Side, Side],
    tables: Sequence[str],
    sequences: Sequence[str],
) -> tuple[Access, Access]:
    """Read both ends. `tables` and `sequences` are quoted names."""
    ends = tuple(zip((source, target), sides, strict=True))
    roles = [await _application(connection, side) for connection, side in ends]
    asked = sorted({*roles[0], *roles[1]})
    ours, theirs = [
        _access(await connection.fetch(sql.query("move/access"), list(tables), asked, list(sequences)), own)
        for (connection, _), own in zip(ends, roles, strict=True)
    ]
    return ours, theirs


async def _application(connection: Connection, side: Side) -> tuple[str, ...]:
    if not side.server["installed"]:
        return ()
    return tuple(row["role"] for row in await connection.fetch(sql.query("move/application_roles")))


def _access(rows: Sequence[asyncpg.Record], roles: tuple[str, ...]) -> Access:
    lines: dict[str, list[tuple[str, str, str, str]]] = {}
    for row in rows:
        lines.setdefault(row["kind"], []).append((row["on"], row["what"], row["who"], row["detail"]))
    return Access(
        roles=roles,
        guards=frozenset((on, what) for on, what, _, _ in lines.get("guard", ())),
        policies=tuple((on, name, _policy(text)) for on, name, _, text in lines.get("policy", ())),
        triggers=tuple(lines.get("trigger", ())),
        may=frozenset(Privilege(*line[:3]) for line in lines.get("may", ())),
        granted=frozenset(Privilege(*line[:3]) for line in lines.get("granted", ())),
        sequences=frozenset(on for on, _, _, _ in lines.get("sequence", ())),
    )


def _policy(text: str) -> TablePolicy:
    raw = json.loads(text)
    return TablePolicy(raw["permissive"], raw["command"], tuple(raw["roles"]), raw["using"], raw["check"])


def access(facts: Facts) -> Iterator[Finding]:
    """Whether a target with tables of its own guards them, and lets the product use them, as the source does."""
    if facts.load_schema:
        return
    columns = {table.quoted: column for table, column in facts.selection.tenant}
    for table in sorted({*columns, *(table.quoted for table in facts.selection.reference)}):
        yield from _guards(facts, table, columns.get(table))
        yield from _triggers(facts, table)
    yield from _grants(facts)
    yield from _others(facts)


def _guards(facts: Facts, table: str, column: str | None) -> Iterator[Finding]:
    ours, theirs = facts.source_access, facts.target_access
    if (table, "ENABLE") not in ours.guards:
        if column is not None and facts.target_kind is Kind.SHARED and (table, "ENABLE") not in theirs.guards:
            yield Finding(
                "policy-differs",
                f"{table} has no row-level security at either end: in {facts.target_name} every tenant could read "
                "every row",
                f"run `tenantry rls apply --database {facts.target_name}`",
                refuses=False,
            )
        return
    lacking = [what for what in ("ENABLE", "FORCE") if (table, what) in ours.guards - theirs.guards]
    wanted, found = ours.of(table), theirs.of(table)
    same = {policy.normalized() for policy in wanted.values()} == {
        policy.normalized() for policy in found.values()
    }
    if same and not lacking:
        return
    setting = facts.source.local.setting if facts.source.local else ""
    standard = (
        len(found) == 1 and column is not None and all(p.is_tenant_policy(column, setting) for p in found.values())
    )
    problem = f"{table} is not guarded in {facts.target_name} as in {facts.source_name}: "
    if lacking:
        problem += f"no {' and no '.join(lacking)} ROW LEVEL SECURITY there"
    if not same:
        problem += "; " * bool(lacking) + f"policies {_told(wanted)} here, {_told(found)} there"
    yield Finding("policy-differs", problem, _fix(facts, table, lacking), refuses=bool(lacking) or not standard)


def _told(policies: dict[str, TablePolicy]) -> str:
    return ", ".join(f"{name} USING ({policy.using})" for name, policy in sorted(policies.items())) or "none"


def _fix(facts: Facts, table: str, lacking: Sequence[str]) -> str:
    if facts.target_kind is Kind.SHARED:
        # The source's policies guard one tenant, and may be looser than many need.
        return f"run `tenantry rls apply --database {facts.target_name}`, or bring both schemas to one version"
    wanted, found = facts.source_access.of(table), facts.target_access.of(table)
    known = {policy.normalized() for policy in wanted.values()}
    target = {policy.normalized() for policy in found.values()}
    statements = [f"ALTER TABLE {table} {what} ROW LEVEL SECURITY" for what in lacking]
    statements += [
        f"DROP POLICY {identifier(name)} ON {table}" for name, p in found.items() if p.normalized() not in known
    ]
    statements += [p.statement(name, table) for name, p in wanted.items() if p.normalized() not in target]
    return "; ".join(statements)


def _triggers(facts: Facts, table: str) -> Iterator[Finding]:
    ours = {line[1:] for line in facts.source_access.triggers if line[0] == table}
    theirs = {line[1:] for line in facts.target_access.triggers if line[0] == table}
    named = {name for name, _, _ in theirs}
    for name, enabled, definition in sorted(ours - theirs):
        made = [] if any(definition == line[2] for line in theirs) else [definition]
        if made and name in named:
            made.insert(0, f"DROP TRIGGER {identifier(name)} ON {table}")
        how = _TRIGGER.get(enabled, "" if made else "ENABLE")
        if how:
            made.append(f"ALTER TABLE {table} {how} TRIGGER {identifier(name)}")
        yield Finding(
            "trigger-differs",
            f"trigger {name} of {table} is missing in {facts.target_name}, or another there",
            "; ".join(made),
            refuses=enabled != "D",
        )
    for name in sorted(named - {name for name, _, _ in ours}):
        yield Finding(
            "trigger-differs",
            f"trigger {name} of {table} is in {facts.target_name} only, and will fire for the tenant's writes",
            f"DROP TRIGGER {identifier(name)} ON {table}, if it is not meant",
            refuses=False,
        )


def _grants(facts: Facts) -> Iterator[Finding]:
    """What the application may do here, and not there.

    Roles are compared by name. Where another role may do all of it that is the application's there only, the
    product is taken to log in as that one, by intent.
    """
    ours, theirs = facts.source_access, facts.target_access
    others = [role for role in theirs.roles if role not in ours.roles]
    for role in ours.roles:
        wants = {line[:2] for line in ours.may if line.role == role and _is_there(line.on, theirs)}
        instead = any(not wants - {line[:2] for line in theirs.may if line.role == other} for other in others)
        if role not in facts.target.server["roles"]:
            yield Finding(
                "role-missing",
                f"the application's role {role} is missing at {facts.target_name}",
                f"CREATE ROLE {identifier(role)} there, as pg_dumpall --roles-only shows it",
                refuses=not instead,
            )
            continue
        has = {line[:2] for line in theirs.may if line.role == role}
        lacking = {line for line in wants - has if _counts(line, wants)}
        if lacking:
            yield Finding(
                "grant-missing",
                f"role {role} may not do in {facts.target_name} what it may in {facts.source_name}: "
                f"{', '.join(f'{what} on {on}' for on, what in sorted(lacking))}",
                _grant(lacking, role),
                refuses=not instead,
            )


def _is_there(on: str, theirs: Access) -> bool:
    """A sequence may have another name there, or none to grant: an identity's."""
    return not on.startswith("SEQUENCE ") or on.removeprefix("SEQUENCE ") in theirs.sequences


def _counts(line: tuple[str, str], wants: set[tuple[str, str]]) -> bool:
    """A column's privilege is worth a word only if the table's, which is all columns', isn't wanted."""
    on, privilege = line
    return "(" not in privilege or (on, privilege.split(" ")[0]) not in wants


def _grant(lacking: set[tuple[str, str]], role: str) -> str:
    by_object: dict[str, list[str]] = {}
    for on, privilege in sorted(lacking):
        by_object.setdefault(on, []).append(privilege)
    return "; ".join(
        f"GRANT {', '.join(privileges)} ON {on} TO {identifier(role)}" for on, privileges in by_object.items()
    )


def _others(facts: Facts) -> Iterator[Finding]:
    """Grants to roles that are not the application's: reports, exports. The product does without them."""
    ours, theirs = facts.source_access, facts.target_access
    lost: dict[str, set[tuple[str, str]]] = {}
    for line in ours.granted - theirs.granted:
        if line.role not in (*ours.roles, *theirs.roles):
            lost.setdefault(line.role, set()).add((line.on, line.privilege))
    for role, lines in sorted(lost.items()):
        yield Finding(
            "grant-missing",
            f"role {role} was granted things in {facts.source_name} that it was not in {facts.target_name}",
            _grant(lines, role),
            refuses=False,
        )
