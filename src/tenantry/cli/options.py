"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry.cli.command import MEANS_TENANT
from tenantry.config import duration
from tenantry.errors import ConfigError

RegionOption = Annotated[
    str | None, typer.Option("--region", help="Tenants of a region live only in databases of the same one.")
]
TierOption = Annotated[str | None, typer.Option("--tier", help="Likewise for a tier of service, as gold.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")]
TenantArgument = Annotated[
    str,
    typer.Argument(help="The tenant: its id, its name, or the beginning of its uuid that no other has."),
    MEANS_TENANT,
]
NewTenantArgument = Annotated[str, typer.Argument(help="The tenant's id.")]
DatabaseOption = Annotated[str | None, typer.Option("--database", "-d", help="Only this database.")]
ReasonOption = Annotated[str | None, typer.Option("--reason", help="Why; kept with the record.")]


def seconds_of(text: str | None, key: str) -> float | None:
    """Seconds from 30s, 10m and the like; None when nothing was given.

    Raises:
        ConfigError: it is no duration; `key` is the option's name.
    """
    try:
        return None if text is None else duration(text)
    except ValueError as error:
        raise ConfigError(str(error), key=key) from None
