"""No password is ever shown, whatever fails, whichever command, in words or in JSON."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import typer.main

from tenantry.cli import build
from tests.integration.cli.conftest import CANARY, Fleet

#: They run until they are stopped; tests of their own look at what they say.
ENDLESS = {("demo",), ("serve",)}

#: What the commands that want more than names are given.
MORE = {
    ("tenants", "import"): ["--from", "public.students.tenant_id", "--database", "shared"],
    ("tenants", "add"): ["--database", "shared"],
    ("databases", "add"): ["--kind", "shared", "--dsn-env", "TENANTRY_NEW_DSN"],
}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Every command that ends, with arguments that it accepts."""
    for name, inner in sorted(group.commands.items()):
        here = (*path, name)
        if hasattr(inner, "commands"):
            yield from commands(inner, here)
        elif here not in ENDLESS:
            yield here, [*arguments(inner), *MORE.get(here, [])]


def arguments(command: Any) -> list[str]:
    """A value for everything that is required, and a yes."""
    words = ["acme" for one in command.params if one.param_type_name == "argument" and one.required]
    for option in command.params:
        if option.param_type_name == "option":
            if "--yes" in option.opts:
                words.append("--yes")
            elif option.required and option.name not in ("kind", "dsn_env"):
                words += [option.opts[0], "acme"]
    return words


EVERY = list(commands(typer.main.get_command(build())))


@pytest.fixture
def hang_up() -> Iterator[int]:
    """A port where every caller is cut off after its first words."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        stopping = threading.Event()

        def answer() -> None:
            while not stopping.is_set():
                try:
                    caller, _ = listening.accept()
                except OSError:
                    return
                caller.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        stopping.set()
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def broken(fleet: Fleet, port: int) -> dict[str, str]:
    """DSNs that fail, each in its own way, all with the canary."""
    host = f"{fleet.server.host}:{fleet.server.port}"
    return {
        "nobody listens": f"postgresql://postgres:{CANARY}@127.0.0.1:1/x",
        "no such host": f"postgresql://postgres:{CANARY}@no-such-host.invalid/x",
        "no such database": f"postgresql://postgres:{CANARY}@{host}/nothing",
        "no such role": f"postgresql://nobody_here:{CANARY}@{host}/postgres",
        "cut off": f"postgresql://postgres:{CANARY}@127.0.0.1:{port}/x",
        "no TLS there": f"postgresql://postgres:{CANARY}@{host}/postgres?sslmode=require",
        "no such certificate": f"postgresql://u:{CANARY}@{host}/postgres?sslmode=verify-full&sslrootcert=/no/{CANARY}",
        "torn by #": f"postgresql://postgres:se#{CANARY}@{host}/postgres",
        "torn by /": f"postgresql://postgres:se/{CANARY}@{host}/postgres",
        "torn by :": f"postgresql://postgres:{CANARY}:{CANARY}@{host}:{CANARY}/postgres",
        "not a URL": f"host=127.0.0.1 password={CANARY} port=1",
        "just the password": CANARY,
        "another scheme": f"mysql://root:{CANARY}@{host}/postgres",
        "a password in the query": f"postgresql://postgres@127.0.0.1:1/x?password={quote(CANARY)}",
    }


def all_dsns(fleet: Fleet) -> list[str]:
    """The variables that the file reads."""
    return [name for name in fleet.environment if name.endswith("_DSN")]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pg", ["pg18"], indirect=True)
def test_no_command_shows_a_password_when_nothing_can_be_reached(fleet: Fleet, hang_up: int) -> None:
    assert len(EVERY) >= 15
    for dsn in broken(fleet, hang_up).values():
        for name in all_dsns(fleet):
            fleet.set(name, dsn)
        for command, words in EVERY:
            ran = fleet.run("--json", *command, *words)
            assert ran.code != 0, (command, ran)
            assert ran.code != 70, (command, ran)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("pg", ["pg18"], indirect=True)
def test_no_command_shows_a_password_when_only_the_data_can_not_be_reached(installed: Fleet, hang_up: int) -> None:
    installed.ok("tenants", "add", "acme", "--database", "shared")
    for why, dsn in broken(installed, hang_up).items():
        for name in all_dsns(installed):
            if name != "TENANTRY_CONTROL_DSN":
                installed.set(name, dsn)
        for command, words in EVERY:
            assert installed.run(*command, *words).code != 70, (why, command)


@pytest.mark.parametrize("pg", ["pg18"], indirect=True)
def test_no_command_shows_a_password_when_all_is_well(installed: Fleet) -> None:
    for command, words in EVERY:
        assert installed.run("--json", *command, *words).code != 70, command
    events = installed.server.psql("SELECT * FROM tenantry.event", installed.control)
    assert events
    assert CANARY not in events


@pytest.mark.parametrize("pg", ["pg18"], indirect=True)
def test_a_traceback_that_was_asked_for_has_no_password(fleet: Fleet) -> None:
    fleet.set("TENANTRY_CONTROL_DSN", f"postgresql://postgres:{CANARY}@127.0.0.1:1/x")
    fleet.monkeypatch.setenv("TENANTRY_TRACEBACK", "1")
    from tenantry.cli import main

    fleet.capture.readouterr()
    assert main(["tenants", "list"]) == 3
    seen = fleet.capture.readouterr()
    assert "Traceback" in seen.err
    assert CANARY not in seen.err + seen.out


def test_a_credential_given_where_a_name_is_wanted_is_refused_and_not_repeated(installed: Fleet) -> None:
    dsn = f"postgresql://app:{CANARY}@db/shop"
    for option in ("--dsn-env", "--dsn-file"):
        ran = installed.run("databases", "add", "new", "--kind", "shared", option, dsn)
        assert ran.code == 2
    assert "new" not in installed.ok("databases", "list").out
