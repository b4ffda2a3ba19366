"""Backups as a policy: how old each database's last one is, and the command that makes the next one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Collection, Mapping
from typing import Any, Final, NamedTuple

from tenantry import sql
from tenantry.config import BackupSection, Config, ResolvedDatabase, resolve_all
from tenantry.directory import Store
from tenantry.errors import UnknownDatabase
from tenantry.move.session import libpq_environment
from tenantry.operations.context import Context
from tenantry.runtime import locks
from tenantry.runtime.shielded import run_shielded

NEVER: Final = float("inf")


class BackupPolicy(NamedTuple):
    """What is wanted of one database."""

    database: ResolvedDatabase
    backup: BackupSection


async def policies(store: Store, config: Config) -> dict[str, BackupPolicy]:
    """Every database with a policy: of the file, and those that tenants live in on servers of the file."""
    counts = await store.count_tenants()
    known = resolve_all(config, await store.databases())
    return {
        name: BackupPolicy(one, one.section.backup)
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


class BackupDone(NamedTuple):
    """A backup that was tried."""

    database: str
    exit: int
    """The command's exit code; 0: it was made."""
    seconds: float


class Backups:
    """`Operations.backups`: what the policies want, and running what is due.

    Only commands of the configuration are run, never one from a database: whoever may write the directory could
    otherwise run programs here. A backup counts from its beginning, and once its command has ended with 0.

    Raises (every method): DatabaseUnavailable for "control" when the control database doesn't answer.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def due(self) -> tuple[str, ...]:
        """The databases whose policy has a command and whose last good backup is older than it allows."""
        wanted = await policies(self._context.store, self._context.config)
        async with self._context.pool() as control:
            known = await ages(control)
        return tuple(
            name
            for name, policy in sorted(wanted.items())
            if policy.backup.command and known.get(name, NEVER) >= policy.backup.every
        )

    async def run(self, names: Collection[str] | None = None) -> AsyncIterator[BackupDone]:
        """Run what is due, one after the other. A backup that another process is making is left to it.

        Cancelled, it ends the command that runs.

        Args:
            names: back these up now, due or not; None: what is due.

        Raises:
            UnknownDatabase: one of the names has no policy with a command.
        """
        wanted = await policies(self._context.store, self._context.config)
        runnable = [name for name, policy in sorted(wanted.items()) if policy.backup.command]
        for name in names or ():
            if name not in runnable:
                raise UnknownDatabase(name, runnable, "databases.NAME.backup.command says what makes a backup")
        for name in await self.due() if names is None else sorted(names):
            done = await self._back_up(name, wanted[name], anyway=names is not None)
            if done is not None:
                yield done

    async def _back_up(self, name: str, policy: BackupPolicy, *, anyway: bool) -> BackupDone | None:
        async with self._alone(name) as control:
            # Another process may have made it while we waited for the others' turn.
            if control is None or (not anyway and (await ages(control)).get(name, NEVER) < policy.backup.every):
                return None
            started = time.monotonic()
            code = await run(name, policy)
            done = BackupDone(name, code, round(time.monotonic() - started, 3))
            kind = "backup.done" if code == 0 else "backup.failed"
            detail = {"seconds": done.seconds, "exit": code}
            await self._context.store.record(kind, self._context.actor, database=name, detail=detail)
        return done

    @contextlib.asynccontextmanager
    async def _alone(self, name: str) -> AsyncIterator[Any]:
        """A connection that holds the database's lock; None: another process has it."""
        async with self._context.control() as control:
            taken = await control.fetchval("SELECT pg_try_advisory_lock($1, hashtext($2))", locks.BACKING_UP, name)
            yield control if taken else None


async def run(name: str, policy: BackupPolicy) -> int:
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
