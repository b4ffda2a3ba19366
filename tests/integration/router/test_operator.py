"""The operator's scope: a role of its own, a reason, and a record of who, when, why and how long."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import asyncpg
import pytest

from tenantry import Router
from tenantry.embedded import EmbeddedServer
from tenantry.errors import ConfigError, DatabaseUnavailable, OperatorScopeLost
from tenantry.ids import TenantId
from tests.support.product import OPERATOR, Product, product_on
from tests.support.proxy import Proxy, Verdict


async def last_event(product: Product) -> dict[str, object]:
    async with product.admin() as admin:
        row = await admin.fetchrow("SELECT * FROM tenantry.event WHERE kind = 'operator' ORDER BY id DESC LIMIT 1")
    return {**dict(row), "detail": json.loads(row["detail"])} if row is not None else {}


async def test_an_operator_sees_every_tenant_and_is_recorded_with_reason_and_duration(pg: EmbeddedServer) -> None:
    with product_on(pg) as product:
        async with product.open() as router:
            for tenant in await product.signed_up(router, 2):
                await router.execute(tenant, "INSERT INTO students (name) VALUES ('x')")
            async with router.operator(reason="monthly invoices", actor="ada") as conn:
                assert await conn.fetchval("SELECT count(DISTINCT tenant_id) FROM students") == 2
                before = await last_event(product)
                assert before["detail"] == {}, "it is recorded before the connection is handed out"
        event = await last_event(product)
    assert event["reason"] == "monthly invoices"
    assert str(event["actor"]).endswith("ada")
    assert event["database"] == "shared"
    detail = event["detail"]
    assert isinstance(detail, dict)
    assert detail["outcome"] == "commit"
    assert detail["seconds"] > 0


async def test_an_operators_error_rolls_back_and_the_record_says_so(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.open() as router:
            [tenant] = await product.signed_up(router)
            with pytest.raises(RuntimeError, match="on purpose"):
                await fail_after_writing(router, tenant)
            assert await router.fetchval(tenant, "SELECT count(*) FROM students") == 0
        detail = (await last_event(product))["detail"]
        assert isinstance(detail, dict)
        assert detail["outcome"] == "rollback"


async def fail_after_writing(router: Router, tenant: TenantId) -> None:
    async with router.operator(reason="bulk load") as conn:
        await conn.execute("INSERT INTO students (tenant_id, name) VALUES ($1, 'x')", tenant)
        raise RuntimeError("on purpose")


async def test_an_operator_without_a_reason_a_role_or_a_record_is_refused(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with product.open() as router:
            with pytest.raises(ValueError, match="reason"):
                async with router.operator(reason="  "):
                    pass
        async with product.open(shared={"operator_dsn": None}) as router:
            with pytest.raises(ConfigError, match="operator_dsn"):
                async with router.operator(reason="why not"):
                    pass
        nowhere = pg18.dsn("no_such_database")
        async with product.open(control={"dsn": nowhere}) as router:
            with pytest.raises(DatabaseUnavailable, match="control"):
                async with router.operator(reason="nobody would know"):
                    pass


async def test_an_operators_role_that_row_security_filters_is_refused_with_the_statement_that_fixes_it(
    pg: EmbeddedServer,
) -> None:
    """It owns nothing and bypasses nothing: it would see no rows, and no error."""
    with product_on(pg) as product:
        role = f'Reports "{product.database}"'
        quoted = '"' + role.replace('"', '""') + '"'
        async with product.admin() as admin:
            await admin.execute(
                f"CREATE ROLE {quoted} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {quoted}"
            )
            try:
                dsn = pg.dsn(product.database, user=role)
                async with product.open(shared={"operator_dsn": dsn}) as router:
                    [tenant] = await product.signed_up(router)
                    await router.execute(tenant, "INSERT INTO students (name) VALUES ('x')")
                    with pytest.raises(ConfigError, match="row-level security applies to it") as refused:
                        async with router.operator(reason="invoices"):
                            pass
                    fix = str(refused.value).split("`")[1]
                    await admin.execute(fix)
                    async with router.operator(reason="invoices") as conn:
                        assert await conn.fetchval("SELECT count(*) FROM students") == 1
            finally:
                await admin.execute(f"DROP OWNED BY {quoted}; DROP ROLE {quoted}")


async def test_an_owner_without_bypassrls_is_refused_as_an_operator_although_tables_are_its_own(
    pg18: EmbeddedServer,
) -> None:
    """FORCE makes the owner subject to the policies too. A table that it forgot to force is no way round."""
    with product_on(pg18) as product:
        role = f"owner_{product.database}"
        async with product.admin() as admin:
            await admin.execute(f"CREATE ROLE {role} LOGIN; ALTER TABLE students OWNER TO {role}")
            try:
                async with product.open(shared={"operator_dsn": pg18.dsn(product.database, user=role)}) as router:
                    with pytest.raises(ConfigError, match=f"ALTER ROLE {role} BYPASSRLS"):
                        async with router.operator(reason="invoices"):
                            pass
            finally:
                await admin.execute("ALTER TABLE students OWNER TO CURRENT_USER")
                await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_role_that_row_security_filters_fails_loudly_inside_an_operators_scope_too(
    pg18: EmbeddedServer,
) -> None:
    with product_on(pg18) as product:
        role = f"plain_{product.database}"
        async with product.admin() as admin:
            await admin.execute(
                f"CREATE ROLE {role} NOLOGIN; GRANT SELECT ON students TO {role}; GRANT {role} TO {OPERATOR}"
            )
            try:
                async with product.open() as router, router.operator(reason="invoices") as conn:
                    await conn.execute(f"SET LOCAL ROLE {role}")
                    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                        async with conn.transaction():
                            await conn.fetchval("SELECT count(*) FROM students")
            finally:
                await admin.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def told_by(router: Router, *statements: str, over_all: bool = False) -> str:
    """What an operator is told who does these, swallows the server's errors, and leaves the scope politely."""

    async def work(conn: Any) -> None:
        for statement in statements:
            with contextlib.suppress(asyncpg.PostgresError):
                await conn.execute(statement)

    try:
        if over_all:
            async with router.operators(reason="x") as databases:
                async for _, conn in databases:
                    await work(conn)
        else:
            async with router.operator(reason="x") as conn:
                await work(conn)
    except OperatorScopeLost as error:
        return error.reason
    return "committed"


