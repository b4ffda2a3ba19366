"""G23, as a model test: COMMIT fails, the reset fails, the opening is refused, callers are cancelled, and the
connection is lost at each message, directly and on both sides of PgBouncer. What each caller is told is held
against what the database holds, by the table of `commit_model.py`.

Three callers share a pool of one connection: one is about to commit, the others wait for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final, cast

import pytest

from tenantry import CommitUnknown, Router
from tenantry.embedded import EmbeddedServer
from tests.conformance.commit_model import Link, Report, Told, Truth, violations
from tests.support.pgbouncer import PgBouncer
from tests.support.product import Product, product_on
from tests.support.proxy import Proxy, Verdict
from tests.support.quiet import nothing_leaked
from tests.support.until import until
from tests.support.wire import Message

INSERT: Final = "INSERT INTO students (id, name) VALUES ($1, 'x')"
WAYS: Final = ("direct", "before PgBouncer", "behind PgBouncer")

#: What the first caller does before it leaves its scope, and whether its COMMIT then succeeds.
FIRST: Final[dict[str, tuple[tuple[str, ...], bool]]] = {
    "COMMIT succeeds": ((), True),
    "COMMIT is refused by a deferred constraint": (
        (
            "INSERT INTO courses (id) VALUES (1) ON CONFLICT DO NOTHING",
            "INSERT INTO enrolments (student, course) VALUES (404, 1)",
        ),
        False,
    ),
    "COMMIT is refused by code that it runs": (
        (
            "CREATE FUNCTION pg_temp.fail() RETURNS text LANGUAGE plpgsql AS $$ BEGIN "
            "RAISE 'no' USING ERRCODE = 'TN005'; END $$",
            "DECLARE c CURSOR WITH HOLD FOR SELECT pg_temp.fail()",
        ),
        False,
    ),
    "a statement has failed": (("SELECT 1/0",), False),
}
#: What it leaves for the reset that follows.
RESET: Final[dict[str, tuple[str, ...]]] = {
    "the reset succeeds": (),
    "the reset fails": (
        "DO $$ BEGIN FOR i IN 1..300 LOOP EXECUTE 'CREATE TEMP TABLE t' || i || ' (id int PRIMARY KEY)'; END "
        "LOOP; END $$",
        "DECLARE d CURSOR WITH HOLD FOR SELECT set_config('statement_timeout', '1ms', false)",
    ),
    "statements are left": ("DO $$ BEGIN EXECUTE 'PRE' || 'PARE loot AS SELECT 1'; END $$",),
}


class World:
    """Three tenants on a pool of one connection, and a proxy somewhere on its way."""

    # Mutable state: ids (numbers of rows, never used twice).

    def __init__(self, product: Product, router: Router, admin: Any, proxy: Proxy, tenants: list[Any]) -> None:
        self.product = product
        self.router = router
        self.admin = admin
        self.proxy = proxy
        self.tenants = tenants
        self.ids = itertools.count(1)

    async def truth(self, number: int) -> Truth:
        """Whether a row is committed, past every router."""
        there = await self.admin.fetchval("SELECT count(*) FROM students WHERE id = $1", number)
        return Truth.COMMITTED if there else Truth.NOT_COMMITTED


@asynccontextmanager
async def world(server: EmbeddedServer, way: str, *, hardened: bool = False) -> AsyncIterator[World]:
    """A world on a database of its own; `way` says where the proxy is."""
    async with AsyncExitStack() as stack:
        plain = stack.enter_context(product_on(server, hardened=hardened))
        if way == "direct":
            proxy = await stack.enter_async_context(Proxy(server.host, server.port))
            product = plain.behind(proxy.dsn)
        elif way == "before PgBouncer":
            bouncer = stack.enter_context(PgBouncer.start(server, "transaction", pool_size=4))
            proxy = await stack.enter_async_context(Proxy(bouncer.host, bouncer.port))
            product = plain.behind(lambda url: proxy.dsn(bouncer.instead(url)))
        else:
            proxy = await stack.enter_async_context(Proxy(server.host, server.port))
            place = cast(EmbeddedServer, SimpleNamespace(host=proxy.host, port=proxy.port))
            bouncer = stack.enter_context(PgBouncer.start(place, "transaction", pool_size=4))
            product = plain.behind(lambda url: bouncer.instead(proxy.dsn(url)))
        admin = await stack.enter_async_context(plain.admin())
        router = await stack.enter_async_context(product.open(pool={"max": 1}))
        tenants = await product.signed_up(router, 3)
        for tenant in tenants:
            await router.fetchval(tenant, "SELECT count(*) FROM students")
        yield World(product, router, admin, proxy, tenants)


async def scope(
    made: World, tenant: Any, number: int, *statements: str, leaving: Callable[[], Awaitable[None]] | None = None
) -> Told:
    """One caller's scope, which writes one row; what it was told. Errors other than these are told as refusals."""
    async with made.router.tenant(tenant, timeout=10) as conn:
        await conn.execute(INSERT, number)
        for statement in statements:
            with contextlib.suppress(ZeroDivisionError):
                await _run(conn, statement)
        if leaving is not None:
            await leaving()
    return Told.COMMITTED


