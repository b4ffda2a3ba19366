"""Options and arguments that several commands share."""

from __future__ import annotations

import re
from typing import Annotated, Final

import typer

from tenantry.errors import ConfigError

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
TenantArgument = Annotated[str, typer.Argument(help="The tenant's id.")]
DatabaseOption = Annotated[str | None, typer.Option("--database", "-d", help="Only this database.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; kept with the record.")]

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")


def check_name(name: str, key: str) -> None:
    """See that a database that is new to the directory can be called so.

    Raises:
        ConfigError: it can't.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no database's name: up to 63 letters, digits, '_', '.' and '-', the first a letter, "
            "a digit or '_'",
            key=key,
        )
