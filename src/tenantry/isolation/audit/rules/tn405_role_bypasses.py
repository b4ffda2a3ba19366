"""An application role that row-level security does not hold."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject
from tenantry.runtime.sqltext import identifier

RULE = Rule(
    "TN405",
    "role-bypasses",
    Severity.ERROR,
    "No policy exists for such a role: every query sees every tenant.",
)


_FILES = ("pg_execute_server_program", "pg_read_server_files", "pg_write_server_files")


def check(subject: Subject) -> Iterator[Found]:
    """The role itself, and what it can become."""
    if subject.role is None or subject.role not in subject.catalog.roles:
        return
    role = subject.catalog.roles[subject.role]
    name = identifier(role.name)
    attributes = [
        (role.superuser, "a superuser", "NOSUPERUSER"),
        (role.bypass, "BYPASSRLS", "NOBYPASSRLS"),
        (role.replication, "REPLICATION, which streams whole databases", "NOREPLICATION"),
    ]
    for held, what, fix in attributes:
        if held:
            yield Found(f"{role.name} {fix}", f"is {what}", (f"ALTER ROLE {name} {fix}",))
    for group in sorted({*role.may_become, *role.inherits}):
        reach = subject.catalog.acts_as(group)
        free = subject.bypasses(group) or not reach.isdisjoint(_FILES)
        if free:
            yield Found(
                f"{role.name} in {group}",
                f"can act as {group}, whom no policy holds",
                (f"REVOKE {identifier(group)} FROM {name}",),
            )
