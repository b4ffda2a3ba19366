"""The embedded PostgreSQL: there in a moment, gone without a trace."""

from __future__ import annotations

import contextlib
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import tenantry
from tenantry.embedded import EmbeddedError, EmbeddedServer, versions
from tenantry.embedded import programs as programs_module
from tenantry.embedded.folder import Folder, reachable, sweep

SOURCES = Path(tenantry.__path__[0]).parent
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def wait_until_gone(pid: int) -> None:
    """Returns when the process has ended (its end makes the descriptor readable)."""
    with contextlib.suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            ended, _, _ = select.select([descriptor], [], [], 30)
        finally:
            os.close(descriptor)
        assert ended, f"process {pid} still lives"


@contextlib.contextmanager
def python(
    program: str, *, executable: str = sys.executable, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """A Python process of ours with pipes; killed, if it still runs, and reaped at the end."""
    child = subprocess.Popen(
        [executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            "PYTHONPATH": os.pathsep.join([str(SOURCES), *sys.path]),
            "PATH": os.defpath,
            "TMPDIR": tempfile.gettempdir(),
        },
        **options,  # type: ignore[call-overload]  # user and group, as Popen takes them
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


async def test_a_started_server_answers_queries(pg: EmbeddedServer) -> None:
    connection = await asyncpg.connect(pg.dsn())
    try:
        assert connection.get_server_version().major == pg.version
        assert await connection.fetchval("SHOW wal_level") == "logical"
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
    finally:
        await connection.close()


@pytest.mark.parametrize("version", versions())
def test_stop_leaves_no_process_and_no_folder(version: int) -> None:
    server = EmbeddedServer.start(version)
    pid, folder = server.pid, server.folder
    assert pid is not None
    assert folder.exists()

    server.stop()
    server.stop()  # harmless when repeated

    assert server.pid is None
    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_data_and_port_survive_a_crash() -> None:
    with EmbeddedServer.start() as server:
        port = server.port
        server.psql("CREATE TABLE kept AS SELECT 42 AS answer")
        server.crash()
        assert server.pid is None
        server.restart()
        assert server.port == port
        assert server.psql("SELECT answer FROM kept") == "42"
        assert "was not properly shut down" in server.log_text()


def test_settings_reach_the_server_and_the_socket_serves_without_tcp() -> None:
    settings = {"work_mem": "7MB", "app.note": "it's"}
    with EmbeddedServer.start(settings=settings, tcp=False) as server:
        assert server.psql("SHOW work_mem; SHOW app.note; SHOW listen_addresses") == "7MB\nit's\n"
        assert str(server.port) in server.dsn()


def test_a_durable_server_waits_for_the_disk() -> None:
    with EmbeddedServer.start(durable=True) as server:
        assert server.psql("SHOW fsync") == "on"


def test_a_named_folder_keeps_its_data_for_the_next_start() -> None:
    home = Folder.temporary("tenantry-pg-")
    try:
        with EmbeddedServer.start(18, folder=home.path / "named") as server:
            server.psql("CREATE TABLE kept AS SELECT 42 AS answer")
        with EmbeddedServer.start(18, folder=home.path / "named") as server:
            assert server.psql("SELECT answer FROM kept") == "42"
        with pytest.raises(EmbeddedError, match="holds data of PostgreSQL 18, not 16"):
            EmbeddedServer.start(16, folder=home.path / "named")
    finally:
        home.remove()


def test_an_sql_error_in_psql_is_raised(pg: EmbeddedServer) -> None:
    with pytest.raises(EmbeddedError, match="does_not_exist"):
        pg.psql("SELECT * FROM does_not_exist")


def test_an_unknown_version_says_what_to_install() -> None:
    with pytest.raises(EmbeddedError, match=r"pip install tenantry\[embedded\]"):
        EmbeddedServer.start(9)


def test_a_server_started_by_a_thread_outlives_the_thread() -> None:
    started: list[EmbeddedServer] = []
    starter = threading.Thread(target=lambda: started.append(EmbeddedServer.start()))
    starter.start()
    starter.join()
    with started[0] as server:
        assert server.psql("SELECT 1") == "1"
        assert "fast shutdown" not in server.log_text()


STARTER = """
    import sys
    from tenantry.embedded import EmbeddedServer
    server = EmbeddedServer.start()
    print(server.pid, server.folder, flush=True)
    sys.stdin.readline()
"""


def test_a_killed_parent_leaves_no_server_and_the_next_start_removes_its_folder() -> None:
    with python(STARTER) as child:
        assert child.stdout is not None
        pid, folder = child.stdout.readline().split()
        child.send_signal(signal.SIGKILL)
        wait_until_gone(int(pid))
    assert Path(folder).exists()
    sweep()
    assert not Path(folder).exists()


def test_a_parent_that_forgets_to_stop_leaves_nothing() -> None:
    with python(STARTER) as child:
        output, _ = child.communicate("end\n", timeout=60)
        pid, folder = output.split()
        wait_until_gone(int(pid))
        assert child.returncode == 0
    assert not Path(folder).exists()


def test_the_sweep_spares_the_folders_of_the_living(pg: EmbeddedServer) -> None:
    sweep()
    assert pg.psql("SELECT 1") == "1"
    assert (pg.folder / "data" / "PG_VERSION").exists()


def test_a_closed_parent_folder_makes_its_contents_unreachable() -> None:
    home = Folder.temporary("tenantry-pg-")
    try:
        inner = home.path / "closed" / "open"
        inner.mkdir(parents=True)
        program = inner / "program"
        program.touch()
        for path in (home.path, inner, program):
            path.chmod(0o755)
        stranger = 54_321
        (home.path / "closed").chmod(0o700)
        assert not reachable(program, stranger, stranger)
        assert reachable(program, (home.path / "closed").stat().st_uid, stranger)
        (home.path / "closed").chmod(0o711)
        assert reachable(program, stranger, stranger)
        program.chmod(0o750)
        assert not reachable(program, stranger, stranger)
    finally:
        home.remove()


@as_root
def test_programs_in_a_closed_folder_are_copied_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Folder.temporary("tenantry-pg-")
    try:
        wheel = programs_module._installations()[16].parent.parent
        closed = home.path / "closed"
        closed.mkdir(mode=0o700)
        skip = shutil.ignore_patterns("pginstall18", "include", "*.a")
        shutil.copytree(wheel, closed / wheel.name, ignore=skip)
        libraries = f"{wheel.name}.libs"
        shutil.copytree(wheel.parent / libraries, closed / libraries)
        monkeypatch.syspath_prepend(closed)
        with EmbeddedServer.start(16) as server:
            assert not server.bin("postgres").is_relative_to(closed)
            assert server.psql("SELECT 1") == "1"
    finally:
        home.remove()


def python_for(user: pwd.struct_passwd) -> str:
    """A Python of our version that this user can run; ours may be in a folder of root's."""
    name = f"python3.{sys.version_info.minor}"
    for found in (sys.executable, shutil.which(name, path=f"{os.defpath}:/usr/local/bin")):
        if found and reachable(Path(found), user.pw_uid, user.pw_gid):
            return found
    pytest.skip(f"{user.pw_name} can reach no {name}")


@as_root
def test_an_ordinary_user_needs_no_environment() -> None:
    nobody = pwd.getpwnam("nobody")
    executable = python_for(nobody)
    identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with python(STARTER, executable=executable, **identity) as child:
        output, _ = child.communicate("end\n", timeout=60)
        assert child.returncode == 0
        assert not Path(output.split()[1]).exists()
