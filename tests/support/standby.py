"""A streaming standby of an embedded server, which can take its place as a failover does: at the same address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tenantry.embedded import EmbeddedServer
from tenantry.embedded.folder import EmbeddedError, Folder
from tenantry.embedded.process import run_unprivileged


@contextmanager
def standby_of(primary: EmbeddedServer, *, synchronous: bool) -> Iterator[EmbeddedServer]:
    """A standby that streams from `primary`; synchronous: no commit is acknowledged that it does not have."""
    home = Folder.temporary("tenantry-standby-")
    try:
        data = home.path / "data"
        command = [str(primary.bin("pg_basebackup")), "-D", str(data), "-R", "-X", "stream", "-c", "fast"]
        command += ["-d", f"host={primary.host} port={primary.port} user=postgres application_name=standby"]
        done = run_unprivileged(command, home.path)
        if done.returncode:
            raise EmbeddedError(f"pg_basebackup failed: {done.stderr}")
        standby = EmbeddedServer.start(
            primary.version, folder=home.path, settings={"synchronous_standby_names": ""}
        )
        try:
            if synchronous:
                primary.psql("ALTER SYSTEM SET synchronous_standby_names = '*'")
                primary.psql("SELECT pg_reload_conf()")
            yield standby
        finally:
            standby.stop("immediate")
    finally:
        home.remove()


def take_over(primary: EmbeddedServer, standby: EmbeddedServer) -> None:
    """The primary dies; the standby is promoted and has its address from then on."""
    primary.crash()
    standby.crash()
    standby.port = primary.port
    standby.restart()
    standby.psql("SELECT pg_promote()")
