"""The guard on real servers: once for each statement, for everybody whom policies hold, in nobody else's way."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import asyncpg
import pytest

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.ids import IdType, Kind
from tenantry.isolation.apply import adopt, compute
from tenantry.isolation.attacks import probe
from tenantry.isolation.audit import audit
from tenantry.isolation.guard import Guard, guard_of, guard_sql
from tenantry.proof import bind_proof, database_key
from tenantry.runtime.sqltext import identifier
from tenantry.schema import install_data
from tests.integration.isolation.conftest import Connection, install

KEY = database_key("a secret of at least thirty-two bytes, for tests", "shared")
BIGINT = Tenancy(id_type=IdType.BIGINT)
BOUND = "nullif(current_setting('app.current_tenant', true), '')::bigint"
#: Ordinary, partitioned and inherited tables, with keys between them, and a view.
TABLES = """
CREATE TABLE person (tenant_id bigint NOT NULL, id int, name text DEFAULT 'x', PRIMARY KEY (tenant_id, id));
CREATE TABLE badge (tenant_id bigint NOT NULL, id int, person int, PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, person) REFERENCES person (tenant_id, id) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE day (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id)) PARTITION BY RANGE (id);
CREATE TABLE day_1 PARTITION OF day FOR VALUES FROM (0) TO (1000) PARTITION BY RANGE (id);
CREATE TABLE day_1_1 PARTITION OF day_1 FOR VALUES FROM (0) TO (1000);
CREATE TABLE thing (tenant_id bigint NOT NULL, id int, PRIMARY KEY (tenant_id, id));
CREATE TABLE tool (PRIMARY KEY (tenant_id, id)) INHERITS (thing);
CREATE VIEW people WITH (security_invoker = true) AS SELECT * FROM person;
INSERT INTO person SELECT t, n FROM generate_series(1, 2) AS t, generate_series(1, 100) AS n;
INSERT INTO badge SELECT tenant_id, id, id FROM person;
INSERT INTO day SELECT tenant_id, id FROM person; INSERT INTO thing SELECT tenant_id, id FROM person;
INSERT INTO tool SELECT tenant_id, id FROM person;
"""
NAMES = ("person", "badge", "day", "day_1", "day_1_1", "thing", "tool", "people")


async def made(connection: Connection, role: str, *, hardened: bool = False, sql: str = TABLES) -> Tenancy:
    """A database with two tenants, brought to the standard."""
    await install_data(
        connection,
        name="shared",
        kind=Kind.SHARED,
        setting="app.current_tenant",
        id_type=IdType.BIGINT,
        application_role=role,
        key=KEY if hardened else None,
    )
    await connection.execute(
        "INSERT INTO tenantry.placement (tenant, database, epoch) VALUES ('1', 'shared', 1), ('2', 'shared', 1)"
    )
    await connection.execute(sql)
    tenancy = Tenancy(id_type=IdType.BIGINT, hardened=hardened)
    await adopt(connection, tenancy, role=role)
    await connection.execute(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {identifier(role)}"
    )
    return tenancy


async def bind(connection: Connection, tenant: int, *, hardened: bool) -> None:
    if hardened:
        backend = await connection.fetchval("SELECT pg_backend_pid()")
        await connection.execute(
            "SELECT tenantry.bind($1, $2)", str(tenant), bind_proof(KEY, backend, str(tenant))
        )
    else:
        await connection.execute("SELECT tenantry.bind($1)", str(tenant))


@pytest.fixture
async def past(connection: Connection, role: str, dsn: Callable[[str], str]) -> AsyncIterator[Connection]:
    """A session of the application role as psql has it: no router, the setting for the whole session."""
    await made(connection, role)
    session = await asyncpg.connect(dsn(role))
    await session.execute("SET app.current_tenant = '1'")
    try:
        yield session
    finally:
        await session.close()


STATEMENTS = {
    "read": "SELECT count(*) FROM {}",
    "read by key": "SELECT * FROM {} WHERE id = 1",
    "insert": "INSERT INTO {} (tenant_id, id) VALUES (1, 700)",
    "upsert": "INSERT INTO {} (tenant_id, id) VALUES (1, 1) ON CONFLICT (tenant_id, id) DO UPDATE SET id = 1",
    "insert nothing new": "INSERT INTO {} (tenant_id, id) VALUES (1, 1) ON CONFLICT DO NOTHING",
    "update": "UPDATE {} SET id = id WHERE id = 1",
    "delete": "DELETE FROM {} WHERE id = 1",
    "lock": "SELECT * FROM {} WHERE id = 1 FOR UPDATE",
    "merge": "MERGE INTO {} AS t USING (SELECT 1) AS s ON t.id = 1 WHEN MATCHED THEN DELETE",
}  # fmt: skip
LEVELS: tuple[Literal["read_committed", "repeatable_read", "serializable"], ...] = (
    "read_committed",
    "repeatable_read",
    "serializable",
)


async def refusals(past: Connection, names: tuple[str, ...] = NAMES) -> set[str]:
    """The SQLSTATEs of every statement on every table and view, and of COPY, at every level; "": it ran."""
    codes = set()
    for level in LEVELS:
        for name in names:
            for what, text in STATEMENTS.items():
                if name == "people" and what in ("upsert", "insert nothing new", "merge"):
                    continue  # not every version has these for views
                transaction = past.transaction(isolation=level)
                await transaction.start()
                try:
                    await past.execute(text.format(name))
                    codes.add("")
                except asyncpg.PostgresError as error:
                    codes.add(error.sqlstate or "?")
                finally:
                    await transaction.rollback()
            try:
                await past.copy_from_query(f"SELECT * FROM {name}", output=lambda _: _nothing())
                codes.add("")
            except asyncpg.PostgresError as error:
                codes.add(error.sqlstate or "?")
    return codes


async def _nothing() -> None:
    return None


async def test_a_session_past_the_router_works_for_a_tenant_that_lives_here(past: Connection) -> None:
    assert await refusals(past) == {""}


async def test_the_fence_holds_every_statement_on_every_table_past_the_router(
    connection: Connection, past: Connection
) -> None:
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key('1'))")
        assert await refusals(past) == {"TN002"}
        await past.execute("SET app.current_tenant = '2'")
        assert await refusals(past, ("person",)) <= {"", "42501"}  # the other tenant notices nothing
        await past.execute("SET app.current_tenant = '1'")
    assert await refusals(past) == {""}


async def test_a_tenant_that_left_or_was_suspended_is_refused_past_the_router(
    connection: Connection, past: Connection
) -> None:
    await connection.execute("UPDATE tenantry.placement SET suspended = true WHERE tenant = '1'")
    assert await refusals(past) == {"TN003"}
    await connection.execute(
        "UPDATE tenantry.placement SET suspended = false, database = 'acme', epoch = 2 WHERE tenant = '1'"
    )
    assert await refusals(past) == {"TN001"}


async def test_a_move_waits_for_a_transaction_that_has_written_past_the_router(
    connection: Connection, past: Connection
) -> None:
    async with past.transaction():
        await past.execute("INSERT INTO person (tenant_id, id) VALUES (1, 800)")
        await connection.execute("SET lock_timeout = 100")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await connection.execute("SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key('1'))")
    await connection.execute("SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key('1'))")


async def test_without_a_tenant_everything_is_empty_and_nothing_fails(past: Connection) -> None:
    for state in ("RESET app.current_tenant", "SET app.current_tenant = ''"):
        await past.execute(state)
        for name in NAMES:
            assert await past.fetchval(f"SELECT count(*) FROM {name}") == 0
            assert await past.execute(f"DELETE FROM {name}") == "DELETE 0"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await past.execute("INSERT INTO person (tenant_id, id) VALUES (1, 900)")


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_keys_cascades_upserts_and_partitions_work_under_the_guard(
    connection: Connection, role: str, hardened: bool
) -> None:
    await made(connection, role, hardened=hardened)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
        await bind(connection, 1, hardened=hardened)
        await connection.execute("INSERT INTO person (tenant_id, id) VALUES (1, 500)")
        await connection.execute("INSERT INTO badge VALUES (1, 500, 500)")
        await connection.execute("UPDATE person SET id = 501 WHERE id = 500")  # cascades
        assert await connection.fetchval("SELECT person FROM badge WHERE id = 500") == 501
        await connection.execute("DELETE FROM person WHERE id = 501")
        assert await connection.fetchval("SELECT count(*) FROM badge WHERE id = 500") == 0
        upsert = "INSERT INTO person (tenant_id, id, name) VALUES (1, 1, 'y') ON CONFLICT (tenant_id, id)"
        assert await connection.fetchval(f"{upsert} DO UPDATE SET name = excluded.name RETURNING name") == "y"
        assert await connection.execute(f"{upsert} DO NOTHING") == "INSERT 0 0"
        for name in NAMES:
            assert await connection.fetchval(f"SELECT count(*) FROM {name}") in (
                100,
                200,
            )  # thing shows tool's too
            assert await connection.fetchval(f"SELECT count(*) FROM {name} WHERE tenant_id <> 1") == 0
        assert await connection.execute("DELETE FROM day") == "DELETE 100"
        await connection.execute("INSERT INTO day VALUES (1, 1)")
        for foreign in ("INSERT INTO day VALUES (2, 700)", "INSERT INTO day_1_1 VALUES (2, 700)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(foreign)
        with pytest.raises(asyncpg.ForeignKeyViolationError):
            async with connection.transaction():
                await connection.execute("INSERT INTO badge VALUES (1, 501, 999)")


async def test_roles_that_bypass_policies_work_as_before_while_a_tenant_is_fenced(
    connection: Connection, role: str, other_role: str, dsn: Callable[[str], str]
) -> None:
    await made(connection, role)
    await connection.execute(
        f"ALTER ROLE {identifier(other_role)} BYPASSRLS; "
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {identifier(other_role)}"
    )
    mover = await asyncpg.connect(dsn("postgres"))
    try:
        async with mover.transaction():
            await mover.execute("SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key('1'))")
            assert await mover.fetchval("SELECT count(*) FROM person") == 200
            async with connection.transaction():
                await connection.execute(f"SET LOCAL ROLE {identifier(other_role)}")
                assert await connection.fetchval("SELECT count(*) FROM person") == 200
                assert await connection.execute("UPDATE day SET id = id WHERE tenant_id = 1") == "UPDATE 100"
    finally:
        await mover.close()


ONCE = {
    "scan": "SELECT count(name) FROM person",
    "index": "SELECT * FROM person WHERE id < 90",
    "partitions": "SELECT count(*) FROM day",
    "view": "SELECT count(*) FROM people",
    "update": "UPDATE person SET name = 'z'",
    "insert": "INSERT INTO person (tenant_id, id) SELECT 1, 1000 + n FROM generate_series(1, 90) AS n",
    "upsert": "INSERT INTO person (tenant_id, id) SELECT 1, n FROM generate_series(1, 90) AS n "
    "ON CONFLICT (tenant_id, id) DO UPDATE SET name = 'u'",
    "delete": "DELETE FROM badge",
    "join": "SELECT count(*) FROM person JOIN badge ON badge.person = person.id",
}


def _plans(node: Any) -> list[dict[str, Any]]:
    return [node, *(found for child in node.get("Plans", ()) for found in _plans(child))]


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
@pytest.mark.parametrize("what", ONCE)
async def test_the_guard_is_asked_once_for_each_statement_not_for_each_row(
    connection: Connection, role: str, hardened: bool, what: str
) -> None:
    await made(connection, role, hardened=hardened)
    async with connection.transaction():
        await connection.execute("SET LOCAL track_functions = 'pl'")
        calls = "SELECT coalesce(sum(calls), 0) FROM pg_stat_xact_user_functions WHERE funcname LIKE 'admit%'"
        await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
        if hardened:
            await bind(connection, 1, hardened=True)
        else:
            await connection.execute("SET LOCAL app.current_tenant = '1'")  # no mark: the check is made
        before = await connection.fetchval(calls)
        explained = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {ONCE[what]}")
        called = await connection.fetchval(calls) - before
        loops = [
            plan["Actual Loops"]
            for plan in _plans(json.loads(explained)[0]["Plan"])
            if plan.get("Parent Relationship") == "InitPlan"
        ]
        # A table is asked about when it is read and when it is written; a plain check is two functions deep.
        assert loops, explained
        assert max(loops) == 1, explained
        assert 1 <= called <= 2 * len(loops)
        assert called <= 12, f"{called} calls for ninety rows and more"


#: The product's own policies, and whose rows a session that is bound to 1 sees, of those of 1, 2 and nobody.
KEPT = {
    "by the setting": (f"CREATE POLICY own ON t USING (tenant_id = {BOUND})", {1}),
    "by user": ("CREATE POLICY own ON t USING (owner = current_setting('app.who', true))", {1}),
    "by user, rows of nobody too": (
        "CREATE POLICY own ON t FOR SELECT USING (owner = current_setting('app.who', true));"
        f"CREATE POLICY ins ON t FOR INSERT WITH CHECK (tenant_id = {BOUND})", {1, None},
    ),
    "by staff": (
        f"CREATE POLICY own ON t USING (tenant_id = {BOUND} OR current_setting('app.staff', true) = 'on')", {1},
    ),
    "rows of nobody": (
        f"CREATE POLICY own ON t FOR SELECT USING (tenant_id = {BOUND} OR tenant_id IS NULL);"
        f"CREATE POLICY ins ON t FOR INSERT WITH CHECK (tenant_id = {BOUND})", {1, None},
    ),
    "open, held by one of its own": (
        f"CREATE POLICY own ON t USING (true); CREATE POLICY r ON t AS RESTRICTIVE USING (tenant_id = {BOUND})",
        {1},
    ),
    "opens unbound": (f"CREATE POLICY own ON t USING ({BOUND} IS NULL OR tenant_id = {BOUND})", {1}),
}  # fmt: skip
KEPT_TABLE = (
    "CREATE TABLE t (tenant_id bigint, id int, owner text); CREATE INDEX ON t (tenant_id);"
    "INSERT INTO t VALUES (1, 1, 'ada'), (2, 2, 'ada'), (NULL, 3, 'ada');"
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
)


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
@pytest.mark.parametrize("kept", KEPT)
async def test_a_products_own_policies_are_kept_and_the_guard_beside_them_holds_them_to_the_tenant(
    connection: Connection, role: str, kept: str, hardened: bool
) -> None:
    policies, seen = KEPT[kept]
    tenancy = await made(connection, role, hardened=hardened, sql=f"{KEPT_TABLE}{policies}")
    again = await compute(connection, tenancy, role=role)
    assert [step for step in again.steps if step.kind == "policy"] == []
    assert [item for item in again.undecided if item.topic == "policy"] == []
    codes = {finding.rule.code for finding in audit(await read(connection), tenancy, role=role).findings}
    assert codes <= {"TN203", "TN501", "TN502"}, codes
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
        await connection.execute("SET LOCAL app.who = 'ada'; SET LOCAL app.staff = 'on'")
        assert await connection.fetch("SELECT * FROM t") == []  # unbound
        await bind(connection, 1, hardened=hardened)
        assert {row[0] for row in await connection.fetch("SELECT tenant_id FROM t")} == seen
        for foreign in ("(2, 9, 'ada')", "(NULL, 9, 'ada')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with connection.transaction():
                    await connection.execute(f"INSERT INTO t VALUES {foreign}")
        await connection.execute("INSERT INTO t VALUES (1, 9, 'ada')")
        await connection.execute("DELETE FROM t; UPDATE t SET id = 0")
    left = {row[0] for row in await connection.fetch("SELECT tenant_id FROM t WHERE id > 0")}
    assert left >= {2, None}


@pytest.mark.parametrize("hardened", [False, True], ids=["plain", "hardened"])
async def test_a_policy_that_is_added_later_is_found_and_the_guard_is_strengthened(
    connection: Connection, role: str, hardened: bool
) -> None:
    tenancy = await made(connection, role, hardened=hardened)
    await connection.execute("CREATE POLICY users ON person USING (name = current_setting('app.who', true))")
    found = {finding.key for finding in audit(await read(connection), tenancy, role=role).findings}
    assert ("TN109 public.person.users" in found) is not hardened  # there the guard held it from the first
    await adopt(connection, tenancy, role=role)
    assert (await compute(connection, tenancy, role=role)).steps == ()
    found = {finding.key for finding in audit(await read(connection), tenancy, role=role).findings}
    assert "TN109 public.person.users" not in found
    async with connection.transaction():
        await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
        await connection.execute("SET LOCAL app.who = 'x'")
        await bind(connection, 1, hardened=hardened)
        assert {row[0] for row in await connection.fetch("SELECT tenant_id FROM person")} == {1}


async def test_the_probe_and_a_plain_audit_know_a_table_without_the_guard(
    connection: Connection, role: str
) -> None:
    tenancy = await made(connection, role)
    assert (await probe(connection, await read(connection), tenancy, role)).passed
    await connection.execute("DROP POLICY tenantry_guard ON person")
    catalog = await read(connection)
    broken = (await probe(connection, catalog, tenancy, role)).broken
    assert [(one.object, one.attack) for one in broken] == [("public.person", "past the fence")]
    (finding,) = [one for one in audit(catalog, tenancy, role=role).findings if one.rule.code == "TN116"]
    for statement in finding.fix:
        await connection.execute(statement)
    assert (await probe(connection, await read(connection), tenancy, role)).passed


@asynccontextmanager
async def oldest(
    pg15: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> AsyncIterator[tuple[Connection, str]]:
    """An administrator's connection to a database on PostgreSQL 15, and a role that may log in."""
    role = "oldest_guarded"
    connection = await asyncpg.connect(pg15.dsn(make_database(pg15)))
    try:
        await connection.execute(f"CREATE ROLE {role} LOGIN")
        yield connection, role
    finally:
        await connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")
        await connection.close()


