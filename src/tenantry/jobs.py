"""Work without a request: nightly jobs over all tenants, and tasks of a queue.

A job without a tenant returns empty results and no error: so here the tenant is never implied. A task's message
carries the id, and a message without one raises.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from tenantry.errors import InvalidTenantId, TenantBusy
from tenantry.log_context import logged_as
from tenantry.router import ScopedConnection, TenantRouter

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[[ScopedConnection, Any], Awaitable[object]]
OnError = Callable[[Any, Exception], Awaitable[None] | None]

#: Attempts for a tenant whose live requests keep its queue full: the job can wait, they can not.
_ATTEMPTS: Final = 5


class JobReport(NamedTuple):
    """What became of a job over many tenants."""

    done: int
    """Tenants whose work was committed."""
    failed: dict[Any, Exception]
    """By tenant: the error that its work ended with. Nothing of it was committed."""

    def raise_failures(self) -> None:
        """Raise an ExceptionGroup of what failed, each error with a note of its tenant; else do nothing."""
        if self.failed:
            for tenant, error in self.failed.items():
                error.add_note(f"tenant {tenant}")
            raise ExceptionGroup(f"{len(self.failed)} tenants failed", list(self.failed.values()))


async def each_tenant(
    router: TenantRouter,
    work: Work,
    *,
    concurrency: int = 2,
    on_error: OnError | None = None,
    database: str | None = None,
    **options: Any,
) -> JobReport:
    """Run `await work(conn, tenant)` once for each active tenant, in a scope that commits at the work's end.

    One tenant's failure ends nobody else's work: it is collected. A tenant whose queue is full of live requests is
    tried again a little later. Every tenant's turn counts as its own use, so a job can't take more of a busy pool
    than the tenant's share. Cancelling the job rolls back the scopes that are open.

    Args:
        concurrency: tenants at once; each holds one connection.
        on_error: called with tenant and error as they come; may be async. What it raises ends the job.
        database: only tenants that live there.
        options: as of `Router.tenant` (readonly, isolation, timeout …).

    Raises:
        ValueError: concurrency below 1.
        RouterClosed, DatabaseUnavailable: the list of tenants can't be read.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency is at least 1, not {concurrency}")
    report = JobReport(0, {})
    done = 0
    tenants = router.tenants(database=database)
    reading = asyncio.Lock()

    async def one_after_the_other() -> None:
        nonlocal done
        while True:
            async with reading:  # an async generator is asked by one task at a time
                tenant = await anext(tenants, None)
            if tenant is None:
                return
            try:
                with logged_as(tenant):
                    await _with_patience(router, tenant, work, options)
                done += 1
            except Exception as error:
                report.failed[tenant] = error
                if on_error is not None:
                    answer = on_error(tenant, error)
                    if answer is not None:
                        await answer

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(one_after_the_other())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        await _close(tenants)
    return report._replace(done=done)


async def _close(tenants: AsyncIterator[Any]) -> None:
    close = getattr(tenants, "aclose", None)
    if close is not None:
        await close()


async def _with_patience(router: TenantRouter, tenant: Any, work: Work, options: dict[str, Any]) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        entered = False
        try:
            async with router.tenant(tenant, **options) as connection:
                entered = True
                await work(connection, tenant)
            return
        except TenantBusy as busy:
            if entered or attempt == _ATTEMPTS:  # raised by the work itself: it may have done anything
                raise
            await asyncio.sleep(min(busy.retry_after or 1.0, 5.0))


def tenant_task(
    router: Callable[[], TenantRouter], **options: Any
) -> Callable[[Callable[Concatenate[ScopedConnection, P], Awaitable[T]]], Callable[..., Awaitable[T]]]:
    """Make a queue's task of a function that wants a connection: the message carries the tenant's id.

        @broker.task                                  # taskiq; likewise arq, procrastinate, Celery
        @tenant_task(lambda: app.router)
        async def send_invoices(conn, month): ...

        await send_invoices.kiq("2026-11", tenant_id=str(tenant))

    The task runs in a scope of that tenant, which commits when it returns; its log records carry the tenant.

    Args:
        router: gives the worker's router, when a message comes.
        options: as of `Router.tenant`.

    Raises (when a message comes): InvalidTenantId, for a message without `tenant_id` too, before any I/O.
    """

    def decorate(work: Callable[Concatenate[ScopedConnection, P], Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        @functools.wraps(work)
        async def task(*args: Any, tenant_id: Any = None, **keywords: Any) -> T:
            found = router()
            tenant = _tenant_of(found, tenant_id)
            with logged_as(tenant):
                async with found.tenant(tenant, **options) as connection:
                    return await work(connection, *args, **keywords)

        del task.__wrapped__  # queues read the signature: the message has tenant_id, and no connection
        return task

    return decorate


def _tenant_of(router: TenantRouter, value: Any) -> Any:
    if value is None:
        raise InvalidTenantId(value, router.ids.value, "the message carries no tenant_id")
    if isinstance(value, str):
        try:
            return router.ids.parse(value)
        except ValueError as error:
            raise InvalidTenantId(value, router.ids.value, str(error)) from error
    return router.ids.validate(value)
