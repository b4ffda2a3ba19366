"""Row-level security of one database: planned, applied, audited and attacked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tenantry.catalog.read import read
from tenantry.catalog.tenancy import Tenancy
from tenantry.config import ResolvedDatabase, role_of
from tenantry.errors import ConfigError, OperationRefused
from tenantry.ids import Kind
from tenantry.isolation import apply as applying
from tenantry.isolation.attacks import Report as AttackReport
from tenantry.isolation.attacks import probe
from tenantry.isolation.attacks.probe import Bind
from tenantry.isolation.audit import AuditReport, audit
from tenantry.isolation.misspelt import read_misspelt
from tenantry.isolation.plan import Plan, PolicyMode
from tenantry.operations.context import Context, connected
from tenantry.proof import bind_proof
from tenantry.router.driver import Connection
from tenantry.sql import query
from tenantry.wiring import tenancy_of


@dataclass(frozen=True, slots=True)
class RlsTarget:
    """A database to look at, as whom, and how its tenants are told apart."""

    name: str
    dsn: str = field(repr=False)
    """Of the role that looks and changes."""
    tenancy: Tenancy
    role: str | None
    """The application role; None: it is not known."""
    bind: Bind | None = field(default=None, repr=False)
    """How hardened mode binds; None: as everybody may."""
    timeout: float = 10.0
    """Seconds for connecting."""
    secrets: Collection[str] = field(default=(), repr=False)
    """What no error may show."""

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Connection]:
        """A connection, closed at the end. Raises DatabaseUnavailable."""
        async with connected(self.name, self.dsn, self.timeout, self.secrets) as connection:
            yield connection


class Rls:
    """`Operations.rls`: the databases of the configuration; nothing here asks the control database for them.

    Every method takes a database's name; None: the only shared one.

    Raises (every method): UnknownDatabase; ConfigError where it can't be told which database, or it has no
    operator's role; DatabaseUnavailable.
    """

    def __init__(self, context: Context) -> None:
        self._context = context

    async def target(
        self, database: str | None = None, *, role: str | None = None, reads: bool = False
    ) -> RlsTarget:
        """What to connect to, and as whom.

        Args:
            role: the application role; None: the one of the database's DSN.
            reads: True where it is only read: without an operator's role the application's will do.
        """
        context, found = self._context, await self._chosen(database)
        dsn = found.best_dsn if reads else None
        return RlsTarget(
            found.name,
            dsn or found.require_operator_dsn(),
            tenancy_of(context.config),
            role or (None if found.dsn is None else role_of(found.dsn)),
            self._proving(found.name),
            context.config.router.connect_timeout,
            context.secrets,
        )

    async def plan(
        self,
        database: str | None = None,
        *,
        foreign_keys: bool = False,
        not_null: bool = False,
        mode: PolicyMode = PolicyMode.ENFORCE,
    ) -> Plan:
        """What brings every tenant table to the standard. See `plan`."""
        return await plan(await self.target(database), foreign_keys=foreign_keys, not_null=not_null, mode=mode)

    async def apply(
        self,
        database: str | None = None,
        *,
        foreign_keys: bool = False,
        not_null: bool = False,
        mode: PolicyMode = PolicyMode.ENFORCE,
    ) -> Plan:
        """Plan and run the plan in steps that do not block; broken off, it goes on where it was. See `apply`."""
        target = await self.target(database)
        return await apply(
            target, await plan(target, foreign_keys=foreign_keys, not_null=not_null, mode=mode), mode=mode
        )

    async def audit(self, database: str | None = None, *, baseline: Sequence[str] = ()) -> AuditReport:
        """Find what lets rows cross between tenants. Changes nothing. `baseline`: keys of accepted findings."""
        return await audit_target(await self.target(database, reads=True), baseline=baseline)

    async def probe(self, database: str | None = None, *, role: str | None = None) -> AttackReport:
        """Attack every tenant table as the application role, in transactions that are rolled back."""
        return await probe_target(await self.target(database, role=role))

    async def observed(self, database: str | None = None) -> Sequence[applying.Observation]:
        """What would have been refused, while policies that only observe are in force."""
        return await observed(await self.target(database))

    async def _chosen(self, name: str | None) -> ResolvedDatabase:
        if name is not None:
            return await self._context.database(name)
        shared = [one for one in self._context.configured().values() if one.kind is Kind.SHARED]
        if len(shared) != 1:
            names = ", ".join(one.name for one in shared) or "none"
            raise ConfigError(f"say which database; shared ones: {names}", key="database")
        return shared[0]

    def _proving(self, name: str) -> Bind | None:
        key = self._context.config.key(name)
        if key is None:
            return None

        async def bind(connection: Connection, tenant: str) -> None:
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            await connection.execute("SELECT tenantry.bind($1, $2)", tenant, bind_proof(key, backend, tenant))

        return bind


async def plan(
    target: RlsTarget, *, foreign_keys: bool = False, not_null: bool = False, mode: PolicyMode = PolicyMode.ENFORCE
) -> Plan:
    """The steps that bring every tenant table to the standard. Touches nothing.

    Args:
        foreign_keys: make foreign keys between tenant tables compare the tenants too.
        not_null: make tenant columns NOT NULL where no row is without a tenant and nothing says that such rows are
            meant. Otherwise each is a decision of the plan.
        mode: real policies, or such that allow everything and record what they would refuse.
    """
    async with target.connect() as connection:
        return await applying.compute(
            connection, target.tenancy, role=target.role, foreign_keys=foreign_keys, not_null=not_null, mode=mode
        )


async def apply(
    target: RlsTarget,
    planned: Plan,
    *,
    mode: PolicyMode = PolicyMode.ENFORCE,
    progress: Callable[[applying.Progress], None] = lambda _: None,
) -> Plan:
    """Run a plan in steps that do not block.

    Raises:
        StepFailed: what came before it stands, and running it again goes on.
        ApplyBusy: another is at work on the database.
    """
    async with target.connect() as connection:
        if planned.steps and mode is PolicyMode.OBSERVE:
            await connection.execute(query("isolation/observe"))
        await applying.apply(connection, planned, progress=progress)
    return planned


async def audit_target(target: RlsTarget, *, baseline: Sequence[str] = ()) -> AuditReport:
    """What lets rows cross between tenants, with what fixes it."""
    async with target.connect() as connection:
        catalog = await read(connection)
        misspelt = await read_misspelt(connection, catalog, target.tenancy)
    return audit(catalog, target.tenancy, role=target.role, baseline=baseline, misspelt=misspelt)


async def probe_target(target: RlsTarget, progress: Callable[[str], None] = lambda _: None) -> AttackReport:
    """Attack every tenant table as the application role.

    Args:
        progress: told the name of each table that was attacked.

    Raises:
        OperationRefused: the application role is not known.
    """
    if target.role is None:
        raise OperationRefused("a probe attacks as the application role: name it with --role")
    async with target.connect() as connection:
        catalog = await read(connection)
        return await probe(connection, catalog, target.tenancy, target.role, bind=target.bind, progress=progress)


async def observed(target: RlsTarget) -> Sequence[applying.Observation]:
    """What observing policies have recorded."""
    async with target.connect() as connection:
        return await applying.observations(connection)
