"""Bulk load into a table under row-level security, into which PostgreSQL refuses COPY FROM.

The rows are staged by COPY in a temporary table of the same columns, and go from there to the table by one INSERT,
which the policies check row by row. So a load has what INSERT has (defaults, identity, generated columns, domains,
partitions, triggers) and all of it is visible at the scope's COMMIT, as a whole. Loads of one tenant take turns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from hashlib import sha256
from typing import Any

import asyncpg

from tenantry import sql
from tenantry.runtime.locks import LOADING
from tenantry.runtime.sqltext import identifier

#: Runs a method of the scope's asyncpg connection, metered.
Run = Callable[..., Awaitable[Any]]


async def load(
    run: Run,
    method: str,
    table_name: str,
    *,
    columns: Iterable[str] | None,
    schema_name: str | None,
    **options: Any,
) -> str:
    """Load as asyncpg's `method`, "copy_records_to_table" or "copy_to_table", would; its answer is "COPY 3".

    Needs what INSERT needs, and the privilege to make temporary tables, which PostgreSQL gives everybody at first.
    """
    target = (
        identifier(table_name) if schema_name is None else f"{identifier(schema_name)}.{identifier(table_name)}"
    )
    there = {row["name"]: row for row in await run("fetch", sql.query("router/load_columns"), target)}
    names = [name for name, row in there.items() if not row["generated"]] if columns is None else list(columns)
    for name in names:
        if name not in there:
            raise asyncpg.UndefinedColumnError(f'column "{name}" of relation "{table_name}" does not exist')
    # No NOT NULL, no default, no identity: the INSERT into the table has them. A name of its own for each shape,
    # because asyncpg keeps statements over it prepared.
    staged = ", ".join(f"{identifier(name)} {there[name]['type']}" for name in names)
    staging = f"tenantry_load_{sha256(f'{target} {staged}'.encode()).hexdigest()[:16]}"
    await run(
        "execute",
        f"SELECT pg_advisory_xact_lock({LOADING}, hashtext(tenantry.current_tenant()::text)); "
        f"DROP TABLE IF EXISTS pg_temp.{staging}; CREATE TEMPORARY TABLE {staging} ({staged}) ON COMMIT DROP",
    )
    await run(method, staging, schema_name="pg_temp", columns=names, **options)
    listed = ", ".join(identifier(name) for name in names)
    # OVERRIDING: COPY writes the values that it is given into identity columns, so a load does too.
    done = await run(
        "execute",
        f"INSERT INTO {target} ({listed}) OVERRIDING SYSTEM VALUE "  # noqa: S608  (names, quoted)
        f"SELECT {listed} FROM pg_temp.{staging}",
    )
    await run("execute", f"DROP TABLE pg_temp.{staging}")
    return f"COPY {str(done).rpartition(' ')[2]}"
