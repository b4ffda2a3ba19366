"""`python -m benchmarks.delay HOST PORT SECONDS`: stands in front of a server as a network of that length would.

Every byte is passed on `SECONDS` after it came, each way. One thread a direction, which sleeps: event loops keep
time in milliseconds only. Made for PostgreSQL's ping-pong, where a connection has one message under way at a time.
Prints its port, and ends with its standard input.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time


def carry(source: socket.socket, target: socket.socket, seconds: float) -> None:
    """Pass on what comes until it ends."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            time.sleep(seconds)
            target.sendall(data)
    with contextlib.suppress(OSError):
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
