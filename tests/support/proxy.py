"""A network that misbehaves when told to: a TCP proxy between a client and PostgreSQL.

It knows the protocol's messages, so that a test says "cut when the COMMIT passes" and not "cut
after 40 ms", and counts flights on the wire instead of trusting the client's word.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from tests.support.wire import Framing, Message, Side


class Verdict(Enum):
    """What becomes of a message that a hook has looked at."""

    FORWARD = "forward"
    DROP = "drop"  # this message never arrives; the rest does
    HOLD = "hold"  # this one and all that follow on this connection, both ways, wait for `release`
    HOLD_AFTER = "hold after"  # it arrives; what follows waits
    CUT = "cut"  # the connection ends politely before this message (FIN)
    CUT_AFTER = "cut after"  # it arrives, then the connection ends politely
    RESET = "reset"  # the connection breaks before this message (RST)


Hook = Callable[[Message], Verdict | None]


@dataclass
class Stop:
    """A `stop_when` in wait: `passed` is set, and `message` filled, when the pattern has come."""

    pattern: bytes
    side: Side
    verdict: Verdict
    passed: asyncio.Event
    message: Message | None = None


class Proxy:
    """Listens on a loopback port and forwards to one server; an async context manager.

    Knobs, to be turned at any time, for all connections: `latency` seconds added to each direction
    (a flight pays it twice); `rate` bytes per second and direction, None for unlimited;
    `drop_replies`, the server's messages vanish; `accepting`, False resets new connections. `hooks`
    see every message first.

    Counts: `flights` after the handshakes, over all connections: a flight begins with the client's
    first message and ends with the server's ReadyForQuery, so messages sent in one burst are one
    flight. `connections` accepted so far. `seen`: how many bytes each side has sent.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self.host = "127.0.0.1"
        self.port = 0
        # Mutable state: the knobs, the hooks, the counts, the connections that are open.
        self.latency = 0.0
        self.rate: float | None = None
        self.drop_replies = False
        self.accepting = True
        self.hooks: list[Hook] = []
        self.flights = 0
        self.connections = 0
        self.seen: dict[Side, int] = {"client": 0, "server": 0}
        self._links: set[Link] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.refuse()
        links = list(self._links)
        self.cut()
        await asyncio.gather(*(link.finished.wait() for link in links))

    def dsn(self, url: str) -> str:
        """The same connection URL through this proxy. Encryption would hide the messages."""
        parts = urlsplit(url)
        user = parts.netloc.rpartition("@")[0]
        place = f"{user}@{self.host}:{self.port}" if user else f"{self.host}:{self.port}"
        return urlunsplit(parts._replace(netloc=place))

    @property
    def open_connections(self) -> int:
        """Connections through the proxy that are open now."""
        return len(self._links)

    def stop_when(self, pattern: bytes, side: Side = "client", verdict: Verdict = Verdict.HOLD) -> Stop:
        """Does `verdict`, once, to that side's first message whose bytes contain the pattern."""
        stop = Stop(pattern, side, verdict, asyncio.Event())

        def look(message: Message) -> Verdict | None:
            if stop.passed.is_set() or message.side != side or pattern not in message.raw:
                return None
            stop.message = message
            stop.passed.set()
            return verdict

        self.hooks.append(look)
        return stop

    def cut(self) -> None:
        """Ends every connection politely, both sides (FIN)."""
        for link in list(self._links):
            link.close(reset=False)

    def reset(self) -> None:
        """Breaks every connection, both sides (RST)."""
        for link in list(self._links):
            link.close(reset=True)

    def hold(self) -> None:
        """Half-open: connections stay, nothing passes, until `release` (then all of it does)."""
        for link in self._links:
            link.flowing.clear()

    def release(self) -> None:
        """Lets flow again what `hold` or a HOLD verdict stopped."""
        for link in self._links:
            link.flowing.set()

    async def refuse(self) -> None:
        """Stops listening: new connections are refused. Those that are open stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def listen_again(self) -> None:
        """Undoes `refuse`, on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port)

    def judge(self, message: Message) -> Verdict:
        """The first verdict of a hook, else forward."""
        for hook in list(self.hooks):
            if verdict := hook(message):
                return verdict
        dropped = self.drop_replies and message.side == "server"
        return Verdict.DROP if dropped else Verdict.FORWARD

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        if not self.accepting:
            _close(writer, reset=True)
            return
        try:
            server = await asyncio.open_connection(*self._target)
        except OSError:
            _close(writer, reset=True)
            return
        link = Link(self, self.connections, (reader, writer), server)
        self._links.add(link)
        try:
            await link.run()
        finally:
            self._links.discard(link)
            link.finished.set()


Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Link:
    """One client's connection through the proxy."""

    def __init__(self, proxy: Proxy, number: int, client: Stream, server: Stream) -> None:
        self.number = number
        self._proxy = proxy
        self._streams: dict[Side, Stream] = {"client": client, "server": server}
        self._framing = Framing(number)
        # Mutable state: is the handshake done, is a flight under way, may bytes pass, has it ended.
        self._ready = False
        self._flying = False
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._ended = asyncio.Event()
        self.finished = asyncio.Event()

    async def run(self) -> None:
        """Forwards both ways until either side ends or the test says so."""
        queues: dict[Side, asyncio.Queue[tuple[float, bytes] | None]] = {
            "client": asyncio.Queue(),
            "server": asyncio.Queue(),
        }
        work = [
            asyncio.ensure_future(step)
            for side, queue in queues.items()
            for step in (self._read(side, queue), self._write(side, queue))
        ]
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await ended
        finally:
            for task in (*work, ended):
                task.cancel()
            await asyncio.gather(*work, ended, return_exceptions=True)
            self.close(reset=False)

    def close(self, *, reset: bool) -> None:
        """Ends the connection on both sides at once."""
        self._ended.set()
        for _, writer in self._streams.values():
            _close(writer, reset=reset)

    async def _read(self, side: Side, queue: asyncio.Queue[tuple[float, bytes] | None]) -> None:
        reader = self._streams[side][0]
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            if not data:
                queue.put_nowait(None)  # what was sent before the end still arrives
                return
            self._proxy.seen[side] += len(data)
            passing = b""
            for message in self._framing.feed(side, data):
                self._count(message)
                verdict = self._proxy.judge(message)
                if verdict in (Verdict.CUT, Verdict.RESET):
                    await self._send(side, passing)
                    self.close(reset=verdict is Verdict.RESET)
                    return
                if verdict is Verdict.CUT_AFTER:
                    await self._send(side, passing + message.raw)
                    self.close(reset=False)
                    return
                if verdict is Verdict.HOLD:
                    self.flowing.clear()
                if verdict is Verdict.HOLD_AFTER:
                    await self._send(side, passing + message.raw)
                    self.flowing.clear()
                    passing = b""
                    continue
                if verdict is not Verdict.DROP:
                    passing += message.raw
            if passing:
                queue.put_nowait((loop.time() + self._proxy.latency, passing))

    async def _write(self, side: Side, queue: asyncio.Queue[tuple[float, bytes] | None]) -> None:
        loop = asyncio.get_running_loop()
        while item := await queue.get():
            due, data = item
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if self._proxy.rate:
                await asyncio.sleep(len(data) / self._proxy.rate)
            await self.flowing.wait()
            await self._send(side, data)
        await self.flowing.wait()  # half-open: the other side does not learn of the end either
        self._ended.set()

    async def _send(self, side: Side, data: bytes) -> None:
        """Passes on what `side` has sent; a peer that is gone ends the connection."""
        writer = self._streams["server" if side == "client" else "client"][1]
        try:
            writer.write(data)
            await writer.drain()
        except OSError:
            self._ended.set()

    def _count(self, message: Message) -> None:
        if message.side == "server":
            if message.type == b"Z":
                self._ready, self._flying = True, False
        elif self._ready and not self._flying and message.type != b"X":
            self._flying = True
            self._proxy.flights += 1


def _close(writer: asyncio.StreamWriter, *, reset: bool) -> None:
    transport = writer.transport
    if reset:
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        writer.close()
