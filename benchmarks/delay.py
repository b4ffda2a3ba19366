"""`python -m benchmarks.delay HOST PORT SECONDS`: stands in front of a server as a network of that length would.

Every byte is passed on `SECONDS` after it came, each way and in order, however many are under way at a time: one
thread a direction takes what comes and notes when, another one sleeps and sends. Threads, because event loops keep
time in milliseconds only. Prints its port, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
import time


def carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Pass on what comes until it ends."""
    coming: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
    threading.Thread(target=send, args=(coming, target), daemon=True).start()
    data = b"."
    while data:
        data = b""
        with contextlib.suppress(OSError):
            data = source.recv(65536)
        coming.put((time.perf_counter() + seconds, data))


def send(coming: queue.SimpleQueue[tuple[float, bytes]], target: socket.socket) -> None:
    """Send each piece at its time; an empty one is the end."""
    with contextlib.suppress(OSError):
        while True:
            due, data = coming.get()
            time.sleep(max(0.0, due - time.perf_counter()))
            if not data:
                break
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


def serve(listener: socket.socket, server: tuple[str, int], seconds: float) -> None:
    """Accept for ever."""
    while True:
        client, _ = listener.accept()
        upstream = socket.create_connection(server)
        for one in (client, upstream):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for pair in ((client, upstream), (upstream, client)):
            threading.Thread(target=carry, args=(*pair, seconds), daemon=True).start()


def main() -> None:
    """Serve until standard input ends."""
    host, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    listener = socket.create_server(("127.0.0.1", 0), backlog=256)
    threading.Thread(target=serve, args=(listener, (host, port), seconds), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