async def _run(conn: Any, statement: str) -> None:
    try:
        await conn.execute(statement)
    except Exception as error:
        if getattr(error, "sqlstate", "") != "22012":  # division by zero, which the application swallows
            raise


async def told(task: asyncio.Task[Told]) -> tuple[Told, str]:
    """What a caller was told, and by which error."""
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if isinstance(outcome, Told):
        return outcome, ""
    kind = Told.UNKNOWN if isinstance(outcome, CommitUnknown) else Told.REFUSED
    if isinstance(outcome, asyncio.CancelledError):
        kind = Told.CANCELLED
    return kind, f"{type(outcome).__name__}: {outcome}"


async def waiting(made: World, count: int) -> None:
    """Return when so many callers wait for the connection."""
    pool = made.router.pools.open_pools()["shared"]
    await until(lambda: pool.admission.waiting == count)


async def exchange(
    made: World,
    statements: tuple[str, ...] = (),
    *,
    at_the_end: Callable[[], Awaitable[None]] | None = None,
    during: Callable[[list[asyncio.Task[Told]]], Awaitable[set[int]]] | None = None,
) -> list[Report]:
    """The first caller commits while the others wait.

    Args:
        statements: what the first one does besides writing its row.
        at_the_end: awaited when it is about to leave its scope, and the others wait.
        during: awaited after that; returns which callers it has cancelled, by their place.
    """
    numbers = [next(made.ids) for _ in made.tenants]
    tasks: list[asyncio.Task[Told]] = []

    async def leaving() -> None:
        for tenant, number in zip(made.tenants[1:], numbers[1:], strict=True):
            tasks.append(asyncio.create_task(scope(made, tenant, number)))
            await waiting(made, len(tasks) - 1)
        if at_the_end is not None:
            await at_the_end()

    tasks.append(asyncio.create_task(scope(made, made.tenants[0], numbers[0], *statements, leaving=leaving)))
    first = tasks[0]
    cancelled: set[int] = set()
    if during is not None:
        await until(lambda: first.done() or len(tasks) == len(numbers))
        cancelled = await during(tasks)
    await asyncio.wait([first])
    reports = []
    for place, number in enumerate(numbers):
        if place < len(tasks):
            what, error = await told(tasks[place])
            truth = await made.truth(number)
            reports.append(Report(f"caller {place + 1}", truth, what, place in cancelled, error))
    await nothing_leaked(made.router)
    return reports


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("reset", RESET)
@pytest.mark.parametrize("first", FIRST)
async def test_each_caller_is_told_the_truth_whatever_fails(
    pg18: EmbeddedServer, way: str, first: str, reset: str
) -> None:
    statements, succeeds = FIRST[first]
    async with world(pg18, way) as made:
        reports = await exchange(made, RESET[reset] + statements)
        assert violations(reports, Link.KEPT) == []
        assert [one.told for one in reports] == [
            Told.COMMITTED if succeeds else Told.REFUSED,
            Told.COMMITTED,
            Told.COMMITTED,
        ]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("refusal", ["suspended", "elsewhere", "fenced"])
