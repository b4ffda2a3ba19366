"""Looks at a database that exists, proposes, and writes the files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tenantry.catalog.read import read
from tenantry.catalog.values import PUBLIC, Catalog
from tenantry.config import check_dsn
from tenantry.errors import DatabaseUnavailable, OperationRefused
from tenantry.operations.context import connected, why
from tenantry.operations.quickstart.files import File, NextStep, Owner, Roles, files_of, roles_named, steps_of
from tenantry.operations.quickstart.proposal import Proposal, propose
from tenantry.runtime.connection_errors import BROKEN

_FREE = "SELECT rolname FROM pg_roles WHERE rolname = ANY($1)"
_OWNER = (
    "SELECT rolname::text, rolsuper OR rolbypassrls, rolsuper OR rolcreaterole, current_database()::text, "
    "pg_is_in_recovery() FROM pg_roles WHERE rolname = current_user"
)


@dataclass(frozen=True, slots=True)
class Quickstart:
    """What was found, and what would be written."""

    database: str
    proposal: Proposal
    roles: Roles
    files: tuple[File, ...]
    steps: tuple[NextStep, ...]


async def look(
    dsn: str,
    *,
    column: str | None = None,
    tables: Mapping[str, str] | None = None,
    setting: str | None = None,
    prefix: str | None = None,
    overwrite: bool = False,
    timeout: float = 10.0,
) -> Quickstart:
    """Look at a database and propose. Changes nothing.

    Args:
        dsn: of the role that owns the tables.
        column, tables, setting: as of `propose`.
        prefix: of the roles' names; None: the database's name.
        overwrite: the roles may be there already; roles.sql gives them new passwords.
        timeout: seconds for connecting.

    Raises:
        ConfigError: the DSN can't be used.
        DatabaseUnavailable: it does not answer.
        OperationRefused: it can't be told how tenants are told apart, or the role or the names won't do.
    """
    checked = check_dsn(dsn, key="dsn")
    async with connected("the database", checked, timeout) as connection:
        try:
            [(role, bypasses, makes_roles, database, standby)] = await connection.fetch(_OWNER)
            owner = Owner(role, bypasses, makes_roles)
            if standby:
                raise OperationRefused("this is a standby: name the primary")
            catalog = await read(connection)
            proposal = propose(catalog, column=column, tables=tables, setting=setting)
            _refuse_strangers(catalog, proposal, role)
            roles = roles_named(prefix or database)
            public = catalog.privileges.get(("schema", catalog.schemas.get("public", 0)), {})
            open_schema = "CREATE" in public.get(PUBLIC, ())
            if not overwrite:
                await _refuse_taken(connection, roles)
        except (asyncpg.PostgresError, *BROKEN) as error:
            raise DatabaseUnavailable("the database", why(error, ())) from error
    made = files_of(
        proposal, database=database, dsn=dsn.strip(" "), owner=owner, roles=roles, open_schema=open_schema
    )
    return Quickstart(database, proposal, roles, made, steps_of(proposal, owner))


def write(quickstart: Quickstart, folder: Path, *, overwrite: bool = False) -> tuple[Path, ...]:
    """Write the files; all of them or, where one is there already, none.

    Args:
        overwrite: what is there already may be replaced.

    Raises:
        OperationRefused: a file is there already, or can't be written.
    """
    paths = [folder / file.path for file in quickstart.files]
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there and not overwrite:
        raise OperationRefused(
            f"nothing was written: {', '.join(there)} would be overwritten. Name another --folder, or pass --force"
        )
    for file, path in zip(quickstart.files, paths, strict=True):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write(path, file)
        except OSError as error:
            raise OperationRefused(f"{path} can't be written: {error.strerror}") from error
    return tuple(paths)


def _write(path: Path, file: File) -> None:
    """Beside it, then into its place: what is there is whole at every moment."""
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)  # of a run that was broken off; nobody else's file is written to
    mode = 0o600 if file.private else 0o666
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as out:
        out.write(file.text)
    beside.replace(path)


def _refuse_strangers(catalog: Catalog, proposal: Proposal, role: str) -> None:
    """The role must be able to change the tables: `rls apply` and moves are done by it."""
    known = catalog.roles.get(role)
    if known is not None and known.superuser:
        return
    may = {role, *catalog.acts_as(role)}
    others = sorted({r.owner for r in catalog.relations.values() if r.key in proposal.tables} - may)
    if others:
        raise OperationRefused(
            f"role {role} does not own the tables ({', '.join(others)} does): pass the DSN of the role that runs "
            "your migrations; it stays with you, services get roles of their own"
        )


async def _refuse_taken(connection: Any, roles: Roles) -> None:
    taken = [row["rolname"] for row in await connection.fetch(_FREE, list(roles))]
    if taken:
        raise OperationRefused(
            f"role {', '.join(taken)} is there already, perhaps somebody else's: choose other names by --prefix, "
            "or pass --force to give it a new password"
        )
