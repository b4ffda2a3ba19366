"""`tenantry init`: the schema in the control and data databases."""

from __future__ import annotations

from typing import Annotated

import typer

from tenantry import kits
from tenantry.cli import exit_codes
from tenantry.cli.command import command
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session

COLUMNS = (
    OutputColumn("database"),
    OutputColumn("side"),
    OutputColumn("version", right=True),
    OutputColumn("applied"),
    OutputColumn("role", "GRANTED TO"),
    OutputColumn("error"),
)

WithOption = Annotated[
    str,
    typer.Option(
        "--with",
        envvar="TENANTRY_INIT_WITH",
        help=f"Kits for the data databases, joined by commas: {', '.join(kits.KITS)}.",
        show_default=False,
    ),
]


async def init(session: Session, wanted: WithOption = "") -> None:
    """Install or upgrade the tenantry schema in the control and data databases.

    Uses control.direct_dsn (or control.dsn) and each database's operator_dsn, and grants what a router needs to
    the role of its dsn. Writes the file's databases to the directory. Kits that a database has are upgraded with
    it, named or not. Running it again changes nothing.
    """
    done = await session.ops.init(kits.parse(wanted))
    session.out.rows(COLUMNS, [one._asdict() for one in done])
    if any(one.error for one in done):
        raise typer.Exit(exit_codes.UNAVAILABLE)
    for one in done:
        if one.warning is not None:
            session.out.warn(f"{one.database}: {one.warning}")
    session.out.say("installed; `tenantry check` looks at the rest")


def register(root: typer.Typer) -> None:
    """Add `init`."""
    command(root, "init")(init)
