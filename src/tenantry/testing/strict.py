"""What a product's code must not do behind the router's back: scopes left open, queries outside of scopes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tenantry.catalog.read import read
from tenantry.catalog.tables import tenant_tables
from tenantry.router import TenantRouter
from tenantry.router.waiter import Waiter
from tenantry.runtime.sqltext import identifier, literal
from tenantry.testing.leftovers import ScopeLeftOpen, run_alone
from tenantry.testing.product import Product

#: Of the schema that watches, and of its policies. It is there while `only_in_scopes` is entered.
_WATCH: Final = "tenantry_testing"
# Compared with a column, a stable function is asked by the planner, which wants to know how many rows there are:
# so empty tables are watched too. (As a condition of its own it is asked for each row that an index has found.)
# The counter is a sequence because a sequence keeps what a transaction that is rolled back has counted.
_FUNCTION: Final = """
DROP SCHEMA IF EXISTS {watch} CASCADE;  -- of a test that was broken off
CREATE SCHEMA {watch};
GRANT USAGE ON SCHEMA {watch} TO {role};
CREATE FUNCTION {watch}.tenant(relation text, counter regclass) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF concat(current_setting('tenantry.bound', true), current_setting('tenantry.proof', true)) <> '' THEN
        RETURN current_setting({setting}, true);
    END IF;
    IF NOT current_setting('transaction_read_only')::boolean THEN
        PERFORM nextval(counter);
    END IF;
    RAISE EXCEPTION 'a query on % outside a tenant''s scope', relation
        USING ERRCODE = 'insufficient_privilege',
              HINT = 'Ask the router for the tenant''s connection: async with router.tenant(id) as conn.';
END
$$;
CREATE FUNCTION {watch}.before_insert() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_user = {role_name} THEN
        PERFORM {watch}.tenant(TG_ARGV[0], TG_ARGV[1]::regclass);
    END IF;
    RETURN NULL;
END
$$;
"""
# Policies are asked in the order of their names, and of INSERT the restrictive ones last: a row would be said to
# violate another policy.
_TABLE: Final = """
CREATE SEQUENCE {counter};
GRANT USAGE ON SEQUENCE {counter} TO {role};
CREATE POLICY "0 {watch}" ON {table} AS RESTRICTIVE TO {role}
    USING ({column}::text = {watch}.tenant({name}, {literal}));
CREATE TRIGGER "0 {watch}" BEFORE INSERT ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION {watch}.before_insert({name}, {literal});
"""


class QueryOutsideScope(AssertionError):
    """Queries on tenant tables ran as the application role without a tenant's scope.

    Attributes:
        tables: `schema.table` -> how many, at least.
    """

    def __init__(self, tables: dict[str, int]) -> None:
        self.tables = tables
        shown = ", ".join(f"{count} on {table}" for table, count in tables.items())
        super().__init__(
            f"queries outside a tenant's scope: {shown}. Each was refused where it ran, and the error was lost: "
            "ask the router for the tenant's connection instead of opening one"
        )


@asynccontextmanager
async def no_scope_left_open(router: TenantRouter, *, grace: float = 1.0) -> AsyncIterator[None]:
    """At the end of the block every scope that was entered in it is left.

    Scopes that were open before don't count. Of a block that raises, only its own error is told.

    Args:
        grace: seconds that a scope which is just ending, in another task, may take.

    Raises:
        ScopeLeftOpen: otherwise.
    """
    before = {waiter for _, waiter in _open(router)}
    yield
    left = [(database, waiter) for database, waiter in _open(router) if waiter not in before]
    deadline = router.loop.time() + grace
    while left and router.loop.time() < deadline:
        await asyncio.sleep(0.005)
        open_now = {waiter for _, waiter in _open(router)}
        left = [(database, waiter) for database, waiter in left if waiter in open_now]
    if left:
        raise ScopeLeftOpen(tuple(_told(database, waiter) for database, waiter in left))


def _open(router: TenantRouter) -> Iterator[tuple[str, Waiter]]:
    for name, pool in router.pools.open_pools().items():
        for waiter in pool.holders():
            yield name, waiter


def _told(database: str, waiter: Waiter) -> str:
    """Whose scope it is, and who has entered it."""
    task = waiter.task
    if task is None:
        return f"tenant {waiter.tenant} on {database}"
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", None) or repr(coroutine)
    where = "has ended"
    if not task.done():
        frame = next(iter(task.get_stack(limit=1)), None)
        where = "is running" if frame is None else f"is at {frame.f_code.co_filename}:{frame.f_lineno}"
    return f"tenant {waiter.tenant} on {database}, entered by {name} ({task.get_name()}), which {where}"


@asynccontextmanager
async def only_in_scopes(product: Product) -> AsyncIterator[None]:
    """In the block every query of the application role on a tenant table runs in a tenant's scope.

    One outside fails where it runs, instead of finding nothing (SQLSTATE 42501, on an empty table too). One whose
    error the product's code has swallowed is told at the end, unless its transaction was read-only. A scope is
    what `tenantry.bind` has opened: a setting that the code has set itself is none. What bypasses row-level
    security (the owner, operators' scopes) is not seen.

    The tables get policies for the time of the block, so no transaction may hold them at its beginning and end. Of
    a block that raises, only its own error is told.

    Raises:
        QueryOutsideScope: otherwise.
        ScopeLeftOpen: a transaction still held a table, and was cut off.
        RuntimeError: it is entered on this product already.
    """
    if product.watched:
        raise RuntimeError("only_in_scopes is entered on this product already; `tenantry_strict` enters it")
    product.watched = True
    try:
        counters, left = await _watch(product)
        try:
            yield
        finally:
            found, still = await _unwatch(product, counters)
    finally:
        product.watched = False
    if found:
        raise QueryOutsideScope(found)
    if left or still:
        raise ScopeLeftOpen((*left, *still))


async def _watch(product: Product) -> tuple[dict[str, str], tuple[str, ...]]:
    """The counters that were made, by table; and what was cut off."""
    role = identifier(product.role)
    counters: dict[str, str] = {}
    async with product.server.connect(product.database) as owner:
        catalog = await read(owner)
        script = [
            _FUNCTION.format(
                watch=_WATCH, role=role, role_name=literal(product.role), setting=literal(product.tenancy.setting)
            )
        ]
        for oid, column in tenant_tables(catalog, product.tenancy).tenants.items():
            relation = catalog.relations[oid]
            counters[relation.key] = counter = f"{_WATCH}.t{oid}"
            script.append(
                _TABLE.format(
                    watch=_WATCH,
                    role=role,
                    counter=counter,
                    table=relation.sql,
                    column=identifier(column.name),
                    name=literal(relation.key),
                    literal=literal(counter),
                )
            )
        return counters, await run_alone(owner, product.role, "".join(script))


async def _unwatch(product: Product, counters: dict[str, str]) -> tuple[dict[str, int], tuple[str, ...]]:
    """Take the policies away; what they have counted, by table, and what was cut off."""
    found: dict[str, int] = {}
    async with product.server.connect(product.database) as owner:
        for table, counter in counters.items():
            count = await _counted(owner, counter)
            if count:
                found[table] = count
        return found, await run_alone(owner, product.role, f"DROP SCHEMA {_WATCH} CASCADE")


async def _counted(owner: Any, counter: str) -> int:
    return int(await owner.fetchval(f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {counter}"))  # noqa: S608