async def test_an_opening_that_is_refused_is_its_own_callers_alone(
    pg18: EmbeddedServer, way: str, first: str, refusal: str
) -> None:
    statements, succeeds = FIRST[first]
    async with world(pg18, way) as made, AsyncExitStack() as fence:
        second = str(made.tenants[1])

        async def refuse() -> None:
            if refusal == "fenced":
                await fence.enter_async_context(made.product.fence(made.tenants[1]))
            elif refusal == "suspended":
                await made.admin.execute(
                    "UPDATE tenantry.placement SET suspended = true WHERE tenant = $1", second
                )
            else:
                await made.admin.execute("DELETE FROM tenantry.placement WHERE tenant = $1", second)

        async def lift(_: list[asyncio.Task[Told]]) -> set[int]:
            if refusal == "fenced":
                await until(lambda: len(made.router.fence_wait) == 1)
                await fence.aclose()
            return set()

        reports = await exchange(made, statements, at_the_end=refuse, during=lift)
        assert violations(reports, Link.KEPT) == []
        # A placement that is missing is what a sign-up that was cut short leaves: the request completes it.
        others = [Told.REFUSED if refusal == "suspended" else Told.COMMITTED, Told.COMMITTED]
        assert [one.told for one in reports] == [Told.COMMITTED if succeeds else Told.REFUSED, *others]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("who", [(0,), (1,), (0, 1), (1, 2), (0, 1, 2)])
async def test_a_caller_that_is_cancelled_changes_nothing_of_what_the_others_are_told(
    pg18: EmbeddedServer, way: str, who: tuple[int, ...]
) -> None:
    """While the COMMIT is under way, with the next opening behind it."""
    hold = "DECLARE h CURSOR WITH HOLD FOR SELECT pg_advisory_xact_lock_shared(4711)"
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4711 AND NOT granted"

    async with world(pg18, way) as made:
        await made.admin.execute("SELECT pg_advisory_lock(4711)")

        async def committing() -> bool:
            return bool(await made.admin.fetchval(held))

        async def cancel(tasks: list[asyncio.Task[Told]]) -> set[int]:
            await until(committing)
            order = [tasks[0], *tasks[1:]]
            for place in who:
                order[place].cancel()
            await asyncio.sleep(0)
            await made.admin.execute("SELECT pg_advisory_unlock(4711)")
            return set(who)

        reports = await exchange(made, (hold,), during=cancel)
        assert violations(reports, Link.KEPT) == []
        assert all(one.told is Told.COMMITTED for place, one in enumerate(reports) if place not in who)


class Cut:
    """Ends the connection by a verdict at its n-th message from the moment that it is armed.

    Args:
        whole: never within a unit of the client's. PgBouncer 1.18 goes on using a server's process to which it has
            passed half a unit of a client that is gone: that process answers nobody. The router sends a unit in
            one write, so that needs a network that delivers a part of it.
    """

    # Mutable state: armed, link (the number of the connection that is counted), seen (messages), inside (a unit of
    # the client's), fired, answered (the answer to the first COMMIT had been passed on by then).

    def __init__(self, proxy: Proxy, number: int, verdict: Verdict, *, whole: bool) -> None:
        self._number = number
        self._verdict = verdict
        self._whole = whole
        self.inside = False
        self.answered = False
        self.armed = False
        self.link: int | None = None
        self.seen = 0
        self.fired = False
        proxy.hooks[:] = [self._look]

    async def arm(self) -> None:
        """From now on messages count."""
        self.armed = True

    def _look(self, message: Message) -> Verdict | None:
        if not self.armed or self.fired:
            return None
        if self.link is None and message.side == "client" and message.type in (b"Q", b"P", b"B"):
            self.link = message.connection
        if message.connection != self.link:
            return None
        if message.side == "client":
            before, self.inside = self.inside, message.type not in (b"Q", b"S")
            if self._whole and (self.inside if self._verdict is Verdict.CUT_AFTER else before):
                return None
        self.seen += 1
        self.fired = self.seen == self._number
        after = not self.fired or self._verdict is Verdict.CUT_AFTER
        self.answered |= after and message.type == b"C" and message.body == b"COMMIT\0"
        return self._verdict if self.fired else None


