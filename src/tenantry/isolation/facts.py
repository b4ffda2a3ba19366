"""Facts about tenant tables that the plan and the audit share. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from tenantry.catalog.tables import TenantTables, tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Column, Constraint, Index, Policy, Relation
from tenantry.isolation.equality import standard_printed
from tenantry.isolation.expression import parse, tokens_of
from tenantry.isolation.guard import GUARD, SUPERSEDED, Guard, guard_of, of_both_halves
from tenantry.isolation.policy import POLICY, derived_name
from tenantry.isolation.policy_semantics import USER
from tenantry.isolation.policy_set import ACTIONS, Action, PolicySet
from tenantry.isolation.policy_verdict import ExpressionVerdict
from tenantry.isolation.unbound import Unbound, fails_on_empty, together, unbound

#: Name of the policy of observe mode.
OBSERVE = "tenantry_observe"
#: How the settings begin that hold what a request's token says: `request.jwt.claims`, which the router sets, and
#: the older ones of PostgREST, such as `request.jwt.claim.sub`.
CLAIMS = "request.jwt."
#: Names of what tenantry makes, or made.
OURS = (POLICY, GUARD, SUPERSEDED, OBSERVE)
_GENERATED = ("nextval(", "gen_random_uuid(", "uuid_generate_", "uuidv7(", "uuidv4(")


@dataclass(frozen=True)
class Facts:
    """One catalog, looked at with one tenancy and, where given, one application role."""

    catalog: Catalog
    tenancy: Tenancy
    role: str | None = None

    def __post_init__(self) -> None:
        """Whether a database has Citus is its catalog's answer, whatever the configuration says.

        Raises:
            ConfigError: the configuration is hardened, which Citus can't be.
        """
        if self.tenancy.citus is not self.catalog.citus:
            object.__setattr__(self, "tenancy", replace(self.tenancy, citus=self.catalog.citus))

    @cached_property
    def tables(self) -> TenantTables:
        """Where each table stands."""
        return tenant_tables(self.catalog, self.tenancy)

    @cached_property
    def policy_set(self) -> PolicySet:
        """What the policies let through."""
        return PolicySet(self.catalog, self.tenancy, self.tables, self.role)

    @cached_property
    def tenant_tables(self) -> tuple[tuple[Relation, Column], ...]:
        """The tenant tables with their tenant columns, by name."""
        return tuple((self.catalog.relations[oid], column) for oid, column in self.tables.tenants.items())

    # --- indexes and keys -----------------------------------------------------------------------

    def serves(self, index: Index, column: Column) -> bool:
        """True for a whole, valid index led by the tenant column (a partial one serves nobody)."""
        return (
            index.valid
            and index.predicate is None
            and index.method in ("btree", "hash")
            and index.keys[:1] == (column.number,)
        )

    def has_index(self, oid: int, column: Column) -> bool:
        """True when some index of the table serves the policy."""
        return any(self.serves(index, column) for index in self.catalog.indexes.get(oid, ()))

    def primary(self, oid: int) -> Index | None:
        """The primary key's index."""
        return next((i for i in self.catalog.indexes.get(oid, ()) if i.primary), None)

    def leaf(self, relation: Relation) -> bool:
        """True for a table that holds rows itself."""
        return relation.kind == "r"

    def identity_fits(self, relation: Relation, column: Column) -> bool:
        """True when a row filter on the tenant column would not break UPDATE and DELETE."""
        if relation.identity == "f":
            return True
        for index in self.catalog.indexes.get(relation.oid, ()):
            chosen = index.identity if relation.identity == "i" else index.primary
            if relation.identity in ("d", "i") and chosen and column.number in index.keys:
                return True
        return False

    def identity_index(self, relation: Relation, column: Column) -> Index | None:
        """An index that could be the replica identity: unique, whole, NOT NULL, with the tenant."""
        filled = {
            known.number
            for known in self.catalog.columns.get(relation.oid, ())
            if known.not_null or known.number == column.number
        }
        for index in self.catalog.indexes.get(relation.oid, ()):
            whole = index.predicate is None and index.valid and index.immediate
            if index.unique and whole and column.number in index.keys and filled >= set(index.keys):
                return index
        return None

    def key_wanted(self, relation: Relation, column: Column) -> tuple[str, ...] | None:
        """The columns of a unique index that the plan makes, where the identity wants one."""
        primary = self.primary(relation.oid)
        if primary is None or self.identity_fits(relation, column):
            return None
        if self.identity_index(relation, column) is not None or relation.persistence != "p":
            return None
        return (column.name, *self.catalog.names(relation.oid, primary.keys))

    def key_name(self, relation: Relation) -> str:
        """The name of the unique index (tenant, primary key) that the plan makes."""
        return derived_name(relation.name, "tenantry_key")

    def index_name(self, relation: Relation) -> str:
        """The name of the plain tenant index that the plan makes."""
        return derived_name(relation.name, "tenantry_idx")

    # --- Citus ----------------------------------------------------------------------------------

    def distribution(self, oid: int) -> str | None:
        """The column by which Citus distributes a table, or its partitioned parent; None: it does not.

        Citus takes neither another type nor a default for it.
        """
        for one in (oid, *self.catalog.ancestors(oid)):
            if column := self.catalog.distributed.get(one):
                return column
        return None

    # --- references and uniqueness --------------------------------------------------------------

    def crossing(self, oid: int) -> tuple[Constraint, ...]:
        """Foreign keys between tenant tables that do not compare the tenants."""
        column = self.tables.tenants.get(oid)
        if column is None:
            return ()
        return tuple(
            key
            for key in self.catalog.constraints.get(oid, ())
            if key.kind == "f"
            and not key.inherited
            and (target := self.tables.tenants.get(key.target)) is not None
            and (column.number, target.number) not in zip(key.columns, key.target_columns, strict=True)
        )

    def leaking_unique(self, oid: int) -> tuple[Index, ...]:
        """Unique indexes that tell a tenant which values other tenants use.

        Left out: keys that hold the tenant column; generated ids, which nobody guesses a meaning
        into; keys with a column that refers to a tenant's row, since that row has one tenant only.
        """
        column = self.tables.tenants.get(oid)
        if column is None:
            return ()
        columns = {known.number: known for known in self.catalog.columns.get(oid, ())}
        referring = {
            number
            for key in self.catalog.constraints.get(oid, ())
            if key.kind == "f" and key.target in self.tables.tenants
            for number in key.columns
        }
        return tuple(
            index
            for index in self.catalog.indexes.get(oid, ())
            if index.unique
            and index.parent is None
            and column.number not in index.keys
            and not referring.intersection(index.keys)
            and not any(_generated(columns[n], index.primary) for n in index.keys if n in columns)
        )

    # --- policies -------------------------------------------------------------------------------

    def own_policy(self, oid: int) -> Policy | None:
        """The policy that the template made."""
        return self._named(oid, POLICY)

    def observing(self, oid: int) -> Policy | None:
        """The policy of observe mode."""
        return self._named(oid, OBSERVE)

    def other_policies(self, oid: int) -> tuple[Policy, ...]:
        """Policies that tenantry did not make."""
        return tuple(policy for policy in self.catalog.policies.get(oid, ()) if policy.name not in OURS)

    def upgradable(self, policy: Policy, column: Column) -> bool:
        """True for the template's policy as earlier versions made it: with the guard's half in it."""
        return of_both_halves(policy, column.name, self.tenancy, column.type)

    def drifted(self, policy: Policy, column: Column) -> bool:
        """True when the template's policy is no longer what the template says."""
        wanted = {
            tokens_of(standard_printed(column.name, self.tenancy, column.type, cast=cast))
            for cast in (False, True)
        }
        plain = policy.permissive and policy.command == "*" and policy.roles == ("public",)
        texts = (policy.using, policy.using if policy.check is None else policy.check)
        return not plain or any(text is None or tokens_of(text) not in wanted for text in texts)

    def guard(self, oid: int) -> Policy | None:
        """The policy of the guard's name."""
        return self._named(oid, GUARD)

    def superseded(self, oid: int) -> Policy | None:
        """The policy of an earlier version that the guard replaces."""
        return self._named(oid, SUPERSEDED)

    def guard_held(self, oid: int) -> Guard | None:
        """What a tenant table's guard holds; None where it has none, or one that somebody changed.

        On Citus the tenant policy holds all of it, where no other policy lets anybody in beside it.
        """
        found, column = self.guard(oid), self.tables.tenants[oid]
        if self.tenancy.citus:
            own = self.own_policy(oid)
            alone = [policy for policy in self.catalog.policies.get(oid, ()) if policy.permissive] == [own]
            return Guard.BORDER if own is not None and alone and not self.drifted(own, column) else None
        return None if found is None else guard_of(found, column.name, self.tenancy, column.type)

    def guarded_well(self, oid: int) -> bool:
        """True when a tenant table's guard holds what it has to, in this mode and beside the table's policies."""
        held, wanted = self.guard_held(oid), self.guard_wanted(oid)
        if held is None:
            return False
        return held >= (min(wanted, Guard.BORDER_AND_NOBODY) if self._keeps_reading(oid) else wanted)

    def guard_wanted(self, oid: int) -> Guard:
        """What a tenant table's guard has to hold: the less, the more its other policies are proven to."""
        nobody = not self.tables.tenants[oid].not_null and any(p.permissive for p in self.other_policies(oid))
        if not self.tenancy.hardened and not self._unheld(oid):
            return Guard.FENCE
        return Guard.BORDER_AND_NOBODY if nobody and self._keeps_reading(oid) else Guard.BORDER

    def _keeps_reading(self, oid: int) -> bool:
        """True when rows of others can't be written, whatever may be read."""
        return self._unheld(oid) <= {"select"}

    def _unheld(self, oid: int) -> frozenset[Action]:
        """The actions for which the product's own policies let through what is not proven to be the tenant's."""
        return frozenset(
            action
            for action in ACTIONS
            if any(gap.policy.name != POLICY for gap in self._unguarded.openings(oid, action))
        )

    @cached_property
    def _unguarded(self) -> PolicySet:
        """What the tenant policies and the product's own let through by themselves, for any role."""
        found = {
            oid: tuple(policy for policy in policies if policy.name not in (GUARD, SUPERSEDED, OBSERVE))
            for oid, policies in self.catalog.policies.items()
        }
        return PolicySet(replace(self.catalog, policies=found), self.tenancy, self.tables)

    def unbound(self, oid: int) -> tuple[Unbound, Policy] | None:
        """The worst that a table's policies do on an unset or empty setting, and which one does it."""
        worst: tuple[Unbound, Policy] | None = None
        for action in ACTIONS:
            policies = self.policy_set.applicable(oid, action)
            for state in (None, ""):
                found = together(
                    [self.policy_set.expression(p, action) for p in policies if p.permissive],
                    [self.policy_set.expression(p, action) for p in policies if not p.permissive],
                    self.policy_set.semantics,
                    oid,
                    state,
                )
                if found in _BAD and (worst is None or _BAD[found] > _BAD[worst[0]]):
                    worst = (found, self._culprit(policies, action, found, state))
        return worst

    def fails_unbound(self, oid: int) -> bool:
        """True when a table's policies raise an error on an unset or empty setting: no guard keeps that away,
        because the planner reads the setting too. What they would let through, the guard doesn't.
        """
        found = self.unbound(oid)
        return found is not None and found[0] is Unbound.ERROR

    def _culprit(self, policies: tuple[Policy, ...], action: Action, found: Unbound, state: str | None) -> Policy:
        semantics = self.policy_set.semantics
        for policy in policies:
            text = self.policy_set.expression(policy, action)
            if unbound(text, semantics, policy.relation, state) is found:
                return policy
        return policies[0]

    def reads_claims(self, policy: Policy) -> bool:
        """True when a policy reads what a request's token says, however it gets there."""
        return any(source.lower().startswith(CLAIMS) for source in self._sources(policy))

    def fails_without_claims(self, policy: Policy) -> bool:
        """True when a policy raises an error where a request has no claims and the connection has had some."""
        semantics = self.policy_set.semantics
        return any(
            fails_on_empty(text, semantics, policy.relation, CLAIMS) for text in (policy.using, policy.check)
        )

    def _sources(self, policy: Policy) -> frozenset[str]:
        texts = (text for text in (policy.using, policy.check) if text is not None)
        return frozenset[str]().union(*(self.policy_set.semantics.sources(parse(text)) for text in texts))

    def foreign_settings(self, policy: Policy) -> frozenset[str]:
        """Settings other than ours that a policy's rows are tied to, where no other policy holds them."""
        gaps = (gap for action in ACTIONS for gap in self.policy_set.openings(policy.relation, action))
        if not any(gap.policy == policy and gap.verdict is ExpressionVerdict.FOREIGN for gap in gaps):
            return frozenset()
        return self._sources(policy) - {self.tenancy.setting, USER}

    def isolates(self, oid: int) -> bool:
        """True when other people's policies already do the template's work, for every command."""
        policies = self.other_policies(oid)
        return (
            any(policy.permissive for policy in policies)
            and not any(self.policy_set.openings(oid, action) for action in ACTIONS)
            and self.unbound(oid) is None
            and self.policy_set.hiding(oid) is None
        )

    def _named(self, oid: int, name: str) -> Policy | None:
        return next((p for p in self.catalog.policies.get(oid, ()) if p.name == name), None)

    # --- views ----------------------------------------------------------------------------------

    @cached_property
    def views(self) -> tuple[Relation, ...]:
        """Views and materialized views that show tenant tables, directly or through other views."""
        showing: set[int] = set()
        while True:
            more = {
                view
                for view, read in self.catalog.reads.items()
                if view in self.catalog.relations
                and any(oid in self.tables.tenants or oid in showing for oid in read)
            }
            if more == showing:
                break
            showing = more
        return tuple(self.catalog.relations[oid] for oid in self.catalog.relations if oid in showing)

    def bypasses(self, role: str) -> bool:
        """True for a role that row-level security does not hold."""
        return any(
            known is not None and (known.superuser or known.bypass)
            for known in map(self.catalog.roles.get, self.catalog.acts_as(role))
        )


_BAD = {Unbound.ERROR: 1, Unbound.ROWS: 2, Unbound.OPEN: 3}


def _generated(column: Column, primary: bool) -> bool:
    """True for ids that something counts or draws; a number in a primary key is taken for one."""
    default = column.default or ""
    return (
        column.type == "uuid"
        or (primary and column.type in ("smallint", "integer", "bigint"))
        or column.identity != ""
        or any(word in default for word in _GENERATED)
    )
