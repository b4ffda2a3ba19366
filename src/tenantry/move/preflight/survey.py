"""The survey: reads both ends and the journal, and hands values to the rules and the plan."""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any, NamedTuple

from tenantry import sql
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType, Kind
from tenantry.move import distribution
from tenantry.move.catalog import Side
from tenantry.move.context import REFERENCE_NAMES
from tenantry.move.errors import PreflightFinding, SchemaChanged
from tenantry.move.journal import Journal
from tenantry.move.pg_dump import find_pg_dump
from tenantry.move.plan import (
    Creation,
    Mechanism,
    MovePlan,
    Selection,
    select,
    table_plan,
)
from tenantry.move.preflight import estimate as estimating
from tenantry.move.preflight import (
    read_database,
    read_disk_space,
    read_foreign_keys,
    read_hardening,
    read_kits,
    read_logins,
    read_privileges,
    read_publications,
    read_rows,
    read_sequences,
    read_spelling,
    read_surroundings,
)
from tenantry.move.preflight.facts import Access, FailedLogin, Hardening, Kits, MigrationState, PreflightFacts
from tenantry.move.preflight.judge import judge
from tenantry.move.preflight.read_side import read_side
from tenantry.move.preflight.readiness import read_stale
from tenantry.move.session import Connection, Endpoint, session
from tenantry.move.shape import check_unchanged, digest, read_definitions, read_kin, read_shape, read_storage

#: Bytes a second that a copy under the fence is taken to carry, indexes and comparison included, for the
#: estimate of its pause.
_COPY_RATE = 20_000_000
_SMALLEST_PAUSE = 0.5
#: How often the catalogs are read while they change.
_READINGS = 3
_FEEDS = "SELECT pubname::text AS name FROM pg_publication WHERE pubname ~ $1 ORDER BY 1"


class MoveRequest(NamedTuple):
    """What an operator wants moved, and how."""

    tenant: str
    source: Endpoint
    target: Endpoint
    tenancy: Tenancy
    consent: float | None
    """Seconds of pause that the operator agrees to, for a copy under the fence; None: by replication."""
    pg_dump: str | None
    """The program; None: the one that fits is looked for."""
    pause: float
    """Seconds that a replicated move may make the tenant wait."""


async def survey(request: MoveRequest, journal: Journal) -> MovePlan:
    """Read everything, judge it, and decide the plan. Touches nothing.

    The catalogs are read one by one. A migration that ends meanwhile (it is waited for where it has locked a
    table) would leave a plan of old columns for new tables: then all is read again.
    """
    for _ in range(_READINGS):
        plan = await _survey(request, journal)
        if not (plan.shape and plan.storage):
            return plan
        async with session(request.source, "preflight", row_security="on") as at_source:
            try:
                await check_unchanged(plan, at_source)
            except SchemaChanged as error:
                changed = error
            else:
                return plan
    finding = PreflightFinding(
        "schema-changing", changed.reason, "let the migration of the schema end, and plan then"
    )
    return replace(plan, findings=(finding, *plan.findings))