async def test_a_guard_of_every_form_is_recognised_on_postgresql_15(
    pg15: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> None:
    async with oldest(pg15, make_database) as (connection, role):
        for hardened in (False, True):
            for kept, (policies, _) in KEPT.items():
                tenancy = await made(connection, role, hardened=hardened, sql=f"{KEPT_TABLE}{policies}")
                assert [s for s in (await compute(connection, tenancy, role=role)).steps] == [], kept
                await connection.execute("DROP TABLE t; TRUNCATE tenantry.placement")


@pytest.mark.parametrize("version", ["pg15", "pg16", "pg18"])
async def test_every_form_of_the_guard_on_every_type_of_column_is_told_from_every_other(
    request: pytest.FixtureRequest, version: str, make_database: Callable[[EmbeddedServer], str]
) -> None:
    server: EmbeddedServer = request.getfixturevalue(version)
    forms = [(guard, hardened) for guard in Guard for hardened in (False, True)]
    for id_type, column_types in {
        IdType.UUID: ("uuid", "text", "varchar(36)", "uuid_domain"),
        IdType.BIGINT: ("bigint", "integer", "smallint", "text", "varchar(40)"),
        IdType.TEXT: ("text", "varchar(20)"),
    }.items():
        connection = await asyncpg.connect(server.dsn(make_database(server)))
        try:
            await install(connection, id_type)
            await connection.execute("CREATE DOMAIN uuid_domain AS uuid")
            for number, column_type in enumerate(column_types):
                base = column_type.replace("varchar", "character varying").removesuffix("_domain")
                for guard, hardened in forms:
                    table = f'"T {number} {guard.name} {hardened}"'
                    await connection.execute(f'CREATE TABLE {table} ("Tenant Id" {column_type})')
                    tenancy = Tenancy(column="Tenant Id", id_type=id_type, hardened=hardened)
                    await connection.execute(
                        guard_sql("public", table.strip('"'), "Tenant Id", tenancy, guard, base)
                    )
            catalog = await read(connection)
            for oid, policies in catalog.policies.items():
                _, _, name, said = catalog.relations[oid].name.split(" ")
                tenancy = Tenancy(column="Tenant Id", id_type=id_type, hardened=said == "True")
                (column,) = catalog.columns[oid]
                (policy,) = policies
                wanted = Guard.BORDER if tenancy.hardened and name == "FENCE" else Guard[name]
                assert guard_of(policy, column.name, tenancy, column.type) is wanted, policy
                other = Tenancy(column="Tenant Id", id_type=id_type, hardened=not tenancy.hardened)
                assert guard_of(policy, column.name, other, column.type) is None, policy
            assert len(catalog.policies) == len(column_types) * len(forms)
        finally:
            await connection.close()


async def test_a_database_that_becomes_hardened_or_plain_again_gets_the_guards_of_its_mode(
    connection: Connection, role: str
) -> None:
    await made(connection, role)
    for hardened, word in ((True, "admitted_tenant()"), (False, "tenantry.admitted() AS")):
        tenancy = Tenancy(id_type=IdType.BIGINT, hardened=hardened)
        key = KEY if hardened else None
        await install_data(
            connection,
            name="shared",
            kind=Kind.SHARED,
            setting="app.current_tenant",
            id_type=IdType.BIGINT,
            application_role=role,
            key=key,
        )
        found = {
            f.object for f in audit(await read(connection), tenancy, role=role).findings if f.rule.code == "TN116"
        }
        assert found == {f"public.{name}" for name in NAMES if name != "people"}
        await adopt(connection, tenancy, role=role)
        assert (await compute(connection, tenancy, role=role)).steps == ()
        rows = await connection.fetch(
            "SELECT qual, with_check FROM pg_policies WHERE policyname = 'tenantry_guard'"
        )
        assert len(rows) == len(NAMES) - 1
        assert all(word in text for row in rows for text in row)
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {identifier(role)}")
            await bind(connection, 1, hardened=hardened)
            assert await connection.fetchval("SELECT count(*) FROM person") == 100


async def test_the_fence_holds_every_statement_past_the_router_on_postgresql_15(
    pg15: EmbeddedServer, make_database: Callable[[EmbeddedServer], str]
) -> None:
    async with oldest(pg15, make_database) as (admin, role):
        await made(admin, role)
        session = await asyncpg.connect(pg15.dsn(await admin.fetchval("SELECT current_database()"), role))
        try:
            assert await session.fetchval("SELECT count(*) FROM person") == 0
            await session.execute("SET app.current_tenant = '1'")
            assert await refusals(session) == {""}
            async with admin.transaction():
                await admin.execute("SELECT pg_advisory_xact_lock(tenantry.lock_space(), tenantry.lock_key('1'))")
                assert await refusals(session) == {"TN002"}
            await admin.execute("UPDATE tenantry.placement SET database = 'acme', epoch = 2 WHERE tenant = '1'")
            assert await refusals(session) == {"TN001"}
        finally:
            await session.close()
