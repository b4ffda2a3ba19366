"""A move's fence holds for whoever writes past the routers; a table for which it would not is refused by name."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import asyncpg
import pytest

from tenantry.catalog.tenancy import Tenancy
from tenantry.embedded import EmbeddedServer
from tenantry.isolation.apply import adopt
from tenantry.move import MoveRefused, PreflightFinding, State
from tenantry.sql import query
from tests.support.estate import Estate
from tests.support.until import until

BOUND = "nullif(current_setting('app.current_tenant', true), '')::uuid"
#: Tables as a product has them that knew row-level security before tenantry: forced, with policies of its own.
PRODUCT = f"""
CREATE TABLE form (tenant_id uuid NOT NULL, op uuid NOT NULL, owner text DEFAULT 'ada',
    PRIMARY KEY (tenant_id, op));
CREATE TABLE jot (LIKE form INCLUDING ALL);
CREATE POLICY own ON jot USING (tenant_id = {BOUND});
CREATE TABLE task (LIKE form INCLUDING ALL);
CREATE POLICY users ON task USING (owner = current_setting('app.user', true));
CREATE TABLE chat (LIKE form INCLUDING ALL);
DROP TABLE form;
CREATE POLICY staff ON chat USING (tenant_id = {BOUND} OR current_setting('app.staff', true) = 'on');
DO $$ DECLARE name text; BEGIN
    FOREACH name IN ARRAY ARRAY['jot', 'task', 'chat'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO app', name);
    END LOOP;
END $$;
"""  # fmt: skip
TABLES = ("jot", "task", "chat")
LEVELS = ("", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")


async def adopted(estate: Estate, *, guard: bool = True) -> None:
    """The product's tables in the shared database, brought to the standard as `tenantry rls apply` does."""
    connection = await asyncpg.connect(estate.near.dsn(estate.shared))
    try:
        await connection.execute(PRODUCT)
        if guard:
            await adopt(connection, Tenancy(), role="app")
            kept = await connection.fetch(
                "SELECT policyname FROM pg_policies WHERE policyname IN ('own', 'users', 'staff')"
            )
            assert len(kept) == 3
    finally:
        await connection.close()


@dataclass
class Psql:
    """A session of the application role that knows no router: the setting, and nothing else."""

    estate: Estate
    table: str
    level: str
    """Of its transactions; empty: autocommit."""
    acknowledged: set[uuid.UUID] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    """SQLSTATEs."""

    async def write(self, database: str) -> None:
        """Insert until cancelled; remember what was acknowledged."""
        connection = await asyncpg.connect(self.estate.application_dsns()[database])
        try:
            await connection.execute(
                "SELECT set_config('app.current_tenant', $1, false), set_config('app.user', 'ada', false)",
                str(self.estate.tenant),
            )
            while True:
                op = uuid.uuid4()
                try:
                    if self.level:
                        await connection.execute(f"BEGIN ISOLATION LEVEL {self.level}")
                    await connection.execute(f"INSERT INTO {self.table} VALUES ($1, $2)", self.estate.tenant, op)
                    if self.level:
                        await connection.execute("COMMIT")
                    self.acknowledged.add(op)
                except asyncpg.PostgresError as error:
                    self.refused.append(error.sqlstate or "")
                    if self.level:
                        await connection.execute("ROLLBACK")
                await asyncio.sleep(0.002)
        finally:
            connection.terminate()


@contextlib.asynccontextmanager
async def writing(estate: Estate, database: str = "shared") -> AsyncIterator[Sequence[Psql]]:
    """Sessions that write into each table, at every level, as long as the block runs."""
    sessions = [Psql(estate, table, level) for table in TABLES for level in LEVELS]
    tasks = [asyncio.create_task(session.write(database)) for session in sessions]
    try:
        await until(
            lambda: all(one.acknowledged for one in sessions) or any(task.done() for task in tasks), seconds=30
        )
        assert not any(task.done() for task in tasks), [task for task in tasks if task.done()]
        yield sessions
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def compared(estate: Estate, database: str, sessions: Sequence[Psql]) -> None:
    """Every acknowledged write is in the tenant's home."""
    for table in TABLES:
        wanted = set().union(*(one.acknowledged for one in sessions if one.table == table))
        found = {row["op"] for row in await estate.fetch(database, f"SELECT op FROM {table}")}
        assert wanted <= found, f"{len(wanted - found)} acknowledged writes are not in {database}.{table}"


@pytest.fixture
async def estate15(pg15: EmbeddedServer) -> AsyncIterator[Estate]:
    made = await Estate.make(pg15, pg15)
    yield made
    made.drop()


async def _a_move_under_writers_past_the_router(estate: Estate) -> None:
    await adopted(estate)
    mover = estate.mover()
    async with writing(estate) as sessions:
        record = await mover.run(await mover.plan(estate.tenant, "acme"), print)
        assert record.state is State.FLIPPED
        await until(lambda: all("TN001" in session.refused for session in sessions), seconds=30)
    assert {code for session in sessions for code in session.refused} <= {"TN001", "TN002", "40001"}
    await compared(estate, "acme", sessions)
    async with writing(estate, "acme") as there:
        record = await mover.rollback(record.id)
        assert record.state is State.ROLLED_BACK
    await compared(estate, "shared", [*sessions, *there])


@pytest.mark.timeout(240)
async def test_no_write_past_the_routers_is_lost_in_a_move_and_back(estate: Estate) -> None:
    await _a_move_under_writers_past_the_router(estate)


@pytest.mark.timeout(240)
async def test_no_write_past_the_routers_is_lost_in_a_move_and_back_on_postgresql_15(estate15: Estate) -> None:
    await _a_move_under_writers_past_the_router(estate15)


async def _refusals(estate: Estate) -> list[PreflightFinding]:
    plan = await estate.mover().plan(estate.tenant, "acme")
    return [one for one in plan.findings if one.code == "no-guard"]


async def test_tables_without_a_guard_are_refused_by_name_and_the_printed_command_lets_them_move(
    estate18: Estate,
) -> None:
    await adopted(estate18, guard=False)
    found = await _refusals(estate18)
    assert [one.problem.split(" ")[0] for one in found] == ["public.chat", "public.jot", "public.task"]
    assert all(one.refuses and one.fix == "run `tenantry rls apply --database shared`" for one in found)
    with pytest.raises(MoveRefused, match=r"nothing was touched: .*public\.jot has no guard"):
        await estate18.mover().run(await estate18.mover().plan(estate18.tenant, "acme"))
    connection = await asyncpg.connect(estate18.near.dsn(estate18.shared))
    await adopt(connection, Tenancy(), role="app")
    await connection.close()
    assert await _refusals(estate18) == []


#: What was done to the table jot and its guard, and which table is refused for it.
UNGUARDED = {
    "no row-level security": ("ALTER TABLE jot DISABLE ROW LEVEL SECURITY", "public.jot"),
    "no row-level security, and one column to write": (
        "ALTER TABLE jot DISABLE ROW LEVEL SECURITY; REVOKE ALL ON jot FROM app;"
        "GRANT UPDATE (owner) ON jot TO app",
        "public.jot",
    ),
    "no guard": ("DROP POLICY tenantry_guard ON jot", "public.jot"),
    "a guard that is always true": ("ALTER POLICY tenantry_guard ON jot USING (true)", "public.jot"),
    "a guard with a way round": (
        "ALTER POLICY tenantry_guard ON jot USING (owner = 'x' OR (SELECT tenantry.admitted()))", "public.jot",
    ),
    "a proof with a way round": (
        "ALTER POLICY tenantry_guard ON jot USING "
        "(owner = 'x' OR (op IS NOT NULL AND coalesce(tenant_id = (SELECT tenantry.admitted_tenant()), false)))",
        "public.jot",
    ),
    "a guard that writes don't meet": ("ALTER POLICY tenantry_guard ON jot WITH CHECK (true)", "public.jot"),
    "a guard for some": ("ALTER POLICY tenantry_guard ON jot TO app", "public.jot"),
    "a guard that is permissive": (
        "DROP POLICY tenantry_guard ON jot;"
        "CREATE POLICY tenantry_guard ON jot USING ((SELECT tenantry.admitted()))",
        "public.jot",
    ),
    "one policy open beside an old one": (
        f"DROP POLICY tenantry_guard ON jot; DROP POLICY own ON jot; CREATE POLICY tenantry_tenant ON jot "
        f"USING (tenant_id = {BOUND} AND (SELECT tenantry.admitted()));"
        "CREATE POLICY more ON jot USING (owner = 'x')",
        "public.jot",
    ),
    "a partition": (
        "CREATE TABLE days (tenant_id uuid, at int, PRIMARY KEY (tenant_id, at)) PARTITION BY RANGE (at);"
        'CREATE TABLE "days One" PARTITION OF days FOR VALUES FROM (0) TO (9);'
        "ALTER TABLE days ENABLE ROW LEVEL SECURITY; CREATE POLICY g ON days AS RESTRICTIVE "
        'USING ((SELECT tenantry.admitted())); GRANT INSERT ON "days One" TO app',
        'public."days One"',
    ),
}  # fmt: skip
GUARDED = {
    "the policy of an earlier version": "DROP POLICY tenantry_guard ON jot; DROP POLICY own ON jot;"
    f"CREATE POLICY tenantry_tenant ON jot USING (tenant_id = {BOUND} AND (SELECT tenantry.admitted()))",
    "a hardened guard": "ALTER POLICY tenantry_guard ON jot USING "
    "(coalesce(tenant_id = (SELECT tenantry.admitted_tenant()), false))",
    "a hardened guard, rows of nobody": "ALTER POLICY tenantry_guard ON jot USING (coalesce(tenant_id = "
    "(SELECT tenantry.admitted_tenant()), tenant_id IS NULL AND (SELECT tenantry.admitted())))",
    "nobody but the owner may write": "DROP POLICY tenantry_guard ON jot;"
    "ALTER TABLE jot DISABLE ROW LEVEL SECURITY; REVOKE INSERT, UPDATE, DELETE ON jot FROM app",
    "nobody is let in": "DROP POLICY tenantry_guard ON jot; DROP POLICY own ON jot; CREATE POLICY none ON jot",
}


async def test_a_fence_that_would_not_hold_for_everybody_is_told_from_one_that_does(estate18: Estate) -> None:
    await adopted(estate18)
    connection = await asyncpg.connect(estate18.near.dsn(estate18.shared))

    async def found(done: str) -> list[str]:
        transaction = connection.transaction()
        await transaction.start()
        try:
            await connection.execute(done)
            names = await connection.fetch(
                "SELECT c.relname AS name FROM pg_class AS c WHERE c.relnamespace = 'public'::regnamespace "
                "AND c.relname IN ('jot', 'days')"
            )
            await connection.execute("SET LOCAL search_path = pg_catalog")
            rows = await connection.fetch(query("catalog/unguarded"), [f"public.{row['name']}" for row in names])
            return [row["table"] for row in rows]
        finally:
            await transaction.rollback()

    try:
        said = {what: await found(done) for what, (done, _) in UNGUARDED.items()}
        assert said == {what: [table] for what, (_, table) in UNGUARDED.items()}
        assert {what: await found(done) for what, done in GUARDED.items()} == {what: [] for what in GUARDED}
    finally:
        await connection.close()
