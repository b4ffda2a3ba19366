"""Rows of the tenant under another spelling of its id would stay behind. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.move.errors import PreflightFinding
from tenantry.move.preflight.facts import PATIENCE, PreflightFacts
from tenantry.runtime.sqltext import identifier, literal


def spelling(facts: PreflightFacts) -> Iterator[PreflightFinding]:
    """Whether all rows that are meant as the tenant's are."""
    for one in facts.misspelt:
        rows = f"SELECT * FROM {one.table} WHERE {one.where}"  # noqa: S608  quoted
        if one.rows is None:
            yield PreflightFinding(
                "spelling-unchecked",
                f"it is not known whether rows of {one.table} spell {facts.tenant} otherwise in {one.column}: to "
                f"look takes longer than {PATIENCE:g} s",
                f"see that this finds none: {rows}",
                refuses=False,
            )
            continue
        yield PreflightFinding(
            "id-spelt-otherwise",
            f"{one.rows} row{'s' * (one.rows != 1)} of {one.table} spell{'s' * (one.rows == 1)} {facts.tenant} "
            f"otherwise in {one.column}: nobody sees such rows, and they would stay; this lists them: {rows}",
            f"UPDATE {one.table} SET {identifier(one.column)} = {literal(facts.tenant)} WHERE {one.where}",  # noqa: S608  quoted
        )
