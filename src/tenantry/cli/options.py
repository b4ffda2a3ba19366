"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
TenantArgument = Annotated[str, typer.Argument(help="The tenant's id.")]
DatabaseOption = Annotated[str | None, typer.Option("--database", "-d", help="Only this database.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; kept with the record.")]
