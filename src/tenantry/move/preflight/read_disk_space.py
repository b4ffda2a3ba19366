"""The target's disk space. PostgreSQL can't tell it, so it is known only where we can look or were told."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import asyncpg

from tenantry import sql
from tenantry.move.plan import DiskSpace
from tenantry.move.session import Connection, Endpoint


async def read(connection: Connection, target: Endpoint, name: str, needed: int) -> DiskSpace:
    """The room for the database `name` on the server of `there`: the tightest of what is known.

    Args:
        needed: bytes that the copy is likely to take.
    """
    server = (await connection.fetch(sql.query("move/server_room"), name))[0]
    known: list[tuple[int, str]] = []
    if target.disk is not None:
        known.append((target.disk - server["used"], "the configured limit of the database"))
    if target.server_disk is not None:
        known.append((target.server_disk - (server["used_by_all"] or 0), "the configured limit of its server"))
    why = f"unknown: the mover's role may not ask where {target.name} keeps its files, and no limit is configured"
    if server["may_ask"]:
        free, why = await _on_disk(connection, target, server["place"])
        if free is not None:
            known.append((free, why))
    free, origin = min(known) if known else (None, why)
    return DiskSpace(free if free is None else max(free, 0), origin, needed, server["log"])


async def _on_disk(connection: Connection, target: Endpoint, place: str) -> tuple[int | None, str]:
    unknown = f"unknown: the disk of {target.name} is another machine's, and no limit is configured"
    try:
        row = (await connection.fetch(sql.query("move/data_directory")))[0]
    except asyncpg.InsufficientPrivilegeError:
        return None, unknown
    free = await asyncio.to_thread(free_space, Path(row["folder"]), row["changed"], Path(place or row["folder"]))
    return (None, unknown) if free is None else (free, "the file system of its data directory")


def free_space(folder: Path, changed: int, place: Path) -> int | None:
    """Free bytes where `place` lies. None unless `folder` here is the server's: a path may exist on two machines.

    `changed`: when the server says its folder changed last, in seconds since 1970.
    """
    try:
        if int(folder.stat().st_mtime) != changed:
            return None
        space = os.statvfs(place)
    except OSError:
        return None
    return space.f_bavail * space.f_frsize
