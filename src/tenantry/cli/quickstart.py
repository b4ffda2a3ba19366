"""`tenantry quickstart`: the first files of a product that exists."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tenantry.cli.command import command
from tenantry.cli.rls_target import override
from tenantry.cli.session import Session
from tenantry.config import secrets
from tenantry.operations import quickstart as starting
from tenantry.operations.quickstart import Quickstart

DsnOption = Annotated[
    str,
    typer.Option(
        "--dsn",
        envvar="TENANTRY_QUICKSTART_DSN",
        help="Your product's database, as the role that owns its tables.",
        show_default=False,
    ),
]
FolderOption = Annotated[Path, typer.Option("--folder", help="Where the files are written.")]
ColumnOption = Annotated[
    str | None, typer.Option("--column", help="The tenant column; by default it is found.", show_default=False)
]
SettingOption = Annotated[
    str | None,
    typer.Option("--setting", help="The setting that policies read; by default the one that yours read."),
]
TableOption = Annotated[
    list[str] | None,
    typer.Option(
        "--table", help="SCHEMA.TABLE=COLUMN, =reference, =once or =ignore; may be repeated.", show_default=False
    ),
]
PrefixOption = Annotated[
    str | None, typer.Option("--prefix", help="Of the new roles' names; by default the database's name.")
]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite files, and roles' passwords.")]


async def quickstart(
    session: Session,
    dsn: DsnOption,
    folder: FolderOption = Path("."),
    column: ColumnOption = None,
    setting: SettingOption = None,
    table: TableOption = None,
    prefix: PrefixOption = None,
    dry_run: DryOption = False,
    force: ForceOption = False,
) -> None:
    """Look at your product's database and write roles, a configuration, an endpoint and a test for it.

    Changes nothing in the database, and overwrites no file. Says what to do next, command by command.
    """
    out = session.out
    out.secrets |= secrets.of_dsn(dsn)
    tables = dict(override(text) for text in table or ())
    found = await starting.look(
        dsn, column=column, tables=tables, setting=setting, prefix=prefix, overwrite=force or dry_run
    )
    if not dry_run:
        starting.write(found, folder, overwrite=force)
    if out.as_json:
        out.tree(_tree(found, folder, written=not dry_run))
    else:
        _tell(session, found, folder, written=not dry_run)


def _tell(session: Session, found: Quickstart, folder: Path, *, written: bool) -> None:
    out, proposal = session.out, found.proposal
    out.facts(
        {
            "database": found.database,
            "tenant column": f"{proposal.tenancy.column} ({proposal.why})",
            "tenant ids": f"{proposal.tenancy.id_type.value}, from {proposal.ids_from}",
            "setting": proposal.tenancy.setting,
            "tenant tables": ", ".join(proposal.tables),
            "other tables": ", ".join(f"{name}: {what}" for name, what in proposal.tenancy.tables.items()),
            "new roles": ", ".join(found.roles),
        }
    )
    for item in proposal.pending:
        out.warn(f"{item.object} {item.problem}: {item.choices[0]}")
    out.text("\n" + ("Written:" if written else "Would be written:"))
    for file in found.files:
        out.text(f"  {folder / file.path}: {file.what}")
    where = "" if folder == Path(".") else f", in {folder}"
    out.text(f"\nNext{where}:")
    for number, step in enumerate(found.steps, 1):
        out.text(f"\n  # {number}. {step.why}\n  {step.command}")


def _tree(found: Quickstart, folder: Path, *, written: bool) -> dict[str, object]:
    proposal = found.proposal
    return {
        "database": found.database,
        "column": proposal.tenancy.column,
        "type": proposal.tenancy.id_type.value,
        "setting": proposal.tenancy.setting,
        "why": proposal.why,
        "tenant_tables": list(proposal.tables),
        "tables": dict(proposal.tenancy.tables),
        "registry": proposal.registry,
        "ids_from": proposal.ids_from,
        "pending": [item._asdict() for item in proposal.pending],
        "roles": found.roles._asdict(),
        "written": written,
        "files": [{"path": str(folder / file.path), "what": file.what} for file in found.files],
        "steps": [step._asdict() for step in found.steps],
    }


def register(root: typer.Typer) -> None:
    """Add `quickstart`."""
    command(root, "quickstart")(quickstart)
