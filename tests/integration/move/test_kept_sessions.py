"""A command of the mover uses its sessions again; a lost one costs what a failed connect costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Mover, State, kept_sessions
from tenantry.move.session import Connection
from tenantry.runtime.connection_errors import TRANSIENT
from tests.support.estate import LIMITS, Estate
from tests.support.proxy import Proxy, Verdict
from tests.support.until import until
from tests.support.wire import Message

_PID = "SELECT pg_backend_pid()"


@pytest.fixture
async def proxy(pg18: EmbeddedServer) -> AsyncIterator[Proxy]:
    async with Proxy(pg18.host, pg18.port) as made:
        yield made


class Sessions:
    """Kept sessions with one database."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def one(self) -> AbstractAsyncContextManager[Connection]:
        return kept_sessions.lent(self._dsn, "kept")

    def kept(self) -> AbstractContextManager[None]:
        return kept_sessions.kept()


@pytest.fixture
def sessions(pg18: EmbeddedServer, proxy: Proxy) -> Sessions:
    return Sessions(proxy.dsn(pg18.dsn("postgres")))


async def _pid(sessions: Sessions) -> int:
    async with sessions.one() as connection:
        return int(await connection.fetchval(_PID))


async def test_a_move_and_its_release_open_one_session_each_for_the_journal_and_leave_none(
    estate18: Estate,
) -> None:
    """Beside the lease's, which is the command's too."""
    async with Proxy(estate18.near.host, estate18.near.port) as proxy:
        mover = Mover(proxy.dsn(estate18.control_dsn), estate18.endpoints, limits=LIMITS)
        plan = await mover.plan(estate18.tenant, "acme")
        assert proxy.connections == 1
        record = await mover.run(plan)
        assert proxy.connections == 1 + 2
        assert (await mover.release(record.id)).state is State.RELEASED
        assert proxy.connections == 1 + 2 + 2
        await until(lambda: not proxy.open_connections)


async def test_a_move_opens_few_sessions_with_either_end(estate18: Estate) -> None:
    """It has about eighty uses for one. The fence, and what copies rows past triggers, have their own."""
    async with (
        Proxy(estate18.near.host, estate18.near.port) as near,
        Proxy(estate18.far.host, estate18.far.port) as far,
    ):
        endpoints = {
            name: replace(
                one,
                dsn=(near if name == "shared" else far).dsn(one.dsn),
                peer_dsn=one.dsn,
            )
            for name, one in estate18.endpoints.items()
        }
        mover = estate18.mover(endpoints=endpoints)
        plan = await mover.plan(estate18.tenant, "acme")
        before = near.connections + far.connections
        assert (await mover.run(plan)).state is State.FLIPPED
        assert near.connections + far.connections - before <= 30
        await until(lambda: not near.open_connections and not far.open_connections)


async def test_the_next_user_finds_nothing_of_the_last_one(sessions: Sessions) -> None:
    seen = (
        "SELECT current_setting('work_mem'), current_setting('statement_timeout'), current_user, "
        "(SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), "
        "(SELECT count(*) FROM pg_prepared_statements), to_regclass('pg_temp.left_here'), "
        "(SELECT count(*) FROM pg_listening_channels()), current_setting('application_name'), "
        "current_setting('transaction_timeout', true)"
    )
    with sessions.kept():
        async with sessions.one() as connection:
            pid, first = await connection.fetchval(_PID), (await connection.fetch(seen))[0]
            await connection.execute(
                "SET work_mem = '77kB'; SET statement_timeout = '7s'; SELECT pg_advisory_lock(77); "
                "PREPARE kept AS SELECT 1; CREATE TEMP TABLE left_here (a int); LISTEN kept; SET ROLE pg_monitor; "
                "SET application_name = 'else'"
            )
        async with sessions.one() as connection:
            assert (await connection.fetchval(_PID), (await connection.fetch(seen))[0]) == (pid, first)


async def test_two_that_keep_share_no_session_in_one_thread_or_in_two(sessions: Sessions) -> None:
    """A connection works on the loop that opened it only, also where a thread inherits who keeps."""
    go_on = asyncio.Event()

    async def keeping() -> set[int]:
        with sessions.kept():
            before = await _pid(sessions)
            await go_on.wait()
            assert await _pid(sessions) == before
            return {before}

    others = [asyncio.create_task(keeping()) for _ in range(2)]
    with sessions.kept():
        mine = await _pid(sessions)
        inherited = await asyncio.to_thread(lambda: asyncio.run(_pid(sessions)))
        apart = await asyncio.to_thread(lambda: asyncio.run(kept_twice(sessions)))
        assert await _pid(sessions) == mine
    go_on.set()
    pids = [mine, inherited, apart, *(pid for found in await asyncio.gather(*others) for pid in found)]
    assert len(set(pids)) == len(pids)


async def kept_twice(sessions: Sessions) -> int:
    with sessions.kept():
        pid = await _pid(sessions)
        assert await _pid(sessions) == pid
        return pid


