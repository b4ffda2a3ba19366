"""A database that an earlier release made is upgraded, and serves an old and a new router at once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from tenantry import Config, Router
from tenantry.embedded import EmbeddedServer
from tenantry.errors import DatabaseUnavailable
from tenantry.ids import IdType
from tenantry.proof import bind_proof, enroll_proof
from tenantry.schema import Form, Identity, install
from tenantry.schema.rendering import functions
from tests.integration.schema.conftest import KEY, LEFT, NEW, ROLE, SECRET, SUSPENDED, A, made_by_release_0
from tests.support.databases import drop_database, new_database
from tests.support.installing import make_control, make_data

NOTES = "SELECT text FROM note"


async def upgrade(admin: Any, *, hardened: bool = False) -> list[str]:
    """What `tenantry init` does, control and data."""
    return await make_control(admin) + await make_data(admin, ROLE, key=KEY if hardened else None)


def dsn(pg: EmbeddedServer, admin: Any, user: str) -> str:
    return pg.dsn(admin._params.database, user=user)


class OldRouter:
    """The messages of the earlier release's router, letter for letter."""

    def __init__(self, connection: Any, hardened: bool) -> None:
        self.connection = connection
        self.hardened = hardened

    def _proof(self, tenant: str) -> str:
        backend = self.connection.get_server_pid()
        return f", '{bind_proof(KEY, backend, tenant)}'" if self.hardened else ""

    async def notes(self, tenant: str, begin: str = "BEGIN") -> list[str]:
        """A scope of one query."""
        try:
            await self.connection.execute(f"{begin}; CALL tenantry.enter('{tenant}'{self._proof(tenant)})")
            return [row["text"] for row in await self.connection.fetch(NOTES)]
        finally:
            await self.connection.execute("ROLLBACK; RESET ALL")

    async def bound(self, tenant: str) -> str:
        """A scope by the function."""
        try:
            await self.connection.execute(f"BEGIN; SELECT tenantry.bind('{tenant}'{self._proof(tenant)})")
            found: str = await self.connection.fetchval("SELECT tenantry.current_tenant()::text")
            return found
        finally:
            await self.connection.execute("ROLLBACK; RESET ALL")

    async def enroll(self, tenant: str, epoch: int) -> None:
        """A sign-up."""
        backend = self.connection.get_server_pid()
        proof = enroll_proof(KEY, backend, tenant, epoch) if self.hardened else None
        await self.connection.execute("SELECT tenantry.enroll($1, $2, $3)", tenant, epoch, proof)


@asynccontextmanager
async def old_router(pg: EmbeddedServer, admin: Any, hardened: bool) -> AsyncIterator[OldRouter]:
    connection = await asyncpg.connect(dsn(pg, admin, ROLE), statement_cache_size=0)
    try:
        yield OldRouter(connection, hardened)
    finally:
        await connection.close()


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_an_old_and_a_new_router_serve_an_upgraded_database_at_once(
    pg: EmbeddedServer, admin: Any, hardened: bool
) -> None:
    await made_by_release_0(admin, hardened=hardened)
    async with old_router(pg, admin, hardened) as old:
        assert await old.notes(A) == ["mine"]
        assert await upgrade(admin, hardened=hardened)
        for begin in ("BEGIN", "BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN READ ONLY"):
            assert await old.notes(A, begin) == ["mine"]
        assert await old.bound(A) == A
        await old.enroll(NEW, 1)
        assert await old.notes(NEW) == []
        await old.enroll(LEFT, 2)
        with pytest.raises(asyncpg.PostgresError) as left:
            await old.notes(LEFT)
        assert left.value.sqlstate == "TN001"
        assert json.loads(left.value.detail or "") == {"home": "acme", "epoch": 2}
        with pytest.raises(asyncpg.PostgresError) as suspended:
            await old.notes(SUSPENDED)
        assert suspended.value.sqlstate == "TN003"
        async with Router.open(config(pg, admin, hardened), metrics=False) as router:
            tenant, another = IdType.UUID.parse(A), IdType.UUID.parse(A[:-1] + "9")
            assert await router.fetchval(tenant, NOTES) == "mine"
            await router.add_tenant(another)
            await router.execute(another, "INSERT INTO note VALUES ($1, 'new')", another)
            assert await old.notes(str(another)) == ["new"]
            assert await old.notes(A) == ["mine"]


