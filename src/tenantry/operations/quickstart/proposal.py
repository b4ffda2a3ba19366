"""What the catalogs say of a product's tenants: their column, their ids, their own table. Pure.

Where two answers would do, none is chosen: whoever runs it is asked.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tenantry.catalog.tables import TenantTables, Undecided, spelling, tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Column, Relation
from tenantry.errors import OperationRefused
from tenantry.ids import IdType

#: Words for tenants that products use in a column's name, folded as `spelling` folds them.
_WORDS: Final = (
    *("tenant", "org", "organization", "organisation", "account", "company", "workspace", "customer", "client"),
    *("team", "shop", "store", "school", "center", "centre", "clinic", "site", "instance", "business", "merchant"),
    *("partner", "firm", "agency", "institution", "project"),
)
_KNOWN: Final = frozenset(spelling(f"{word}_{end}") for word in _WORDS for end in ("id", "uuid"))
_SETTING: Final = re.compile(r"current_setting\s*\(\s*'([a-z_][a-z0-9_]*(?:\.[a-z_][a-z0-9_]*)+)'")
#: Not tenants' settings, though policies may read them.
_OTHERS: Final = re.compile(r"\.(user|role|claim|jwt)")
_UNDECIDED_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Proposal:
    """A product's tenancy, as its database shows it."""

    tenancy: Tenancy
    tables: tuple[str, ...]
    """Tenant tables, as `schema.table`."""
    registry: str | None
    """The table that lists the tenants; None: no tenant column refers to one."""
    ids_from: str
    """`schema.table.column` that holds every tenant's id."""
    shown: Relation
    """The table of the first endpoint."""
    shown_column: str
    """Its tenant column."""
    reference: tuple[Relation, ...]
    """Tables that every tenant reads."""
    pending: tuple[Undecided, ...]
    """Tables whose rows belong to tenants by a foreign key alone: they need the column."""
    why: str
    """Why this column."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    name: str
    """As most tables spell it."""
    id_type: IdType
    tables: int
    known: bool


def propose(
    catalog: Catalog,
    *,
    column: str | None = None,
    tables: Mapping[str, str] | None = None,
    setting: str | None = None,
) -> Proposal:
    """What the catalogs say.

    Args:
        column: the tenant column; None: to be found.
        tables: overrides, as `tenancy.tables`.
        setting: the setting that policies read; None: to be found in them, or else "app.current_tenant".

    Raises:
        OperationRefused: it can't be told, with what to say.
    """
    own = [r for r in catalog.relations.values() if r.kind in ("r", "p") and not r.parents]
    if not own:
        raise OperationRefused(
            "there are no tables here: run your migrations first, and name the database that has them"
        )
    chosen, why = _choose(catalog, own, column)
    said = dict(tables or {})
    tenancy = Tenancy(
        column=chosen.name, id_type=chosen.id_type, setting=setting or _setting(catalog), tables=said
    )
    placed = tenant_tables(catalog, tenancy)
    registry = _registry(catalog, placed)
    if registry is not None and registry[0].key not in said:
        said[registry[0].key] = registry[1]
        tenancy = Tenancy(column=chosen.name, id_type=chosen.id_type, setting=tenancy.setting, tables=said)
        placed = tenant_tables(catalog, tenancy)
    _refuse_undecided(catalog, placed)
    shown, shown_column = _shown(catalog, placed, registry)
    source = registry or (shown, shown_column.name)
    return Proposal(
        tenancy=tenancy,
        tables=tuple(sorted(catalog.relations[oid].key for oid in placed.tenants)),
        registry=None if registry is None else registry[0].key,
        ids_from=f"{source[0].key}.{source[1]}",
        shown=shown,
        shown_column=shown_column.name,
        reference=tuple(catalog.relations[oid] for oid in sorted(placed.reference)),
        pending=tuple(placed.without[oid] for oid in placed.dependent if oid in placed.without),
        why=why,
    )


def _choose(catalog: Catalog, own: list[Relation], column: str | None) -> tuple[_Candidate, str]:
    found = {spelling(one.name): one for one in _candidates(catalog, own)}
    if column is not None:
        chosen = found.get(spelling(column))
        if chosen is None:
            raise OperationRefused(
                f"no table has a column {column!r} of type uuid, bigint or text; candidates: {_listed(found)}"
            )
        return chosen, f"it was named; {chosen.tables} of {len(own)} tables have it"
    usable = [one for one in found.values() if one.known or (2 * one.tables >= len(own) and one.tables > 1)]
    best = [one for one in usable if one.known] or usable
    most = max((one.tables for one in best), default=0)
    top = [one for one in best if one.tables == most]
    if len(top) != 1:
        why = "no column looks like a tenant's" if not top else f"{_listed(found)} could each be the tenant column"
        raise OperationRefused(
            f"{why}: say which with --column. It must be in every table whose rows belong to one tenant; "
            f"candidates: {_listed(found) or 'none'}"
        )
    return top[0], f"{most} of {len(own)} tables have it"


def _listed(found: Mapping[str, _Candidate]) -> str:
    ranked = sorted(found.values(), key=lambda one: (not one.known, -one.tables, one.name))[:_UNDECIDED_SHOWN]
    return ", ".join(f"{one.name} ({one.tables} tables)" for one in ranked)


def _candidates(catalog: Catalog, own: list[Relation]) -> Iterator[_Candidate]:
    """Columns whose name ends in id, by their spelling."""
    names: dict[str, Counter[str]] = {}
    types: dict[str, set[IdType | None]] = {}
    for relation in own:
        for one in catalog.columns.get(relation.oid, ()):
            folded = spelling(one.name)
            if folded.endswith(("id", "uuid")) and folded not in ("id", "uuid"):
                names.setdefault(folded, Counter())[one.name] += 1
                types.setdefault(folded, set()).add(_id_type(one.type))
    for folded, spelled in names.items():
        # uuids and numbers are kept as text too; as what they are most strictly, they are compared everywhere
        strict = [kind for kind in (IdType.UUID, IdType.BIGINT, IdType.TEXT) if kind in types[folded]]
        if strict:
            yield _Candidate(spelled.most_common(1)[0][0], strict[0], sum(spelled.values()), folded in _KNOWN)


def _id_type(column_type: str) -> IdType | None:
    base = re.sub(r"\(.*\)", "", column_type).strip()
    if base == "uuid":
        return IdType.UUID
    if base in ("smallint", "integer", "bigint"):
        return IdType.BIGINT
    return IdType.TEXT if base in ("text", "character varying") else None


def _setting(catalog: Catalog) -> str:
    """The setting that the product's own policies read, if it is one."""
    found = {
        name
        for policies in catalog.policies.values()
        for policy in policies
        for text in (policy.using, policy.check)
        for name in _SETTING.findall(text or "")
        if not _OTHERS.search(name) and not name.startswith("tenantry.")
    }
    return found.pop() if len(found) == 1 else "app.current_tenant"


