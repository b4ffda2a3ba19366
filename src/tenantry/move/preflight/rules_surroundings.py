"""What a database has beside its tables: carried by the move, or named before it starts. Pure.

A target that the move makes gets what a dump of the schema has, and the settings of the database and of roles in
it. A target that was made otherwise is compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tenantry.move.errors import PreflightFinding
from tenantry.move.normal_form import normal_form
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.move.surroundings import Surrounding, missing_settings, of_kind, roles_with_settings
from tenantry.runtime.sqltext import identifier

#: Brought by a dump of the schema; told where the target has tables already.
_DUMPED: Final = (
    "event trigger",
    "function",
    "view",
    "materialized view",
    "default privilege",
    "owner",
    "comment",
)
#: Lines told of one kind.
_TOLD: Final = 5


def surroundings(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Everything beside the tables that the target would lack."""
    yield from _settings(facts)
    yield from _extensions(facts)
    yield from _streams(facts)
    objects = of_kind(facts.source_surroundings, "large objects")
    if objects and not any(c.oid_type for table, _ in facts.selection.tenant for c in table.columns):
        yield PreflightFinding(
            "large-objects-stay",
            f"{facts.source_name} has {min(objects)} large objects, and no column says whose: none is carried",
            "keep what is a tenant's in bytea columns",
            refuses=False,
        )
    if not facts.load_schema:
        for kind in _DUMPED:
            yield from _of_kind(facts, kind)


def _settings(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Settings that sessions begin with: of the application's roles, and of others that have some."""
    ours, theirs = facts.source_surroundings, facts.target_surroundings
    setting = facts.source.local.setting if facts.source.local else ""
    application = {role for role in facts.application_roles if role in facts.target.server["roles"]}
    others = roles_with_settings(ours) & set(facts.target.server["roles"]) - application
    if facts.creation is not None:
        mover = facts.target.server
        lacking = sorted({role for role, _, _ in facts.creation.role_settings} - {mover["role"]})
        if lacking and not (mover["superuser"] or mover["creates_roles"]):
            names = ", ".join(map(identifier, lacking))
            yield PreflightFinding(
                "no-createrole",
                f"role {mover['role']} may not give {', '.join(lacking)} the settings in the new database that "
                f"{facts.source_name} has for them",
                f"ALTER ROLE {identifier(mover['role'])} CREATEROLE; GRANT {names} TO {identifier(mover['role'])} "
                "WITH ADMIN OPTION",
            )
        return
    for roles, refuses in ((application, True), (others, False)):
        for one in missing_settings(ours, theirs, roles, but=setting):
            yield PreflightFinding(
                "setting-differs",
                f"sessions of role {one.role} in {facts.source_name} begin with {one.name} = {one.value}, in "
                f"{facts.target_name} they do not",
                one.statement(facts.target_database),
                refuses=refuses and one.changes_meaning,
            )


def _extensions(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    ours, theirs = of_kind(facts.source_surroundings, "extension"), of_kind(facts.target_surroundings, "extension")
    if facts.load_schema:
        return  # brought by the dump, and told by the rule of extensions where the server has none
    for name, line in ours.items():
        if name not in theirs:
            yield PreflightFinding(
                "extension-missing",
                f"extension {name} of {facts.source_name} is not installed in {facts.target_name}",
                line.make,
            )


def _streams(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """What else reads or writes the tables by replication, and would not follow the tenant."""
    tenant = {table.quoted for table, _ in facts.selection.tenant}
    for name in of_kind(facts.source_surroundings, "publication"):
        yield PreflightFinding(
            "publication-stays",
            f"who reads publication {name} of {facts.source_name} gets nothing of what the tenant does at "
            f"{facts.target_name}",
            f"make one like it in {facts.target_name} after the move, and let its readers subscribe there too",
            refuses=False,
        )
    for name, line in of_kind(facts.source_surroundings, "subscription").items():
        fed = sorted(tenant & set(line.value.split("\n")))
        if fed:
            yield PreflightFinding(
                "fed-by-subscription",
                f"subscription {name} of {facts.source_name} writes {', '.join(fed)} past the fence: what it "
                "brings for the tenant after the flip stays behind",
                f"DROP SUBSCRIPTION {name}, or take these tables out of what it subscribes to",
            )


def _of_kind(facts: PreflightFacts, kind: str) -> Iterator[PreflightFinding]:
    ours, theirs = of_kind(facts.source_surroundings, kind), of_kind(facts.target_surroundings, kind)
    same_major = facts.source.server["version"] // 10000 == facts.target.server["version"] // 10000
    known = {line.name for line in facts.target_definitions if line.kind == "function"}
    lacking = [
        line
        for name, line in ours.items()
        if not (kind == "function" and name in known)  # compared with the tables that need it
        and not (kind == "owner" and (name not in theirs or line.value not in facts.target.server["roles"]))
        and (name not in theirs or (_differ(line, theirs[name]) and (same_major or "view" not in kind)))
    ]
    if not lacking:
        return
    names = ", ".join(line.name for line in lacking[:_TOLD])
    more = f" and {len(lacking) - _TOLD} more" if len(lacking) > _TOLD else ""
    word = f"{facts.target_name} lacks them, or has others"
    if kind == "owner":
        word = "others are the owners there"
    yield PreflightFinding(
        "surroundings-differ",
        f"{kind}s of {facts.source_name}: {names}{more}: {word}",
        "; ".join(_made(line, there=line.name in theirs) for line in lacking if line.make)
        or "bring both schemas to one version",
        refuses=False,
    )


def _differ(ours: Surrounding, theirs: Surrounding) -> bool:
    if ours.kind in ("view", "materialized view"):
        return normal_form(ours.value) != normal_form(theirs.value)
    return ours.value.replace("\r\n", "\n").strip() != theirs.value.replace("\r\n", "\n").strip()


def _made(line: Surrounding, *, there: bool) -> str:
    again = there and line.kind in ("event trigger", "view", "materialized view")
    return f"DROP {line.kind.upper()} {line.name}; {line.make}" if again else line.make
