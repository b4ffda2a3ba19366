"""Whether a database could take part in moves at all, before anybody is to be moved: `tenantry check --moves`."""

from __future__ import annotations

from typing import Final

from tenantry import sql
from tenantry.catalog.read import read_tables
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import Kind
from tenantry.move.errors import PreflightFinding
from tenantry.move.pg_dump import find_pg_dump
from tenantry.move.plan import DiskSpace, Mechanism, Selection, select
from tenantry.move.preflight import read_logins
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.move.preflight.judge import Check
from tenantry.move.preflight.read_side import read_side
from tenantry.move.preflight.rules_general import (
    hidden,
    logins,
    pooler,
    privileges,
    resources,
    servers,
    standby,
    subscriptions,
)
from tenantry.move.preflight.rules_source import stale_statistics, tables
from tenantry.move.session import Connection, Endpoint, session

#: What holds for either end of a move, whoever moves.
_ANY_END: Final[tuple[Check, ...]] = (
    pooler,
    standby,
    privileges,
    servers,
    resources,
    subscriptions,
    hidden,
    logins,
)
#: What holds for a database that tenants leave.
_SOURCE: Final[tuple[Check, ...]] = (tables, stale_statistics)


async def readiness(endpoint: Endpoint, tenancy: Tenancy) -> tuple[PreflightFinding, ...]:
    """What a move from or to this database would be refused for today, or told. Touches nothing.

    Looked at are the server and its free slots, senders and workers, the mover's role and its log-in, timeouts
    that end a subscription's worker, and of a shared database its tables: replica identities, and statistics.
    """
    async with session(endpoint, "check", row_security="on") as connection:
        side = await read_side(connection)
        selection = select(side.tables, tenant_tables(await read_tables(connection), tenancy))
        program = await find_pg_dump(side.server["version"] // 10000)
        shared = endpoint.kind is Kind.SHARED
        facts = PreflightFacts(
            tenant="",
            source_name=endpoint.name,
            target_name=endpoint.name,
            target_kind=Kind.DEDICATED,
            source=side,
            target=side,
            selection=selection,
            mechanism=Mechanism.REPLICATION,
            consent=None,
            estimate=0.0,
            source_home=None,
            source_definitions=(),
            target_definitions=(),
            occupied=(),
            bypassing=(),
            bypassing_open=(),
            colliding=(),
            null_tenants=(),
            pg_dump=program,
            creation=None,
            disk_space=DiskSpace(None, "", 0, 0),
            failed_logins=await read_logins.by_pg_dump(program, endpoint) if program and shared else (),
            stale=await read_stale(connection, selection),
        )
    rules = (*_ANY_END, *(_SOURCE if shared else ()))
    found = dict.fromkeys(finding for rule in rules for finding in rule(facts))
    if shared and program is None:
        major = side.server["version"] // 10000
        found[
            PreflightFinding(
                "no-pg-dump",
                f"no pg_dump of {major} or newer was found here: a move could not bring the schema",
                f"install postgresql-client-{major}",
            )
        ] = None
    return tuple(found)


async def read_stale(connection: Connection, selection: Selection) -> tuple[str, ...]:
    """The tenants' tables whose statistics are no guide to their rows."""
    names = [table.quoted for table, _ in selection.tenant if not table.foreign]
    return tuple(row["name"] for row in await connection.fetch(sql.query("move/statistics"), names))
