"""Which database an `rls` command looks at, as whom, and how its tenants are told apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from tenantry.catalog.tenancy import Tenancy
from tenantry.cli.session import Session
from tenantry.config import check_dsn, secrets
from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.operations.rls import RlsTarget

_HERE = "A database that tenantry does not route"
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", "-d", help="Which one; needed where there is more than one shared database."),
]
RoleOption = Annotated[
    str | None, typer.Option("--role", help="The application role; by default the one of the database's DSN.")
]
DsnOption = Annotated[
    str | None,
    typer.Option("--dsn", help="Look here, without a configuration file.", rich_help_panel=_HERE),
]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="With --dsn: the tenant column.", rich_help_panel=_HERE)
]
TypeOption = Annotated[
    IdType | None, typer.Option("--type", help="With --dsn: the type of the ids.", rich_help_panel=_HERE)
]
SettingOption = Annotated[
    str | None,
    typer.Option("--setting", help="With --dsn: the setting that policies read.", rich_help_panel=_HERE),
]
TableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--table",
        help="With --dsn: SCHEMA.TABLE=COLUMN, =reference, =once or =ignore; may be repeated.",
        rich_help_panel=_HERE,
    ),
]


@dataclass(frozen=True, slots=True)
class Where:
    """What every `rls` command can be told of the database to look at."""

    database: DatabaseOption = None
    role: RoleOption = None
    dsn: DsnOption = None
    column: ColumnOption = None
    type: TypeOption = None
    setting: SettingOption = None
    table: TableOption = None

    async def target(self, session: Session, *, reads: bool = False) -> RlsTarget:
        """From the configuration, or from the command line alone.

        Args:
            reads: True for commands that only read: without an operator's role the application's will do.

        Raises:
            ConfigError: it can't be told which, or how.
        """
        overrides = dict(override(text) for text in self.table or ())
        given = {"column": self.column, "id_type": self.type, "setting": self.setting, "tables": overrides}
        told = {name: value for name, value in given.items() if value}
        if self.dsn is not None:
            session.out.secrets |= secrets.of_dsn(self.dsn)
            dsn = check_dsn(self.dsn, key="--dsn")
            tenancy = Tenancy(**told)  # type: ignore[arg-type]  # the keys are its fields
            return RlsTarget("the database", dsn, tenancy, self.role, secrets=session.out.secrets)
        if told:
            raise ConfigError(
                "--column, --type, --setting and --table go with --dsn; else the file's tenancy says it"
            )
        return await session.ops.rls.target(self.database, role=self.role, reads=reads)


def override(text: str) -> tuple[str, str]:
    """What is said of a table: "public.countries=reference". Raises ConfigError."""
    table, found, column = text.partition("=")
    if not found or "." not in table or not column:
        raise ConfigError(f"{text!r} is not SCHEMA.TABLE=COLUMN, =reference, =once or =ignore", key="--table")
    return table, column
