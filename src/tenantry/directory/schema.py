"""Installs and upgrades the `tenantry` schema in control and data databases."""

from __future__ import annotations

from typing import Any

from tenantry import sql
from tenantry.ids import IdType, Kind
from tenantry.proof import pads
from tenantry.runtime import locks


async def install_control(connection: Any) -> list[str]:
    """Bring a control database to the newest schema; returns the names of the migrations applied.

    Idempotent, and safe to run twice at once. The role needs CREATE on the database.
    """
    return await _install(connection, "control")


async def install_data(
    connection: Any,
    *,
    name: str,
    kind: Kind,
    setting: str,
    id_type: IdType,
    application_role: str | None,
    tenant: str | None = None,
    key: bytes | None = None,
) -> list[str]:
    """Bring a data database to the newest schema, and tell it what it is called.

    Args:
        setting: name of the setting that policies read.
        application_role: gets what the router needs, and nothing more; None: nobody does.
        tenant: stamps a dedicated database as this tenant's; another tenant is refused from then on.
        key: from `proof.database_key`: hardens the database. None: it isn't, or is no longer, hardened.
    """
    applied = await _install(connection, "data")
    async with connection.transaction():
        if key is not None:
            await connection.execute(
                "INSERT INTO tenantry.secret (inner_pad, outer_pad) VALUES ($1, $2) "
                "ON CONFLICT (singleton) DO UPDATE "
                "SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad",
                *pads(key),
            )
        await connection.execute(
            "SELECT tenantry.configure($1, $2, $3, $4, $5, $6)",
            name,
            kind.value,
            setting,
            id_type.value,
            tenant,
            key is not None,
        )
        if application_role is not None:
            await connection.execute("SELECT tenantry.grant_application($1)", application_role)
    return applied


async def _install(connection: Any, side: str) -> list[str]:
    applied = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", locks.INSTALLING)
        await connection.execute(
            "CREATE SCHEMA IF NOT EXISTS tenantry; "
            "CREATE TABLE IF NOT EXISTS tenantry.migration (side text, number int, name text NOT NULL, "
            "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (side, number))"
        )
        known = {
            row["number"]
            for row in await connection.fetch("SELECT number FROM tenantry.migration WHERE side = $1", side)
        }
        for step in sql.migrations(side):
            if step.number in known:
                continue
            await connection.execute(step.text)
            await connection.execute(
                "INSERT INTO tenantry.migration (side, number, name) VALUES ($1, $2, $3)",
                side,
                step.number,
                step.name,
            )
            applied.append(f"{side} {step.number:04d} {step.name}")
    return applied
