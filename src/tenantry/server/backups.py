"""Backups as a policy: how old each database's last one is, and the command that makes the next one.

`tenantry serve` runs only commands that its own configuration file holds, never one from a database: whoever may
write the directory could otherwise run programs here. A backup counts from its beginning, and once its command has
ended with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry import sql
from tenantry.config import BackupSection, Config, ResolvedDatabase, resolve_all
from tenantry.directory import Store
from tenantry.move.session import libpq_environment
from tenantry.runtime import locks
from tenantry.runtime.connection_errors import ANY_FAILURE
from tenantry.runtime.shielded import run_shielded, stop

logger = logging.getLogger("tenantry")

#: Seconds between two looks at what is due.
LOOK: Final = 30.0
#: Seconds after which a command that failed is tried again, at the latest.
RETRY: Final = 600.0
NEVER: Final = float("inf")


class Policy(NamedTuple):
    """What is wanted of one database."""

    database: ResolvedDatabase
    backup: BackupSection


async def policies(store: Store, config: Config) -> dict[str, Policy]:
    """Every database with a policy: of the file, and those that tenants live in on servers of the file."""
    counts = await store.count_tenants()
    known = resolve_all(config, await store.databases())
    return {
        name: Policy(one, one.section.backup)
        for name, one in known.items()
        if one.section is not None and one.section.backup is not None
        if name in config.databases or counts.get(name)
    }


async def ages(control: Any) -> dict[str, float]:
    """Seconds since the last good backup of each database that has had one."""
    return {row["database"]: row["age"] for row in await control.fetch(sql.query("server/backups"))}


async def measure(store: Store, config: Config) -> dict[str, float]:
    """The age of the last backup of each database with a policy; infinite where there is none."""
    wanted = await policies(store, config)
    if not wanted:
        return {}
    known = await ages(await store.pool())
    return {name: known.get(name, NEVER) for name in wanted}


class Backups:
    """Runs the configured commands when they are due. Without any it does nothing."""

    # Mutable state: _task; _failed: when each database's command failed last, by the monotonic clock.

    def __init__(self, store: Store, config: Config, *, look: float = LOOK) -> None:
        self._store = store
        self._config = config
        self._look = look
        self._failed: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, if a command is configured."""
        sections = [*self._config.databases.values(), *self._config.servers.values()]
        if any(one.backup is not None and one.backup.command is not None for one in sections):
            self._task = asyncio.create_task(self._run(), name="tenantry backups")

    async def close(self) -> None:
        """Stop; a command that runs is ended. Idempotent."""
        task, self._task = self._task, None
        await stop(task)

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except ANY_FAILURE as error:
                logger.warning("backups can't be looked at: %s", type(error).__name__)
            except Exception:  # a mistake of ours must not end the backups
                logger.exception("looking at backups failed")
            await asyncio.sleep(self._look)

    async def round(self) -> None:
        """Look once, and run what is due, one after the other."""
        known = await ages(await self._store.pool())
        for name, policy in (await policies(self._store, self._config)).items():
            failed = self._failed.get(name)
            waits = failed is not None and time.monotonic() - failed < min(RETRY, policy.backup.every)
            if policy.backup.command and known.get(name, NEVER) >= policy.backup.every and not waits:
                await self._back_up(name, policy)

    async def _back_up(self, name: str, policy: Policy) -> None:
        async with self._alone(name) as control:
            # Another process may have made it while we waited for the others' turn.
            if control is None or (await ages(control)).get(name, NEVER) < policy.backup.every:
                return
            started = time.monotonic()
            code = await run(name, policy)
            seconds = round(time.monotonic() - started, 3)
            detail = {"seconds": seconds, "exit": code}
            kind = "backup.done" if code == 0 else "backup.failed"
            await self._store.record(kind, "tenantry serve", database=name, detail=detail)
        if code == 0:
            self._failed.pop(name, None)
            logger.info("backup of %s made in %.0f s", name, seconds)
        else:
            self._failed[name] = time.monotonic()
            logger.error("the backup command of %s ended with %s", name, code)

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[Any]:
        """A connection that holds the database's lock; None: another process has it."""
        control = await asyncpg.connect(
            self._config.control.listen_dsn,
            timeout=5.0,
            statement_cache_size=0,
            server_settings={"application_name": "tenantry backup"},
        )
        try:
            taken = await control.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", locks.BACKING_UP, name)
            yield control if taken else None
        finally:
            control.terminate()


async def run(name: str, policy: Policy) -> int:
    """Run a policy's command through the shell; its exit code. Its output goes where ours goes.

    The command finds the database by libpq's variables (PGHOST, PGDATABASE, PGPASSWORD …), so that
    `pg_dump -Fc -f /backup/acme.dump` is one; TENANTRY_BACKUP_DATABASE is its name in the directory.
    """
    dsn = policy.database.best_dsn
    assert dsn is not None  # a policy stands in a section, and a section has a DSN
    process = await asyncio.create_subprocess_shell(
        policy.backup.command or "",
        env=environment(name, dsn, os.environ),
        stdin=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            await run_shielded(process.wait(), seconds=10.0, name=f"ending the backup of {name}")


def environment(name: str, dsn: str, ours: Mapping[str, str]) -> dict[str, str]:
    """The command's environment: ours without other databases' credentials, and libpq's variables for this one."""
    kept = {key: value for key, value in ours.items() if not key.startswith(("PG", "TENANTRY_"))}
    return {**kept, **libpq_environment(dsn), "TENANTRY_BACKUP_DATABASE": name}