def config(pg: EmbeddedServer, admin: Any, hardened: bool) -> Config:
    return Config.parse(
        {
            "tenancy": {"type": "uuid", **({"hardened": True, "secret": SECRET} if hardened else {})},
            "control": {"dsn": dsn(pg, admin, "postgres")},
            "databases": {"shared": {"kind": "shared", "dsn": dsn(pg, admin, ROLE)}},
            "usage": {"record": False},
        }
    )


async def test_a_second_upgrade_changes_nothing_and_says_so(admin: Any) -> None:
    await made_by_release_0(admin, hardened=False)
    first = await upgrade(admin)
    assert any("functions" in line for line in first)
    assert await upgrade(admin) == []


async def test_an_upgrade_that_fails_leaves_the_database_as_it_was(admin: Any) -> None:
    await made_by_release_0(admin, hardened=False)
    before = await facts(admin)
    await admin.execute("INSERT INTO tenantry.placement VALUES ($1, 'shared', 1)", NEW)
    with pytest.raises(Exception, match="is called shared"):
        await make_data(admin, ROLE, name="other")
    assert await facts(admin) == before


async def test_an_upgrade_gives_up_rather_than_keep_scopes_waiting_behind_a_long_one(
    pg: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "LOCK_TIMEOUT", 50)
    monkeypatch.setattr(install, "PAUSE", 0.0)
    await made_by_release_0(admin, hardened=False)
    await make_control(admin)
    before = await facts(admin)
    async with old_router(pg, admin, False) as long, old_router(pg, admin, False) as other:
        await long.connection.execute(f"BEGIN; CALL tenantry.enter('{A}')")
        with pytest.raises(DatabaseUnavailable, match="transactions that run for long"):
            await upgrade(admin)
        assert await facts(admin) == before
        assert await other.notes(A) == ["mine"]
        assert await long.connection.fetchval(NOTES) == "mine"
        await long.connection.execute("COMMIT")
        assert await upgrade(admin)
        assert await long.notes(A) == ["mine"]


@pytest.mark.parametrize("form", [Form.PLAIN, Form.HARDENED])
async def test_what_psql_shows_of_a_function_is_what_its_golden_file_has(admin: Any, form: Form) -> None:
    await admin.execute(f"GRANT ALL ON SCHEMA public TO {ROLE}")
    await make_data(admin, ROLE, key=KEY if form is Form.HARDENED else None)
    rows = await admin.fetch(
        "SELECT proname, prosrc FROM pg_proc WHERE pronamespace = 'tenantry'::regnamespace ORDER BY 1, 2"
    )
    bodies = [
        (signature.partition("(")[0], text.split("$$")[1])
        for signature, text in functions(form, Identity("shared", "app.current_tenant", IdType.UUID)).items()
    ]
    assert [tuple(row) for row in rows] == sorted(bodies)


async def test_an_upgraded_database_is_as_a_new_one(pg: EmbeddedServer, admin: Any) -> None:
    await made_by_release_0(admin, hardened=False)
    await upgrade(admin)
    fresh = new_database(pg)
    try:
        new = await asyncpg.connect(pg.dsn(fresh))
        try:
            await upgrade(new)
            assert await facts(admin) == await facts(new)
        finally:
            await new.close()
    finally:
        drop_database(pg, fresh)


async def facts(connection: Any) -> dict[str, list[tuple[Any, ...]]]:
    """The schema, as the catalogs have it."""
    queries = {
        "columns": "SELECT relname, attname, format_type(atttypid, atttypmod), attnotnull, "
        "pg_get_expr(adbin, adrelid) FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = attrelid "
        "LEFT JOIN pg_attrdef AS d ON d.adrelid = attrelid AND d.adnum = attnum "
        "WHERE relnamespace = 'tenantry'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped",
        "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'tenantry'::regnamespace AND contype <> 'n'",  # named by PostgreSQL 18 only
        "indexes": "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'tenantry'",
        "triggers": "SELECT pg_get_triggerdef(t.oid), tgenabled::text FROM pg_trigger AS t "
        "JOIN pg_class AS c ON c.oid = tgrelid WHERE relnamespace = 'tenantry'::regnamespace AND NOT tgisinternal",
        "functions": "SELECT pg_get_functiondef(oid), proacl::text FROM pg_proc "
        "WHERE pronamespace = 'tenantry'::regnamespace",
    }
    return {
        what: sorted((tuple(row) for row in await connection.fetch(query)), key=repr)
        for what, query in queries.items()
    }
