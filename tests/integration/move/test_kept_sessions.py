"""A command of the mover opens one session for the journal; a lost one costs what a failed connect costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from tenantry.embedded import EmbeddedServer
from tenantry.move import Mover, State
from tenantry.move.kept_sessions import KeptSessions
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


@pytest.fixture
def sessions(pg18: EmbeddedServer, proxy: Proxy) -> KeptSessions:
    return KeptSessions(proxy.dsn(pg18.dsn("postgres")), "kept")


async def _pid(sessions: KeptSessions) -> int:
    async with sessions.session() as connection:
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


async def test_a_move_goes_on_whose_session_with_the_journal_is_lost_before_each_use(estate18: Estate) -> None:
    def lost(message: Message) -> Verdict | None:
        asked = message.side == "client" and message.type == b"Q" and message.body == b"SELECT\0"
        return Verdict.RESET if asked else None

    async with Proxy(estate18.near.host, estate18.near.port) as proxy:
        proxy.hooks.append(lost)
        mover = Mover(proxy.dsn(estate18.control_dsn), estate18.endpoints, limits=LIMITS)
        record = await mover.run(await mover.plan(estate18.tenant, "acme"))
        assert record.state is State.FLIPPED
        assert proxy.connections > 20
        await until(lambda: not proxy.open_connections)


async def test_outside_kept_each_use_has_a_session_of_its_own(sessions: KeptSessions, proxy: Proxy) -> None:
    assert await _pid(sessions) != await _pid(sessions)
    await until(lambda: not proxy.open_connections)


async def test_kept_sessions_nest_and_are_closed_by_the_last_to_keep_them(
    sessions: KeptSessions, proxy: Proxy
) -> None:
    with sessions.kept():
        with sessions.kept():
            first = await _pid(sessions)
        assert await _pid(sessions) == first
        assert (proxy.connections, proxy.open_connections) == (1, 1)
    await until(lambda: not proxy.open_connections)


async def test_two_users_at_once_have_a_session_each(sessions: KeptSessions, proxy: Proxy) -> None:
    with sessions.kept():
        async with sessions.session() as one, sessions.session() as other:
            assert await one.fetchval(_PID) != await other.fetchval(_PID)
        await asyncio.gather(_pid(sessions), _pid(sessions))
        assert proxy.connections == 2
    await until(lambda: not proxy.open_connections)


async def test_a_kept_session_that_the_server_has_ended_is_opened_anew(
    sessions: KeptSessions, pg18: EmbeddedServer
) -> None:
    with sessions.kept():
        lost = await _pid(sessions)
        pg18.psql(f"SELECT pg_terminate_backend({lost}, 5000)")
        assert await _pid(sessions) != lost


@pytest.mark.parametrize("how", ["cut", "reset", "hold"])
async def test_a_kept_session_whose_link_is_broken_is_opened_anew(
    sessions: KeptSessions, proxy: Proxy, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tenantry.move.kept_sessions._ANSWER_SECONDS", 0.5)
    with sessions.kept():
        lost = await _pid(sessions)
        getattr(proxy, how)()
        assert await _pid(sessions) != lost


async def test_a_lost_session_fails_as_a_connect_does_while_the_database_is_away(
    sessions: KeptSessions, proxy: Proxy
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
    sessions: KeptSessions, proxy: Proxy
) -> None:
    with sessions.kept():
        async with sessions.session() as connection:
            await connection.execute(
                "CREATE SEQUENCE IF NOT EXISTS public.sent_once; ALTER SEQUENCE public.sent_once RESTART"
            )
        proxy.hooks.append(
            lambda m: Verdict.RESET if m.side == "server" and m.type == b"D" and b"sent" in m.raw else None
        )
        with pytest.raises(TRANSIENT):
            async with sessions.session() as connection:
                await connection.execute("SELECT nextval('public.sent_once'), 'sent'")
        proxy.hooks.clear()
        async with sessions.session() as connection:
            assert await connection.fetchval("SELECT last_value FROM public.sent_once") == 1
            await connection.execute("DROP SEQUENCE public.sent_once")


@pytest.mark.parametrize("how", ["error", "cancel", "transaction"])
async def test_a_session_whose_user_failed_is_not_lent_again(
    sessions: KeptSessions, proxy: Proxy, how: str
) -> None:
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
            async with sessions.session() as connection:
                first = await connection.fetchval(_PID)
                await fail(connection)
        except (TimeoutError, asyncpg.DivisionByZeroError):
            pass
        assert await _pid(sessions) != first
        await until(lambda: proxy.open_connections == 1)