async def _survey(request: MoveRequest, journal: Journal) -> MovePlan:
    """Read everything once."""
    tenant, source, target, tenancy, consent, pg_dump, pause = request
    exists = await read_database.exists(target)
    far = target if exists else target.server
    # A role that does not bypass row-level security can't look at rows, and is refused for it by name.
    async with (
        session(source, "preflight", row_security="on") as at_source,
        session(far, "preflight", row_security="on") as at_target,
    ):
        ours, theirs = await read_side(at_source), await read_side(at_target)
        creation = None if exists else await read_database.read_template(at_source, at_target, target.database)
        if creation is not None:
            theirs = _to_be(theirs, creation)
        around = await read_surroundings.read(at_source)
        there = await read_surroundings.read(at_target)
        application = await read_surroundings.application_roles(at_source, installed=ours.server["installed"])
        if creation is not None:
            there = read_surroundings.of_server(there)
            creation = read_surroundings.dressed(
                creation,
                around,
                there,
                set(theirs.server["roles"]),
                application=application,
                setting=tenancy.setting,
            )
        if ours.local is not None:
            tenancy = replace(tenancy, id_type=IdType(ours.local.id_type))
        assert ours.details is not None  # it was read
        selection = select(ours.tables, tenant_tables(ours.details, tenancy))
        mechanism = Mechanism.REPLICATION if consent is None else Mechanism.COPY
        managed = await distribution.read(at_source, [table.quoted for table, _ in selection.tenant])
        tables = await read_rows.table_plans(
            at_source, tenant, selection, looks=_sees_rows(ours), distributed=managed
        )
        if mechanism is Mechanism.COPY:
            tables = tuple(replace(table, identity=None) for table in tables)
        references = tuple(table_plan(t, "", int(t.rows)) for t in selection.reference)
        if target.kind is Kind.SHARED:
            references = ()  # the shared database has its own
        once = tuple(table_plan(t, "", int(t.rows)) for t in selection.once)
        block = await journal.peek_id_block()
        sequences, colliding = read_sequences.sequence_plans(ours, selection, target.kind, block)
        if target.kind is Kind.SHARED:
            colliding = await read_sequences.collisions(
                journal, tenant, source, target, at_target if exists else None, selection, sequences
            )
        names = [t.quoted for t in (*tables, *references)]
        shape = await read_shape(at_source, names)
        kin = await read_kin(at_source, [t.column for t in tables], [t.quoted for t in tables])
        size = sum(t.bytes for t in (*tables, *references))
        estimate = _SMALLEST_PAUSE + size / _COPY_RATE
        looks = exists and _sees_rows(theirs)
        guarded = (Access(), Access())
        if exists:
            guarded = await read_privileges.read(
                at_source, at_target, (ours, theirs), names, [s.quoted for s in sequences]
            )
        reads = _sees_rows(ours) and _owns_all(selection)
        shaped = await read_definitions(at_target, names) if exists else ()
        program = pg_dump or await find_pg_dump(ours.server["version"] // 10000)
        known = {table.quoted for table in theirs.tables}
        facts = PreflightFacts(
            tenant=tenant,
            source_name=source.name,
            target_name=target.name,
            target_kind=target.kind,
            source=ours,
            target=theirs,
            selection=selection if target.kind is Kind.DEDICATED else selection._replace(reference=()),
            mechanism=mechanism,
            consent=consent,
            estimate=estimate,
            source_home=await _home(at_source, tenant, ours),
            source_definitions=await read_definitions(at_source, names) if shaped else (),
            target_definitions=shaped,
            occupied=await read_rows.occupied(
                at_target, tenant, target.kind, [table for table in tables if table.quoted in known]
            )
            if looks
            else (),
            bypassing=await _bypassing(at_source, names),
            bypassing_open=tuple(row["who"] for row in await at_source.fetch(sql.query("move/bypassing_open"))),
            colliding=colliding,
            null_tenants=await read_rows.null_tenants(at_source, tables) if reads else (),
            # A dedicated database has one tenant.
            cross_tenant_keys=await read_foreign_keys.read(at_source, tenant, selection)
            if reads and source.kind is Kind.SHARED
            else (),
            published=(
                *await read_publications.read(at_source, source.name, tables),
                *(await read_publications.read(at_target, target.name, tables) if exists else ()),
            ),
            failed_logins=await _failed_logins(
                (source, target),
                (at_source, at_target if exists else None),
                None if shaped else program,
                mechanism,
            ),
            distributed=(
                *((source.name, table) for table in await distribution.read(at_source, names)),
                *((target.name, table) for table in (await distribution.read(at_target, names) if exists else ())),
            ),
            unguarded=await _unguarded(at_source, selection, ours),
            feeds=tuple(row["name"] for row in await at_target.fetch(_FEEDS, REFERENCE_NAMES)) if exists else (),
            source_access=guarded[0],
            target_access=guarded[1],
            pg_dump=program,
            stale=await read_stale(at_source, selection),
            misspelt=await read_spelling.read(at_source, tenant, tenancy.id_type, selection)
            if reads and ours.local is not None
            else (),
            source_surroundings=around,
            target_surroundings=there,
            application_roles=application,
            target_database=target.database,
            creation=creation,
            migrations=tuple(
                MigrationState(**row) for row in await journal.migrations([source.name, target.name])
            ),
            source_kits=await read_kits.read(at_source, tenant),
            target_kits=await read_kits.read(at_target, tenant) if exists else Kits(),
            source_hardening=await read_hardening.read(at_source, source),
            target_hardening=await read_hardening.read(at_target, target)
            if exists
            else Hardening(has_key=bool(target.key)),
            disk_space=await read_disk_space.read(at_target, target, target.database, size),
        )
        storage = await read_storage(at_source, [t.quoted for t in tables])
    consented = None if mechanism is Mechanism.REPLICATION else max(consent or 0.0, estimate)
    home = facts.source_home
    return MovePlan(
        id="m" + secrets.token_hex(5),
        tenant=tenant,
        source=source.name,
        target=target.name,
        source_kind=source.kind,
        target_kind=target.kind,
        mechanism=mechanism,
        epoch=home[1] if home else 0,
        setting=ours.local.setting if ours.local else "",
        id_type=ours.local.id_type if ours.local else "",
        tables=tables,
        references=references,
        once=once if facts.load_schema else (),
        sequences=sequences,
        load_schema=facts.load_schema,
        shape=digest([*shape, *kin]),
        storage=storage,
        pause=pause if consented is None else consented,
        findings=judge(facts),
        creation=creation,
        disk_space=facts.disk_space,
        estimate=estimating.estimate(
            size,
            sum(t.rows for t in (*tables, *references)),
            await journal.history(source.name),
            cap=pause,
            consented=None if consented is None else estimate,
        ),
    )


def _to_be(server: Side, creation: Creation) -> Side:
    """The end that the target will be once it is made on this server: empty, and like its model."""
    made: dict[str, Any] = {
        "encoding": creation.encoding,
        "collate": creation.collate,
        "ctype": creation.ctype,
        "provider": creation.provider,
        "locale": creation.locale,
        "may_create": True,
        "extensions": [],
        "named": False,
        "installed": False,
    }
    return replace(server, server={**server.server, **made}, tables=(), sequences=(), local=None, details=None)


async def _failed_logins(
    ends: tuple[Endpoint, Endpoint],
    sessions: tuple[Connection, Connection | None],
    program: str | None,
    mechanism: Mechanism,
) -> tuple[FailedLogin, ...]:
    """Let each program of the move log in as it will. A target that is to be made can't be tried yet."""
    (source, target), (at_source, at_target) = ends, sessions
    failed = await read_logins.by_pg_dump(program, source) if program else ()
    if mechanism is Mechanism.REPLICATION and at_target is not None:
        failed += await read_logins.by_subscription(at_target, source)
        failed += await read_logins.by_subscription(at_source, target)
    return failed


def _sees_rows(side: Side) -> bool:
    return bool(side.server["superuser"] or side.server["bypasses"])


def _owns_all(selection: Selection) -> bool:
    return all(table.ours for table, _ in selection.tenant)


async def _unguarded(connection: Connection, selection: Selection, side: Side) -> tuple[str, ...]:
    """Tables of the tenant that the fence would not hold for everybody."""
    if not side.server["installed"]:
        return ()  # refused for that
    names = [table.quoted for table, _ in selection.tenant]
    return tuple(row["table"] for row in await connection.fetch(sql.query("catalog/unguarded"), names))


async def _home(at_source: Connection, tenant: str, ours: Side) -> tuple[str, int, bool] | None:
    if ours.local is None:
        return None
    row = await at_source.fetchrow(
        "SELECT database, epoch, suspended FROM tenantry.placement WHERE tenant = $1", tenant
    )
    return None if row is None else (row["database"], row["epoch"], row["suspended"])


async def _bypassing(at_source: Connection, names: list[str]) -> tuple[str, ...]:
    rows = await at_source.fetch(sql.query("move/bypassing"), names)
    return tuple(row["who"] for row in rows)
