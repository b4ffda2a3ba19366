"""The target: its schema by pg_dump, its stamp, and the row that keeps it shut until the flip."""

from __future__ import annotations

from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from tenantry.directory import placements
from tenantry.errors import ConfigError, DatabaseUnavailable
from tenantry.ids import IdType, Kind
from tenantry.move.context import MoveContext
from tenantry.move.errors import MoveStopped
from tenantry.move.pg_dump import POST_DATA, PRE_DATA, dump
from tenantry.move.session import Connection, blaming, session
from tenantry.schema import install_data

_IN_MEMORY: Final = 8 * 2**20  # bytes of one table's rows; more goes by way of a file


async def install(context: MoveContext) -> None:
    """Give the target tenantry's schema, its name, its stamp, and the source's application roles."""
    async with (
        session(context.source, f"prepare {context.plan.id}") as source,
        session(context.target, f"prepare {context.plan.id}") as target,
    ):
        stamp = context.plan.tenant if context.target.kind is Kind.DEDICATED else None
        hardened = await source.fetchval("SELECT hardened FROM tenantry.database_identity")
        try:
            await install_data(
                target,
                name=context.target.name,
                kind=context.target.kind,
                setting=context.plan.setting,
                id_type=IdType(context.plan.id_type),
                application_role=None,
                tenant=stamp,
                key=context.target.key if hardened else None,
            )
        except (ConfigError, DatabaseUnavailable) as error:  # another database than planned, or its tables in use
            raise MoveStopped(context.plan.id, f"{context.target.name}: {error}") from error
        rows = await source.fetch(
            "SELECT DISTINCT r.rolname::text AS role FROM pg_proc AS p, aclexplode(p.proacl) AS a "
            "JOIN pg_roles AS r ON r.oid = a.grantee "
            "WHERE p.pronamespace = 'tenantry'::regnamespace AND p.proname = 'bind' AND a.grantee <> p.proowner "
            "AND a.privilege_type = 'EXECUTE'"
        )
        for row in rows:
            if await target.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", row["role"]):
                await target.execute("SELECT tenantry.grant_application($1)", row["role"])


async def write_closed_placement(context: MoveContext) -> None:
    """Write the tenant's placement at the target: it lives in the source."""
    plan = context.plan
    async with (
        session(context.source, f"guard {plan.id}") as source,
        session(context.target, f"guard {plan.id}") as target,
    ):
        placed = await placements.read(source, plan.tenant)
        suspended = placed is not None and placed.suspended
        if not await placements.close(target, plan.tenant, plan.source, plan.epoch, suspended):
            raise MoveStopped(plan.id, f"{plan.target} knows another placement of tenant {plan.tenant} already")


async def load(context: MoveContext, section: str) -> None:
    """Load a section of the source's schema, once: all of it or nothing."""
    plan = context.plan
    if not plan.load_schema:
        return
    async with session(context.target, f"schema {plan.id}") as target:
        loaded = "SELECT 1 FROM tenantry.move_loaded WHERE move = $1 AND section = $2"
        if await target.fetchval(loaded, plan.id, section):
            return
        await context.journal.record_intent(plan.id, plan.target, "schema", section)
        if context.pg_dump is None:
            raise MoveStopped(plan.id, "no pg_dump was found for the source's version")
        text = await dump(context.pg_dump, context.source, section)
        async with target.transaction():
            await target.execute("SET LOCAL maintenance_work_mem = '256MB'")
            with blaming(context.target):
                await target.execute(text)
                if section == PRE_DATA:
                    await _copy_once(context, target)
                if section == POST_DATA:
                    await _refresh(context, target)
            await target.execute("SET search_path = pg_catalog; RESET check_function_bodies")
            await target.execute("INSERT INTO tenantry.move_loaded VALUES ($1, $2)", plan.id, section)


async def _copy_once(context: MoveContext, target: Connection) -> None:
    """Bring the rows of what a migration tool keeps: with the schema that they describe, in its transaction."""
    async with session(context.source, f"schema {context.plan.id}") as source:
        for table in context.plan.once:
            name, schema, columns = table.name, table.schema, table.columns
            with cast(BinaryIO, SpooledTemporaryFile(max_size=_IN_MEMORY)) as rows:
                await source.copy_from_table(name, schema_name=schema, columns=columns, output=rows)
                rows.seek(0)
                await target.copy_to_table(name, schema_name=schema, columns=columns, source=rows)
            for column in columns:
                counter = await source.fetchval("SELECT pg_get_serial_sequence($1, $2)", table.quoted, column)
                if counter is not None:  # so that the tool's next row gets the next number there too
                    last, called = (await source.fetch(f"SELECT last_value, is_called FROM {counter}"))[0]  # noqa: S608  quoted
                    await target.execute("SELECT setval($1::text::regclass, $2, $3)", counter, last, called)


async def _refresh(context: MoveContext, target: Connection) -> None:
    """Fill the materialized views that are filled at the source: a dump brings them empty, not to be read."""
    view = (
        "format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    )
    async with session(context.source, f"schema {context.plan.id}") as source:
        rows = await source.fetch(f"SELECT {view} WHERE c.relkind = 'm' AND c.relispopulated")
    filled = {row[0] for row in rows}
    empty = f"SELECT {view} WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid"
    for row in await target.fetch(empty):  # in the order in which they were made: one may read another
        if row[0] in filled:
            await target.execute(f"SET LOCAL row_security = on; REFRESH MATERIALIZED VIEW {row[0]}")
