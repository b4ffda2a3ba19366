"""Installs and upgrades the `tenantry` schema in control and data databases."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any, Final

import asyncpg

from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.ids import IdType, Kind
from tenantry.proof import HARDENED_ON_CITUS, pads
from tenantry.runtime.locks import INSTALLING
from tenantry.runtime.sqltext import identifier
from tenantry.schema.rendering import Form, Identity, checksum, script
from tenantry.schema.versions import migrations

#: Milliseconds that an upgrade waits for a lock on a table, and keeps the product's scopes waiting behind it.
LOCK_TIMEOUT: Final = 1000
#: Attempts, and seconds between two of them, in which the product's scopes go on.
ATTEMPTS, PAUSE = 10, 1.0


async def install_control(connection: Any) -> list[str]:
    """Bring a control database to the newest schema; returns what was applied that it did not have.

    Idempotent, and safe to run twice at once. The role needs CREATE on the database.

    Raises:
        DatabaseUnavailable: transactions that run for long kept a table locked.
    """

    async def install() -> list[str]:
        applied = await _migrate(connection, "control")
        return applied + await _apply_functions(connection, "control", Form.CONTROL, None)

    return await _between_scopes(connection, "control", install)


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
    """Bring a data database to the newest schema, and tell it what it is called. All of it or nothing; idempotent.

    Args:
        setting: name of the setting that policies read.
        application_role: gets what the router needs, and nothing more; None: nobody does.
        tenant: stamps a dedicated database as this tenant's; another tenant is refused from then on.
        key: from `proof.database_key`: hardens the database. None: it isn't, or is no longer, hardened.

    Raises:
        ConfigError: the database is another one than these values say.
        DatabaseUnavailable: transactions that run for long kept a table locked.
    """
    identity = Identity(name, setting, id_type)

    async def install() -> list[str]:
        applied = await _migrate(connection, "data")
        form = await _form(connection, hardened=key is not None)
        await _check(connection, identity, tenant)
        await _write_identity(connection, identity, kind, tenant, key)
        applied += await _apply_functions(connection, "data", form, identity)
        if application_role is not None:
            await connection.execute("SELECT tenantry.grant_application($1)", application_role)
        return applied

    return await _between_scopes(connection, name, install)


async def _between_scopes(
    connection: Any, database: str, install: Callable[[], Awaitable[list[str]]]
) -> list[str]:
    """Run an install as one transaction, and again when it could not have a table soon enough."""
    for attempt in range(ATTEMPTS):
        try:
            async with connection.transaction():
                return await install()
        except asyncpg.LockNotAvailableError:
            if attempt + 1 < ATTEMPTS:
                await asyncio.sleep(PAUSE)
    raise DatabaseUnavailable(
        database,
        "its tables are in use by transactions that run for long; end them, or try again when they have ended",
    )


async def grant_control(connection: Any, role: str) -> None:
    """Give a role what routers need in the control database."""
    text = files("tenantry.schema").joinpath("grants", "control.sql").read_text(encoding="utf-8")
    await connection.execute(text.replace(":role", identifier(role)))


async def _migrate(connection: Any, side: str) -> list[str]:
    """Apply the migrations that are not. The lock is held to the end of the transaction."""
    await connection.execute("SELECT pg_advisory_xact_lock($1)", INSTALLING)
    # A change of a table waits for the scopes that run, and keeps new ones waiting: rather give up.
    await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT}")
    await connection.execute(
        "CREATE SCHEMA IF NOT EXISTS tenantry; "
        "CREATE TABLE IF NOT EXISTS tenantry.migration (side text, number int, name text NOT NULL, "
        "applied_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (side, number))"
    )
    rows = await connection.fetch("SELECT number FROM tenantry.migration WHERE side = $1", side)
    known = {row["number"] for row in rows}
    applied = []
    for step in migrations(side):
        if step.number not in known:
            await connection.execute(step.text)
            await connection.execute(
                "INSERT INTO tenantry.migration (side, number, name) VALUES ($1, $2, $3)",
                side,
                step.number,
                step.name,
            )
            applied.append(f"{side} {step.number:04d} {step.name}")
    return applied


async def _form(connection: Any, *, hardened: bool) -> Form:
    if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')"):
        return Form.HARDENED if hardened else Form.PLAIN
    if hardened:
        raise ConfigError(HARDENED_ON_CITUS, key="tenancy.hardened")
    return Form.CITUS


async def _check(connection: Any, identity: Identity, tenant: str | None) -> None:
    """A DSN that leads to another database must not make that one ours."""
    known = await connection.fetchrow("SELECT name, id_type, tenant FROM tenantry.database_identity FOR UPDATE")
    if known is None:
        return
    if known["id_type"] != identity.id_type.value:
        raise ConfigError(
            f"this database holds tenants of type {known['id_type']}, not {identity.id_type.value}; "
            "set tenancy.type to what it was installed with"
        )
    if known["tenant"] is not None and tenant is not None and known["tenant"] != tenant:
        raise ConfigError(
            "this database is stamped for another tenant; "
            "check the DSN: it may lead to another customer's database"
        )
    if known["name"] != identity.database and await connection.fetchval(
        "SELECT EXISTS (SELECT FROM tenantry.placement WHERE database = $1)", known["name"]
    ):
        raise ConfigError(
            f"this database is called {known['name']}, not {identity.database}, and has tenants; "
            "check the DSN, or keep the name"
        )


async def _write_identity(
    connection: Any, identity: Identity, kind: Kind, tenant: str | None, key: bytes | None
) -> None:
    if key is not None:
        await connection.execute(
            "INSERT INTO tenantry.secret (inner_pad, outer_pad) VALUES ($1, $2) "
            "ON CONFLICT (singleton) DO UPDATE "
            "SET inner_pad = excluded.inner_pad, outer_pad = excluded.outer_pad",
            *pads(key),
        )
    await connection.execute(
        "INSERT INTO tenantry.database_identity AS i (name, kind, setting, id_type, tenant, hardened) "
        "VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (singleton) DO UPDATE "
        "SET name = excluded.name, kind = excluded.kind, setting = excluded.setting, "
        "tenant = coalesce(excluded.tenant, i.tenant), hardened = excluded.hardened",
        identity.database,
        kind.value,
        identity.setting,
        identity.id_type.value,
        tenant,
        key is not None,
    )


async def _apply_functions(connection: Any, side: str, form: Form, identity: Identity | None) -> list[str]:
    """Replace the functions, those too that have not changed: somebody may have. Says so where they are new."""
    try:
        text, mark = script(form, identity), checksum(form, identity)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    await connection.execute(text)
    new = await connection.fetchval(
        "INSERT INTO tenantry.function_set AS f (side, form, checksum) VALUES ($1, $2, $3) "
        "ON CONFLICT (side) DO UPDATE "
        "SET form = excluded.form, checksum = excluded.checksum, installed_at = now() "
        "WHERE (f.form, f.checksum) IS DISTINCT FROM (excluded.form, excluded.checksum) RETURNING 1",
        side,
        form.value,
        mark,
    )
    return [f"{side} functions {form.value} {mark}"] if new else []