#: How a connection is lost, for every way and end of the first caller: some fifty cuts each.
LOSSES: Final = list(
    itertools.product(
        ("COMMIT succeeds", "COMMIT is refused by a deferred constraint"),
        WAYS,
        (("reset before", Verdict.RESET), ("ended after", Verdict.CUT_AFTER)),
    )
)
#: In every run, any two of the three together; `make long` has all.
PAIRS: Final = {
    ("COMMIT succeeds", "direct", "ended after"),
    ("COMMIT succeeds", "before PgBouncer", "ended after"),
    ("COMMIT succeeds", "behind PgBouncer", "reset before"),
    ("COMMIT is refused by a deferred constraint", "direct", "reset before"),
    ("COMMIT is refused by a deferred constraint", "before PgBouncer", "reset before"),
    ("COMMIT is refused by a deferred constraint", "behind PgBouncer", "ended after"),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("first", "way", "verdict"),
    [
        pytest.param(
            first,
            way,
            verdict,
            id=f"{first}-{way}-{name}",
            marks=[] if (first, way, name) in PAIRS else [pytest.mark.long],
        )
        for first, way, (name, verdict) in LOSSES
    ],
)
async def test_a_connection_lost_at_each_message_harms_one_caller_at_most_and_nobody_is_told_what_is_not_true(
    pg18: EmbeddedServer, way: str, verdict: Verdict, first: str
) -> None:
    wrong, cuts, unknown, answered = [], 0, 0, 0
    statements, succeeds = FIRST[first]
    # An answer that had arrived before the connection ended politely is believed.
    strict = succeeds and verdict is Verdict.CUT_AFTER and way != "behind PgBouncer"
    async with world(pg18, way) as made:
        for number in itertools.count(1):
            cut = Cut(made.proxy, number, verdict, whole=way == "before PgBouncer")
            reports = await exchange(made, statements, at_the_end=cut.arm)
            assert len(reports) == len(made.tenants), f"after the cut at message {number - 1}: {reports}"
            if not cut.fired:
                assert [one.told for one in reports[1:]] == [Told.COMMITTED] * 2
                break
            if (
                not succeeds and reports[0].told is Told.REFUSED
            ):  # that is what it had to be told; the loss is another's
                assert reports[0].truth is Truth.NOT_COMMITTED
                reports = reports[1:]
            if strict and cut.answered:
                wrong += [f"message {number}: {one}" for one in violations(reports[:1], Link.LOST_LATER)]
                answered += 1
            cuts += 1
            unknown += any(one.told is Told.UNKNOWN for one in reports)
            wrong += [f"message {number}: {one}" for one in violations(reports, Link.LOST)]
    assert wrong == []
    assert cuts >= 20
    assert unknown
    assert answered or not strict


@pytest.mark.parametrize(
    ("reports", "link", "finding"),
    [
        ([Report("A", Truth.COMMITTED, Told.REFUSED)], Link.KEPT, "A: told REFUSED"),
        ([Report("A", Truth.NOT_COMMITTED, Told.COMMITTED)], Link.KEPT, "A: told COMMITTED"),
        ([Report("A", Truth.COMMITTED, Told.UNKNOWN)], Link.KEPT, "A: told UNKNOWN"),
        ([Report("A", Truth.COMMITTED, Told.REFUSED)], Link.LOST, "A: told REFUSED"),
        ([Report("A", Truth.NOT_COMMITTED, Told.COMMITTED)], Link.LOST, "A: told COMMITTED"),
        ([Report("A", Truth.COMMITTED, Told.UNKNOWN)], Link.LOST_LATER, "A: told UNKNOWN"),
        ([Report("A", Truth.COMMITTED, Told.CANCELLED)], Link.KEPT, "A: told CANCELLED"),
        ([Report("A", Truth.COMMITTED, Told.REFUSED, True)], Link.KEPT, "A: told REFUSED"),
        (
            [Report("A", Truth.COMMITTED, Told.UNKNOWN), Report("B", Truth.NOT_COMMITTED, Told.REFUSED)],
            Link.LOST,
            "harmed A, B",
        ),
    ],
)
def test_the_model_finds_each_false_report(reports: list[Report], link: Link, finding: str) -> None:
    assert [one for one in violations(reports, link) if finding in one]
