"""What an audit says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

from tenantry.catalog.values import Column, Policy, Relation, Way
from tenantry.catalog.ways import counts, of_kinds
from tenantry.isolation.equality import standard
from tenantry.isolation.facts import OBSERVE, Facts
from tenantry.isolation.misspelt import Misspelt
from tenantry.isolation.plan import Plan, plan
from tenantry.isolation.plan.policies import guarding
from tenantry.isolation.policy import POLICY
from tenantry.runtime.sqltext import identifier


class Severity(StrEnum):
    """How bad it is."""

    ERROR = "error"
    """Rows can cross between tenants, or a tenant's own rows can't be reached."""
    WARNING = "warning"
    """Isolation holds today, by a condition that nobody guards."""
    NOTICE = "notice"
    """It costs time, or tells something small."""


class Rule(NamedTuple):
    """One kind of fault; `docs/reference/audit/<code>.md` is its page."""

    code: str
    """Stable: baselines and suppressions name it."""
    name: str
    severity: Severity
    hurts: str
    """Why it hurts, in one sentence."""


class Found(NamedTuple):
    """One place where a rule is broken."""

    object: str
    """What is at fault, by a name that stays the same: the key of baselines."""
    message: str
    fix: tuple[str, ...] = ()
    """SQL that fixes it, one statement each; empty where only people can decide."""


class AuditFinding(NamedTuple):
    """A rule and a place."""

    rule: Rule
    object: str
    message: str
    fix: tuple[str, ...]

    @property
    def key(self) -> str:
        """How a baseline names it."""
        return f"{self.rule.code} {self.object}"


@dataclass(frozen=True)
class Subject(Facts):
    """The facts, and the plan whose steps are most rules' fixes."""

    misspelt: Mapping[int, Misspelt] = field(default_factory=dict)
    """Tables with rows whose tenant is spelt otherwise; empty where rows were not looked at."""

    @cached_property
    def wanted(self) -> Plan:
        """What would bring everything to the standard."""
        return plan(self.catalog, self.tenancy, role=self.role)

    def steps(self, relation: Relation, *kinds: str) -> tuple[str, ...]:
        """The plan's statements for a table, and for its partitions where it has some."""
        keys = [relation.key]
        if relation.kind == "p":
            keys += [self.catalog.relations[oid].key for oid in self._below(relation.oid)]
        return tuple(
            statement
            for kind in kinds
            for step in self.wanted.steps
            if step.kind == kind and step.object in keys
            for statement in step.statements
        )

    def planned(self, relation: Relation) -> Relation:
        """The table that the plan works on: of a partition, the partitioned table at the top."""
        for oid in self.catalog.ancestors(relation.oid) if relation.partition else ():
            if oid in self.tables.tenants and not self.catalog.relations[oid].partition:
                return self.catalog.relations[oid]
        return relation

    def _below(self, oid: int) -> Iterator[int]:
        for child in self.catalog.children.get(oid, ()):
            yield child
            yield from self._below(child)

    @cached_property
    def tops(self) -> tuple[tuple[Relation, Column], ...]:
        """Tenant tables that are nobody's partition or child."""
        return tuple(
            (relation, column)
            for relation, column in self.tenant_tables
            if not any(oid in self.tables.tenants for oid in self.catalog.ancestors(relation.oid))
        )

    @cached_property
    def guarded(self) -> tuple[tuple[Relation, Column], ...]:
        """Tenant tables whose policies are in force."""
        return tuple((relation, column) for relation, column in self.tenant_tables if relation.rls)

    def policies(self) -> Iterator[tuple[Relation, Column, Policy]]:
        """The policies in force on tenant tables, observe mode's left out."""
        for relation, column in self.guarded:
            for policy in self.catalog.policies.get(relation.oid, ()):
                if policy.name != OBSERVE:
                    yield relation, column, policy

    def rewritten(self, relation: Relation, column: Column, policy: Policy) -> tuple[str, ...]:
        """The template's expression in the place of a policy's own."""
        text = standard(column.name, self.tenancy, column.type)
        clauses = [] if policy.command == "a" else [f"USING ({text})"]
        clauses += [] if policy.command in ("r", "d") else [f"WITH CHECK ({text})"]
        return (f"ALTER POLICY {identifier(policy.name)} ON {relation.sql} {' '.join(clauses)}",)

    def held(self, relation: Relation, column: Column, policy: Policy) -> tuple[str, ...]:
        """The guard that holds a policy to the bound tenant; for the template's own, its expression."""
        if policy.name == POLICY:
            return self.rewritten(relation, column, policy)
        return tuple(guarding(self, relation, column))

    def ways(self, *kinds: str) -> Mapping[str, Way]:
        """The application role's ways past row-level security, by the statement that closes each."""
        known = self.catalog.ways.get(self.role or "", ())
        return of_kinds((way for way in known if counts(way, self.tenancy.setting)), *kinds)

    def reached(self, kind: str, oid: int, owner: str, *privileges: str) -> frozenset[str]:
        """Grantees with one of the privileges: those that matter to the role, or all but the owner."""
        held = self.catalog.privileges.get((kind, oid), {})
        if self.role is not None:
            who = {"public", *self.catalog.acts_as(self.role)}
        else:
            who = {name for name in held if name != owner and not self._superuser(name)}
        return frozenset(name for name, what in held.items() if name in who and not what.isdisjoint(privileges))

    def _superuser(self, name: str) -> bool:
        known = self.catalog.roles.get(name)
        return known is not None and known.superuser


Check = Callable[[Subject], Iterator[Found]]


def grantee(name: str) -> str:
    """A grantee in SQL."""
    return "PUBLIC" if name == "public" else identifier(name)


def grantees(names: frozenset[str]) -> str:
    """Grantees in SQL, in a stable order."""
    return ", ".join(grantee(name) for name in sorted(names))