@pytest.mark.parametrize("over_all", [False, True], ids=["operator", "operators"])
@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (("SELECT 1/0",), "failed"),
        (("ROLLBACK",), "ended"),
        (("ROLLBACK", "BEGIN"), "ended"),
        (("SAVEPOINT a", "SELECT 1/0", "ROLLBACK TO a"), "committed"),
    ],
)
async def test_an_operator_is_told_whether_its_work_is_committed_and_so_is_the_record(
    pg18: EmbeddedServer, over_all: bool, statements: tuple[str, ...], told: str
) -> None:
    with product_on(pg18) as product:
        async with product.admin() as admin, product.open() as router:
            [tenant] = await product.signed_up(router)
            insert = f"INSERT INTO students (tenant_id, name) VALUES ('{tenant}', 'x')"
            assert await told_by(router, insert, *statements, over_all=over_all) == told
            assert await admin.fetchval("SELECT count(*) FROM students") == (1 if told == "committed" else 0)
        assert (await last_event(product))["detail"]["outcome"] == (  # type: ignore[index]
            "commit" if told == "committed" else "rollback"
        )


async def test_an_operator_whose_commit_is_not_answered_is_recorded_as_unknown(pg18: EmbeddedServer) -> None:
    with product_on(pg18) as product:
        async with Proxy(pg18.host, pg18.port) as proxy, product.admin() as admin:
            dsn = proxy.dsn(pg18.dsn(product.database, user=OPERATOR))
            async with product.open(shared={"operator_dsn": dsn}) as router:
                [tenant] = await product.signed_up(router)
                proxy.stop_when(b"C\0\0\0\x0bCOMMIT", side="server", verdict=Verdict.RESET)
                with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                    await _insert(router, tenant)
            assert await admin.fetchval("SELECT count(*) FROM students") == 1
        assert (await last_event(product))["detail"]["outcome"] == "unknown"  # type: ignore[index]


async def _insert(router: Router, tenant: TenantId) -> None:
    async with router.operator(reason="x") as conn:
        await conn.execute("INSERT INTO students (tenant_id, name) VALUES ($1, 'x')", tenant)
