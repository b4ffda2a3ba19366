"""Rows whose tenant column spells an id otherwise than tenantry does."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.catalog.spelling import respell_sql
from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN208",
    "id-spelt-otherwise",
    Severity.WARNING,
    "Policies compare the column with the id's normal form: such rows are nobody's, and no move carries them.",
)


def check(subject: Subject) -> Iterator[Found]:
    """Tenant columns of text: uuids in capitals, numbers with leading zeros, near spellings of a tenant's id."""
    for oid, found in subject.misspelt.items():
        if found.values:
            relation, column = subject.catalog.relations[oid], subject.tables.tenants[oid]
            shown = ", ".join(repr(value[:60]) for value in found.values)
            yield Found(
                relation.key,
                f"{column.name!r} spells ids otherwise than their normal form, {shown} among them; "
                f"this lists the rows: {found.query}",
                respell_sql(subject.planned(relation).sql, column.name, subject.tenancy),
            )