def _registry(catalog: Catalog, placed: TenantTables) -> tuple[Relation, str] | None:
    """The table that tenant columns refer to, with the column that they refer to."""
    votes: Counter[tuple[int, int]] = Counter()
    for oid, column in placed.tenants.items():
        for key in catalog.constraints.get(oid, ()):
            if key.kind == "f" and key.columns == (column.number,) and key.target not in placed.tenants:
                votes[key.target, key.target_columns[0]] += 1
    if not votes:
        return None
    (target, number), _ = votes.most_common(1)[0]
    return catalog.relations[target], catalog.names(target, [number])[0]


def _refuse_undecided(catalog: Catalog, placed: TenantTables) -> None:
    asked = [
        *placed.unclear.values(),
        *(item for oid, item in placed.without.items() if oid not in placed.dependent),
        *placed.unmatched,
    ]
    asked = list(dict.fromkeys(asked))
    if not asked:
        return
    shown = "".join(f"\n  {item.object} {item.problem}" for item in asked[:_UNDECIDED_SHOWN])
    more = f"\n  and {len(asked) - _UNDECIDED_SHOWN} more" if len(asked) > _UNDECIDED_SHOWN else ""
    first = asked[0].object
    raise OperationRefused(
        f"nothing says whose these tables are, and this is not for a program to guess:{shown}{more}\n"
        f"Say it of each: --table {first}=reference (every tenant reads all of it), --table {first}=ignore (it "
        f"stays as it is, and the scopes' role gets no right on it), or --table {first}=COLUMN (its tenant column)"
    )


def _shown(
    catalog: Catalog, placed: TenantTables, registry: tuple[Relation, str] | None
) -> tuple[Relation, Column]:
    """The largest tenant table, but the list of tenants itself."""
    root = None if registry is None else registry[0].oid
    tables = [
        (catalog.relations[oid], column)
        for oid, column in placed.tenants.items()
        if oid != root and not catalog.relations[oid].parents
    ]
    if not tables:
        raise OperationRefused(
            "no table has rows of tenants but the list of tenants itself: there is nothing to show"
        )
    return max(tables, key=lambda one: (one[0].rows, one[0].key))
