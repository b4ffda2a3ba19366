"""What all policies of a table let through together. Pure.

Permissive policies are OR-ed, restrictive ones AND-ed on top; a command without a permissive policy
is denied. So a table isolates when every applicable permissive policy ties its rows to the session,
or when one restrictive policy does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from tenantry.catalog.tables import TenantTables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import PUBLIC, Catalog, Policy
from tenantry.isolation.policy_semantics import Semantics
from tenantry.isolation.policy_verdict import ExpressionVerdict, hides_own, verdict

Action = Literal["select", "insert", "update", "update check", "delete"]
ACTIONS: tuple[Action, ...] = ("select", "insert", "update", "update check", "delete")
_COMMANDS = {"select": "r", "insert": "a", "update": "w", "update check": "w", "delete": "d"}


class PolicyGap(NamedTuple):
    """A permissive policy that nothing ties for an action."""

    policy: Policy
    action: Action
    verdict: ExpressionVerdict
    beside: bool
    """True when another permissive policy of the table is tied: this one undoes it."""


@dataclass(frozen=True)
class PolicySet:
    """The combined effect of policies, for one application role or for every role that they name."""

    catalog: Catalog
    tenancy: Tenancy
    tables: TenantTables
    role: str | None = None

    @cached_property
    def semantics(self) -> Semantics:
        """The reader of expressions."""
        return Semantics(self.catalog, self.tenancy, self.tables.tenants)

    @cached_property
    def protected(self) -> frozenset[int]:
        """Tables whose readers see tied rows only, found to a fixed point: policies lean on others."""
        found: frozenset[int] = frozenset()
        while True:
            more = frozenset(
                oid
                for oid in self.catalog.policies
                if oid in self.catalog.relations
                and self.catalog.relations[oid].rls
                and not self._openings(oid, "select", found)
            )
            if more == found:
                return found
            found = more

    def expression(self, policy: Policy, action: Action) -> str | None:
        """The policy's expression for an action: a check that is missing is the USING."""
        if action == "insert":
            return policy.using if policy.check is None and policy.command == "*" else policy.check
        if action == "update check":
            return policy.using if policy.check is None else policy.check
        return policy.using

    def verdict(self, policy: Policy, action: Action) -> ExpressionVerdict:
        """What one policy lets through for one action."""
        return self._verdict(policy, action, self.protected)

    def openings(self, oid: int, action: Action) -> tuple[PolicyGap, ...]:
        """The permissive policies through which rows of others come in."""
        if (oid, action) not in self._known:
            self._known[oid, action] = self._openings(oid, action, self.protected)
        return self._known[oid, action]

    @cached_property
    def _known(self) -> dict[tuple[int, Action], tuple[PolicyGap, ...]]:
        """What `openings` has answered: many rules ask the same."""
        return {}

    def hiding(self, oid: int) -> Policy | None:
        """A policy for which a tenant sees none of its own rows, on a table that may be read at all."""
        policies = self.applicable(oid, "select")
        permissive = [policy for policy in policies if policy.permissive]
        hiding = [policy for policy in policies if self._hides(policy)]
        closed = permissive and all(policy in hiding for policy in permissive)
        return next((one for one in hiding if not one.permissive), permissive[0] if closed else None)

    def _hides(self, policy: Policy) -> bool:
        text = self.expression(policy, "select")
        if text is None:
            return policy.permissive
        return hides_own(self.semantics, text, policy.relation)

    def applicable(self, oid: int, action: Action) -> tuple[Policy, ...]:
        """The policies that apply to the role, or to anybody, for an action."""
        command = _COMMANDS[action]
        return tuple(
            policy
            for policy in self.catalog.policies.get(oid, ())
            if policy.command in ("*", command) and (self.role is None or self._applies(policy, self.role))
        )

    def _applies(self, policy: Policy, role: str) -> bool:
        """A restrictive policy holds who has its role's privileges; a permissive one lets in who may take them."""
        who = self.catalog.acts_as(role) if policy.permissive else self._inherited(role)
        return PUBLIC in policy.roles or not who.isdisjoint(policy.roles)

    def _inherited(self, role: str) -> frozenset[str]:
        found, todo = {role}, [role]
        while todo:
            known = self.catalog.roles.get(todo.pop())
            new = set(known.inherits if known is not None else ()) - found
            found |= new
            todo += new
        return frozenset(found)

    def _verdict(self, policy: Policy, action: Action, protected: frozenset[int]) -> ExpressionVerdict:
        return verdict(
            self.semantics,
            self.expression(policy, action),
            policy.relation,
            protected - {policy.relation},
            writes=action != "select",
        )

    def _openings(self, oid: int, action: Action, protected: frozenset[int]) -> tuple[PolicyGap, ...]:
        policies = self.applicable(oid, action)
        judged = [(policy, self._verdict(policy, action, protected)) for policy in policies]
        # A restrictive policy without an expression for the action restricts nothing.
        tied = [
            policy
            for policy, found in judged
            if found is ExpressionVerdict.TIED
            and (policy.permissive or self.expression(policy, action) is not None)
        ]
        found = []
        for policy, found_verdict in judged:
            if not policy.permissive or found_verdict is ExpressionVerdict.TIED:
                continue
            if any(self._covers(other, policy) for other in tied if not other.permissive):
                continue
            beside = any(other.permissive for other in tied)
            found.append(PolicyGap(policy, action, found_verdict, beside))
        return tuple(found)

    def _covers(self, restrictive: Policy, permissive: Policy) -> bool:
        """True when everybody whom `permissive` lets in is held by `restrictive`."""
        if self.role is not None or PUBLIC in restrictive.roles:
            return True
        return all(
            not self._inherited(role).isdisjoint(restrictive.roles) for role in permissive.roles if role != PUBLIC
        ) and (PUBLIC not in permissive.roles)
