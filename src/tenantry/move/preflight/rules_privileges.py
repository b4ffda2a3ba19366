"""What guards the tables at both ends, and who may use them: a target with tables of its own has to do both alike.

A target whose tables the move loads gets all of this from the source. One that has tables already was made by
migrations, or by an earlier move, and may lack it: without policies tenants would read each other's rows from the
flip on, without grants the product would be refused every row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from tenantry.ids import Kind
from tenantry.move.errors import PreflightFinding
from tenantry.move.normal_form import normal_form
from tenantry.move.preflight.facts import PROVEN, Access, PreflightFacts, TablePolicy
from tenantry.runtime.sqltext import identifier

#: How CREATE TRIGGER's result is told to be anything but enabled (pg_trigger.tgenabled).
_TRIGGER: Final = {"D": "DISABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}


def privileges_of_tables(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Whether a target with tables of its own guards them, and lets the product use them, as the source does."""
    if facts.load_schema:
        return
    columns = {table.quoted: column for table, column in facts.selection.tenant}
    for table in sorted({*columns, *(table.quoted for table in facts.selection.reference)}):
        yield from _guards(facts, table, columns.get(table))
        yield from _triggers(facts, table)
    yield from _grants(facts)
    yield from _others(facts)


def _guards(facts: PreflightFacts, table: str, column: str | None) -> Iterator[PreflightFinding]:
    ours, theirs = facts.source_access, facts.target_access
    if (table, "ENABLE") not in ours.guards:
        if column is not None and facts.target_kind is Kind.SHARED and (table, "ENABLE") not in theirs.guards:
            yield PreflightFinding(
                "policy-differs",
                f"{table} has no row-level security at either end: in {facts.target_name} every tenant could read "
                "every row",
                f"run `tenantry rls apply --database {facts.target_name}`",
                refuses=False,
            )
        return
    lacking = [what for what in ("ENABLE", "FORCE") if (table, what) in ours.guards - theirs.guards]
    wanted, found = ours.of(table), theirs.of(table)
    same = _normalized(wanted) == _normalized(found)
    if same and not lacking:
        return
    setting = facts.source.local.setting if facts.source.local else ""
    halves = {half for policy in found.values() for half in policy.halves()}
    ties = halves - {PROVEN}
    tied = column is not None and all(policy.is_tenant_policy(column, setting) for policy in ties)
    standard = tied and len(ties) == 1 and PROVEN in halves
    problem = f"{table} is not guarded in {facts.target_name} as in {facts.source_name}: "
    if lacking:
        problem += f"no {' and no '.join(lacking)} ROW LEVEL SECURITY there"
    if not same:
        problem += "; " * bool(lacking) + f"policies {_told(wanted)} here, {_told(found)} there"
    yield PreflightFinding(
        "policy-differs", problem, _fix(facts, table, lacking), refuses=bool(lacking) or not standard
    )


def _told(policies: dict[str, TablePolicy]) -> str:
    return ", ".join(f"{name} USING ({policy.using})" for name, policy in sorted(policies.items())) or "none"


def _fix(facts: PreflightFacts, table: str, lacking: Sequence[str]) -> str:
    if facts.target_kind is Kind.SHARED:
        # The source's policies guard one tenant, and may be looser than many need.
        return f"run `tenantry rls apply --database {facts.target_name}`, or bring both schemas to one version"
    wanted, found = facts.source_access.of(table), facts.target_access.of(table)
    kept = {name: policy for name, policy in found.items() if policy.normalized() <= _normalized(wanted)}
    made = {name: policy for name, policy in wanted.items() if not policy.normalized() <= _normalized(kept)}
    statements = [f"ALTER TABLE {table} {what} ROW LEVEL SECURITY" for what in lacking]
    statements += [
        f"DROP POLICY {identifier(name)} ON {table}" for name in found if name not in kept or name in made
    ]
    statements += [policy.statement(name, table) for name, policy in made.items()]
    return "; ".join(statements)


def _normalized(policies: Mapping[str, TablePolicy]) -> frozenset[TablePolicy]:
    return frozenset(half for policy in policies.values() for half in policy.normalized())


def _triggers(facts: PreflightFacts, table: str) -> Iterator[PreflightFinding]:
    told = {normal_form(line[3]): line[3] for line in facts.source_access.triggers if line[0] == table}
    ours = {(*line[1:3], normal_form(line[3])) for line in facts.source_access.triggers if line[0] == table}
    theirs = {(*line[1:3], normal_form(line[3])) for line in facts.target_access.triggers if line[0] == table}
    named = {name for name, _, _ in theirs}
    for name, enabled, definition in sorted(ours - theirs):
        made = [] if any(definition == line[2] for line in theirs) else [told[definition]]
        if made and name in named:
            made.insert(0, f"DROP TRIGGER {identifier(name)} ON {table}")
        how = _TRIGGER.get(enabled, "" if made else "ENABLE")
        if how:
            made.append(f"ALTER TABLE {table} {how} TRIGGER {identifier(name)}")
        yield PreflightFinding(
            "trigger-differs",
            f"trigger {name} of {table} is missing in {facts.target_name}, or another there",
            "; ".join(made),
            refuses=enabled != "D",
        )
    for name in sorted(named - {name for name, _, _ in ours}):
        yield PreflightFinding(
            "trigger-differs",
            f"trigger {name} of {table} is in {facts.target_name} only, and will fire for the tenant's writes",
            f"DROP TRIGGER {identifier(name)} ON {table}, if it is not meant",
            refuses=False,
        )


def _grants(facts: PreflightFacts) -> Iterator[PreflightFinding]:
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
            yield PreflightFinding(
                "role-missing",
                f"the application's role {role} is missing at {facts.target_name}",
                f"CREATE ROLE {identifier(role)} there, as pg_dumpall --roles-only shows it",
                refuses=not instead,
            )
            continue
        has = {line[:2] for line in theirs.may if line.role == role}
        lacking = {line for line in wants - has if _counts(line, wants)}
        if lacking:
            yield PreflightFinding(
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


def _others(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Grants to roles that are not the application's: reports, exports. The product does without them."""
    ours, theirs = facts.source_access, facts.target_access
    lost: dict[str, set[tuple[str, str]]] = {}
    for line in ours.granted - theirs.granted:
        if line.role not in (*ours.roles, *theirs.roles):
            lost.setdefault(line.role, set()).add((line.on, line.privilege))
    for role, lines in sorted(lost.items()):
        yield PreflightFinding(
            "grant-missing",
            f"role {role} was granted things in {facts.source_name} that it was not in {facts.target_name}",
            _grant(lines, role),
            refuses=False,
        )
