"""Everything that an operator may do, for a product's own control plane: what the command line calls."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Self

from tenantry import kits
from tenantry.config import Config
from tenantry.operations import apply_config, install
from tenantry.operations.apply_config import DatabaseChange
from tenantry.operations.backups import Backups
from tenantry.operations.balance import balance
from tenantry.operations.check import CheckReport, check
from tenantry.operations.context import Context
from tenantry.operations.data import TenantData
from tenantry.operations.databases import Databases
from tenantry.operations.install import Installed
from tenantry.operations.migrate import MigrateRun, Migrations
from tenantry.operations.moves import Moves
from tenantry.operations.placements import Placements
from tenantry.operations.rls import Rls
from tenantry.operations.tenants import Tenants
from tenantry.operations.tokens import Tokens
from tenantry.operations.usage import Usage
from tenantry.promotion import Verdict
from tenantry.promotion.balance import Balance, BalanceRule


class Operations:
    """What `tenantry …` does, in Python. Connections are opened when they are first needed, and closed at the end.

        async with Operations.open("config/tenantry.yaml") as ops:
            await ops.tenants.suspend(tenant_id, reason="unpaid")
            await ops.moves.promote(tenant_id, to="acme")

    Runs beside routers, in the same process or another: what it changes reaches them by the change feed. It needs
    the operators' DSNs of the databases that it works on.
    """

    def __init__(self, config: Config, *, actor: str | None = None) -> None:
        """Use `open`."""
        self.context = Context(config, actor)
        self.tenants = Tenants(self.context)
        self.data = TenantData(self.context)
        self.databases = Databases(self.context)
        self.tokens = Tokens(self.context)
        self.moves = Moves(self.context)
        self.placements = Placements(self.context)
        self.rls = Rls(self.context)
        self.usage = Usage(self.context)
        self.backups = Backups(self.context)
        self.migrations = Migrations(self.context)

    @classmethod
    def open(cls, config: Config | str | Path, *, actor: str | None = None) -> Self:
        """To be entered: `async with Operations.open(…) as ops`.

        Args:
            config: a path, or a `Config`.
            actor: who does this, for the record in `tenantry.event`; None: this process's user and host.

        Raises:
            ConfigError: the configuration can't be used.
        """
        return cls(config if isinstance(config, Config) else Config.load(config), actor=actor)

    async def init(self, wanted: Collection[str] = ()) -> tuple[Installed, ...]:
        """Install or upgrade the tenantry schema in the control and data databases. Repeatable.

        Grants what a router needs to the roles of the DSNs, and writes the configuration's databases to the
        directory. A database that is down is told of by its `error`.

        Args:
            wanted: kits for the data databases, as "ids"; those that are there are upgraded in any case.

        Raises:
            ConfigError: a database of the configuration has no operator's role, or there is no such kit.
            DatabaseUnavailable: the control database doesn't answer.
        """
        named = kits.parse(wanted)
        return tuple([one async for one in install.install(self.context, named)])

    async def apply(self, *, plan: bool = False) -> tuple[DatabaseChange, ...]:
        """Write the configuration's databases to the directory, where routers find them. Repeatable.

        Databases that only the directory has are left alone.

        Args:
            plan: only say what would change.

        Raises:
            OperationRefused: a database that holds several tenants would become a dedicated one.
        """
        return await (apply_config.compare if plan else apply_config.write)(self.context)

    async def check(
        self, processes: int = 1, *, moves: bool = False, accepted: Collection[str] = ()
    ) -> CheckReport:
        """Look at the configuration, the databases, their roles, versions, schemas and clocks.

        A database that does not answer is a finding, no error.

        Args:
            processes: router processes of the fleet, for the budgets of connections.
            moves: look too at what a move from or to each database would need.
            accepted: keys of findings that are no news: "CODE DATABASE", all of that code in that database.
        """
        return await check(self.context, processes, moves=moves, accepted=accepted)

    async def migrate(self, command: Sequence[str]) -> MigrateRun:
        """Run a command on every database, such as ["alembic", "upgrade", "head"]: `migrations.run`."""
        return await self.migrations.run(command)

    async def candidates(self) -> tuple[Verdict, ...]:
        """What the rule says of everybody who is anywhere near it: `usage.candidates`."""
        return await self.usage.candidates()

    async def balance(self, rule: BalanceRule | None = None) -> Balance:
        """Which tenants the shared databases should exchange. Touches nothing; run each by `moves`.

        Args:
            rule: None: the usual numbers.
        """
        return await balance(self.context, rule or BalanceRule())

    async def close(self) -> None:
        """Close what was opened. Whatever is called after it raises OperationsClosed. Idempotent."""
        await self.context.close()

    async def __aenter__(self) -> Self:
        self.context.enter()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
