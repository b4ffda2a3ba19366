"""Runs the attacks: one transaction for each table, rolled back, with a savepoint for each attack."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import asyncpg

from tenantry.isolation.catalog import Catalog, Constraint, Function, Relation
from tenantry.isolation.facts import Facts
from tenantry.isolation.plan.views import readable
from tenantry.isolation.policy import Tenancy
from tenantry.isolation.probe.attacks import (
    Attack,
    Expect,
    Row,
    Target,
    attacks,
    refer,
    through_function,
    through_view,
    unbound,
)
from tenantry.isolation.probe.report import Attempt, Outcome, ProbeReport
from tenantry.runtime.sqltext import identifier

Connection: TypeAlias = "asyncpg.Connection[Any]"
Bind = Callable[[Connection, str], Awaitable[None]]


async def probe(
    connection: Connection,
    catalog: Catalog,
    tenancy: Tenancy,
    role: str,
    *,
    bind: Bind | None = None,
    seconds: float = 5.0,
    progress: Callable[[str], None] | None = None,
) -> ProbeReport:
    """Attack every tenant table, view and function that shows tenants' rows.

    Nothing is left behind but the transaction ids that were used: every transaction is rolled back, no
    sequence is drawn from, and what could call out of the database (functions with side effects) is not
    called.

    Args:
        connection: of a role that bypasses row-level security and may `SET ROLE` to `role`: it looks for
            the rows to attack, and afterwards whether they are still what they were.
        role: the application role.
        bind: binds a tenant in the current transaction, as the application does. By default
            `tenantry.bind` where it is installed, else the setting itself.
        seconds: for one statement; a statement that takes longer counts as untried.
        progress: told each table's name.
    """
    facts = Facts(catalog, tenancy, role)
    prober = _Prober(connection, facts, role, bind or _binder(facts), seconds)
    attempts: list[Attempt] = []
    for relation, _ in facts.tenant_tables:
        if progress is not None:
            progress(relation.key)
        attempts.extend([attempt async for attempt in prober.table(relation)])
    for view in facts.views:
        attempts.extend([attempt async for attempt in prober.view(view)])
    for function in catalog.functions.values():
        attempts.extend([attempt async for attempt in prober.function(function)])
    return ProbeReport(tuple(attempts), tuple(relation.key for relation, _ in facts.tenant_tables))


def _binder(facts: Facts) -> Bind:
    names = {f.name for f in facts.catalog.functions.values() if f.schema == "tenantry"}

    async def bind(connection: Connection, tenant: str) -> None:
        if "bind" in names:
            await connection.execute("SELECT tenantry.bind($1)", tenant)
        else:
            await connection.execute("SELECT set_config($1, $2, true)", facts.tenancy.setting, tenant)

    return bind


class _Prober:
    """One connection, one role."""

    # Mutable state: _targets, the rows found for each table.

    def __init__(self, connection: Connection, facts: Facts, role: str, bind: Bind, seconds: float) -> None:
        self.connection = connection
        self.facts = facts
        self.role = role
        self.bind = bind
        self.seconds = seconds
        self._targets: dict[int, Target | str] = {}

    async def table(self, relation: Relation) -> AsyncIterator[Attempt]:
        """Every attack on one table."""
        target = await self.target(relation)
        if isinstance(target, str):
            yield Attempt(relation.key, "all", Outcome.UNTRIED, target)
            return
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            refused = await self._prepare(target)
            if refused is not None:
                yield Attempt(relation.key, "all", Outcome.UNTRIED, refused)
                return
            tried = [*attacks(self.facts, target), *unbound(self.facts, target)]
            for attack in tried:
                yield await self._attempt(relation.key, target, attack)
            for key in self.facts.catalog.constraints.get(relation.oid, ()):
                attempt = await self._reference(target, key)
                if attempt is not None:
                    yield attempt
        finally:
            await transaction.rollback()

    async def view(self, view: Relation) -> AsyncIterator[Attempt]:
        """Read a view as somebody else."""
        if not readable(self.facts, view):
            yield Attempt(view.key, "read view", Outcome.HELD, "the role may not read it")
            return
        target = await self._first_target(self._bases(view))
        names = {column.name for column in self.facts.survey.tenants.values()}
        shown = [c.name for c in self.facts.catalog.columns.get(view.oid, ()) if c.name in names]
        if target is None or not shown:
            why = "it does not show the tenant column" if not shown else "it has no rows to attack"
            yield Attempt(view.key, "read view", Outcome.UNTRIED, why)
            return
        yield await self._alone(view.key, target, through_view(view, shown[0], target.victim.tenant))

    async def function(self, function: Function) -> AsyncIterator[Attempt]:
        """Call what runs as its owner and returns rows of a tenant table; say what can't be called."""
        executable = self.facts.catalog.allowed(self.role, "function", function.oid)
        if not function.definer or function.schema == "tenantry" or "EXECUTE" not in executable:
            return
        column = self.facts.survey.tenants.get(function.returns)
        if column is None or function.inputs or function.volatility == "v":
            if function.result not in ("trigger", "event_trigger"):
                why = "it takes arguments, may have effects, or returns no tenant table's rows"
                yield Attempt(function.key, "call", Outcome.UNTRIED, why)
            return
        target = await self.target(self.facts.catalog.relations[function.returns])
        if isinstance(target, Target):
            name = f"{identifier(function.schema)}.{identifier(function.name)}()"
            attack = through_function(name, column.name, target.victim.tenant)
            yield await self._alone(function.key, target, attack)

    async def target(self, relation: Relation) -> Target | str:
        """A row to attack and whom to attack it as, or why there is none."""
        if relation.oid not in self._targets:
            try:
                self._targets[relation.oid] = await self._find(relation)
            except (asyncpg.InsufficientPrivilegeError, asyncpg.QueryCanceledError) as error:
                self._targets[relation.oid] = f"no row to attack could be looked for: {error}"
        return self._targets[relation.oid]

    async def _find(self, relation: Relation) -> Target | str:
        column = self.facts.survey.tenants[relation.oid]
        name = identifier(column.name)
        query = (
            "SELECT tableoid::bigint AS table, ctid::text AS place, "  # noqa: S608  every part is quoted
            f"{name}::text AS tenant, to_jsonb(t) AS values FROM {relation.sql} AS t WHERE "
        )
        async with self.connection.transaction():
            await self.connection.execute(
                f"SET LOCAL row_security = off; SET LOCAL statement_timeout = {int(self.seconds * 1000)}"
            )
            first = await self.connection.fetchrow(f"{query}{name} IS NOT NULL LIMIT 1")
            if first is None:
                return "it has no rows of a tenant to attack"
            other = await self.connection.fetchrow(f"{query}{name}::text <> $1 LIMIT 1", first["tenant"])
        victim = _row(first)
        if other is not None:
            return Target(relation, column, victim, other["tenant"], _row(other))
        attacker = next(
            (
                known.victim.tenant
                for known in self._targets.values()
                if isinstance(known, Target) and known.victim.tenant != victim.tenant
            ),
            None,
        )
        if attacker is None:
            return "no second tenant has any row"
        return Target(relation, column, victim, attacker, None)

    async def _prepare(self, target: Target) -> str | None:
        """Become the role, bound to the attacker; says why that can't be done or proves nothing."""
        await self.connection.execute(
            f"SET LOCAL statement_timeout = {int(self.seconds * 1000)}; SET LOCAL lock_timeout = 500; "
            f"SET LOCAL row_security = on; SET LOCAL ROLE {identifier(self.role)}"
        )
        await self.connection.execute("SAVEPOINT probe")
        try:
            await self.bind(self.connection, target.attacker)
            if target.own is not None and not await self._sees(target.own, target.relation):
                return "its tenant does not see its own row, so nothing would be proven"
        except asyncpg.InsufficientPrivilegeError:
            await self.connection.execute("ROLLBACK TO probe")  # each attack meets it again
        except asyncpg.PostgresError as error:
            await self.connection.execute("ROLLBACK TO probe")
            return f"the tenant {target.attacker} can't be bound here: {error}"
        return None

    async def _sees(self, row: Row, relation: Relation) -> bool:
        found = await self.connection.fetchval(
            f"SELECT count(*) FROM {relation.sql} WHERE tableoid = $1::bigint::oid AND ctid = $2::text::tid",  # noqa: S608  every part is quoted
            row.table,
            row.place,
        )
        return bool(found)

    async def _alone(self, name: str, target: Target, attack: Attack) -> Attempt:
        transaction = self.connection.transaction()
        await transaction.start()
        try:
            async with self.connection.transaction():
                found = await self.connection.fetchval(attack.statements[-1])
            if not found:
                return Attempt(name, attack.name, Outcome.UNTRIED, "it shows no row to attack")
            refused = await self._prepare(target)
            if refused is not None:
                return Attempt(name, attack.name, Outcome.UNTRIED, refused)
            return await self._attempt(name, target, attack)
        finally:
            await transaction.rollback()

    async def _attempt(self, name: str, target: Target, attack: Attack) -> Attempt:
        await self.connection.execute("SAVEPOINT attack")
        try:
            outcome, detail = await self._try(target, attack)
        except asyncpg.PostgresError as error:
            outcome, detail = _judge_error(attack, error, self._fires(target))
        await self.connection.execute("ROLLBACK TO attack")
        return Attempt(name, attack.name, outcome, detail)

    async def _try(self, target: Target, attack: Attack) -> tuple[Outcome, str]:
        *before, last = attack.statements
        if attack.expect is Expect.UNREFERRED:
            tag = await self.connection.execute(before[0])
            if tag.endswith(" 0"):
                return Outcome.UNTRIED, "its own row can't be changed"
            await self.connection.execute(last)
            return Outcome.BROKEN, "a row now refers to another tenant's row"
        for statement in before:
            await self.connection.execute(statement)
        match attack.expect:
            case Expect.ZERO:
                found = await self.connection.fetchval(last)
                return _found(found == 0, f"{found} rows")
            case Expect.NOTHING:
                rows = await self.connection.fetch(last)
                return _found(not rows, f"{len(rows)} rows")
            case Expect.COPIES_NOTHING:
                size = await self._copied(last)
                return _found(size == 0, f"{size} bytes")
            case Expect.NO_ROWS:
                tag = await self.connection.execute(last)
                return _found(tag.endswith(" 0"), tag)
            case Expect.REFUSED:
                tag = await self.connection.execute(last)
                if tag.endswith(" 0") and tag.startswith("UPDATE"):
                    return Outcome.UNTRIED, "its own row can't be changed"
                return Outcome.BROKEN, tag
        await self.connection.execute(last)
        await self.connection.execute("RESET ROLE")
        same = await self._sees(target.victim, target.relation)
        return _found(same, "the other tenant's row was changed")

    async def _copied(self, query: str) -> int:
        size = 0

        async def count(data: bytes) -> None:
            nonlocal size
            size += len(data)

        await self.connection.copy_from_query(query, output=count)
        return size

    async def _reference(self, target: Target, key: Constraint) -> Attempt | None:
        """Refer to a row of the victim that the attacker has no like of."""
        parent_column = self.facts.survey.tenants.get(key.target)
        if key.kind != "f" or parent_column is None or target.own is None:
            return None
        parent = self.facts.catalog.relations[key.target]
        pairs = [
            (child, referred)
            for child, referred in zip(key.columns, key.target_columns, strict=True)
            if child != target.column.number
        ]
        referred = self.facts.catalog.names(parent.oid, [pair[1] for pair in pairs])
        columns = self.facts.catalog.names(target.relation.oid, [pair[0] for pair in pairs])
        if not referred:
            return None
        found = await self._victims_key(target, parent, parent_column.name, referred)
        name = f"refer to {parent.key}"
        if found is None:
            why = "the other tenant has no row there that is its alone"
            return Attempt(target.relation.key, name, Outcome.UNTRIED, why)
        return await self._attempt(target.relation.key, target, refer(self.facts, target, columns, parent, found))

    async def _victims_key(
        self, target: Target, parent: Relation, column: str, names: tuple[str, ...]
    ) -> dict[str, Any] | None:
        same = " AND ".join(f"q.{identifier(n)} = p.{identifier(n)}" for n in names)
        tenant = f"{identifier(column)}::text"
        await self.connection.execute("SAVEPOINT look; RESET ROLE")
        found = await self.connection.fetchval(
            f"SELECT to_jsonb(p) FROM {parent.sql} AS p WHERE p.{tenant} = $1 AND NOT EXISTS "  # noqa: S608  every part is quoted
            f"(SELECT FROM {parent.sql} AS q WHERE q.{tenant} = $2 AND {same}) LIMIT 1",
            target.victim.tenant,
            target.attacker,
        )
        await self.connection.execute("ROLLBACK TO look")
        if found is None:
            return None
        values = json.loads(found)
        return {name: values[name] for name in names}

    async def _first_target(self, bases: list[Relation]) -> Target | None:
        for relation in bases:
            if isinstance(target := await self.target(relation), Target):
                return target
        return None

    def _bases(self, view: Relation) -> list[Relation]:
        found, todo = [], [view.oid]
        while todo:
            for oid in self.facts.catalog.reads.get(todo.pop(), ()):
                if oid in self.facts.survey.tenants:
                    found.append(self.facts.catalog.relations[oid])
                elif oid in self.facts.catalog.reads:
                    todo.append(oid)
        return found

    def _fires(self, target: Target) -> bool:
        return bool(self.facts.catalog.triggers.get(target.relation.oid))


def _row(record: asyncpg.Record) -> Row:
    return Row(record["table"], record["place"], record["tenant"], json.loads(record["values"]))


def _found(held: bool, detail: str) -> tuple[Outcome, str]:
    return (Outcome.HELD, "nothing") if held else (Outcome.BROKEN, detail)


def _judge_error(attack: Attack, error: asyncpg.PostgresError, fires: bool) -> tuple[Outcome, str]:
    """What an error proves. Policies are checked before keys, so a key's error came too late."""
    text = str(error).splitlines()[0]
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return Outcome.HELD, text
    keys = isinstance(error, asyncpg.IntegrityConstraintViolationError)
    if attack.expect is Expect.UNREFERRED and isinstance(error, asyncpg.ForeignKeyViolationError):
        return Outcome.HELD, text
    if attack.expect is Expect.UNTOUCHED and keys:
        return Outcome.HELD, text  # the statement failed as a whole
    if attack.expect is Expect.REFUSED and keys and not fires:
        return Outcome.BROKEN, f"no policy refused it, only a key did: {text}"
    if attack.name == "read unbound":
        return Outcome.BROKEN, f"without a tenant it fails instead of being empty: {text}"
    return Outcome.UNTRIED, text
