"""What guards the tables of both ends, and who may use them, as the catalogs have it."""

from __future__ import annotations

import json
from collections.abc import Sequence

import asyncpg

from tenantry import sql
from tenantry.move.catalog import Side
from tenantry.move.preflight.facts import Access, Privilege, TablePolicy
from tenantry.move.session import Connection


async def read(
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