async def test_a_session_that_lay_idle_for_long_is_not_used_again(
    sessions: Sessions, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.kept():
        old = await _pid(sessions)
        monkeypatch.setattr("tenantry.move.kept_sessions._IDLE_SECONDS", 0.0)
        assert await _pid(sessions) != old
    await until(lambda: not proxy.open_connections)


async def test_a_move_goes_on_whose_session_with_the_journal_is_lost_before_each_use(estate18: Estate) -> None:
    def lost(message: Message) -> Verdict | None:
        asked = (
            message.side == "client"
            and message.type == b"Q"
            and b"application_name = 'tenantry move journal'" in message.body
        )
        return Verdict.RESET if asked else None

    async with Proxy(estate18.near.host, estate18.near.port) as proxy:
        proxy.hooks.append(lost)
        mover = Mover(proxy.dsn(estate18.control_dsn), estate18.endpoints, limits=LIMITS)
        record = await mover.run(await mover.plan(estate18.tenant, "acme"))
        assert record.state is State.FLIPPED
        assert proxy.connections > 20
        await until(lambda: not proxy.open_connections)


async def test_outside_kept_each_use_has_a_session_of_its_own(sessions: Sessions, proxy: Proxy) -> None:
    assert await _pid(sessions) != await _pid(sessions)
    await until(lambda: not proxy.open_connections)


async def test_kept_sessions_nest_and_are_closed_by_the_last_to_keep_them(
    sessions: Sessions, proxy: Proxy
) -> None:
    with sessions.kept():
        with sessions.kept():
            first = await _pid(sessions)
        assert await _pid(sessions) == first
        assert (proxy.connections, proxy.open_connections) == (1, 1)
    await until(lambda: not proxy.open_connections)


async def test_two_users_at_once_have_a_session_each(sessions: Sessions, proxy: Proxy) -> None:
    with sessions.kept():
        async with sessions.one() as one, sessions.one() as other:
            assert await one.fetchval(_PID) != await other.fetchval(_PID)
        await asyncio.gather(_pid(sessions), _pid(sessions))
        assert proxy.connections == 2
    await until(lambda: not proxy.open_connections)


async def test_a_kept_session_that_the_server_has_ended_is_opened_anew(
    sessions: Sessions, pg18: EmbeddedServer
) -> None:
    with sessions.kept():
        lost = await _pid(sessions)
        pg18.psql(f"SELECT pg_terminate_backend({lost}, 5000)")
        assert await _pid(sessions) != lost


@pytest.mark.parametrize("how", ["cut", "reset", "hold"])
async def test_a_kept_session_whose_link_is_broken_is_opened_anew(
    sessions: Sessions, proxy: Proxy, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.move.kept_sessions._ANSWER_SECONDS", 0.5)
    with sessions.kept():
        lost = await _pid(sessions)
        getattr(proxy, how)()
        assert await _pid(sessions) != lost


async def test_a_lost_session_fails_as_a_connect_does_while_the_database_is_away(
    sessions: Sessions, proxy: Proxy
) -> None:
    with sessions.kept():
        await _pid(sessions)
        await proxy.refuse()
        proxy.reset()
        with pytest.raises(TRANSIENT):
            await _pid(sessions)
        await proxy.listen_again()
        await _pid(sessions)


async def test_a_statement_whose_answer_was_lost_is_told_and_not_sent_again(
    sessions: Sessions, proxy: Proxy
) -> None:
    with sessions.kept():
        async with sessions.one() as connection:
            await connection.execute(
                "CREATE SEQUENCE IF NOT EXISTS public.sent_once; ALTER SEQUENCE public.sent_once RESTART"
            )
        proxy.hooks.append(
            lambda m: Verdict.RESET if m.side == "server" and m.type == b"D" and b"sent" in m.raw else None
        )
        with pytest.raises(TRANSIENT):
            async with sessions.one() as connection:
                await connection.execute("SELECT nextval('public.sent_once'), 'sent'")
        proxy.hooks.clear()
        async with sessions.one() as connection:
            assert await connection.fetchval("SELECT last_value FROM public.sent_once") == 1
            await connection.execute("DROP SEQUENCE public.sent_once")


@pytest.mark.parametrize("how", ["error", "cancel", "transaction"])
async def test_a_session_whose_user_failed_is_not_lent_again(sessions: Sessions, proxy: Proxy, how: str) -> None:
    async def fail(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        if how == "transaction":
            await connection.execute("BEGIN")
        elif how == "error":
            await connection.execute("SELECT 1 / 0")
        else:
            async with asyncio.timeout(0.01):
                await connection.execute("SELECT pg_sleep(60)")

    with sessions.kept():
        first = 0
        try:
            async with sessions.one() as connection:
                first = await connection.fetchval(_PID)
                await fail(connection)
        except (TimeoutError, asyncpg.DivisionByZeroError):
            pass
        assert await _pid(sessions) != first
        await until(lambda: proxy.open_connections == 1)
