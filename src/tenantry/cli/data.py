"""`tenantry export`, `import`, `erase`: one tenant's data out, in, gone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from tenantry.cli import exit_codes
from tenantry.cli.command import command
from tenantry.cli.options import ReasonOption, TenantArgument
from tenantry.cli.render import OutputColumn
from tenantry.cli.session import Session
from tenantry.errors import ConfigError
from tenantry.operations import DataProgress, ErasureReceipt

COLUMNS = (
    OutputColumn("database"),
    OutputColumn("table"),
    OutputColumn("found", right=True),
    OutputColumn("deleted", right=True),
    OutputColumn("left", right=True),
)
ToOption = Annotated[Path, typer.Option("--to", help="The file to write; it must not be there yet.")]
FileArgument = Annotated[Path, typer.Argument(help="What `tenantry export` has written.")]
HomeOption = Annotated[
    str | None,
    typer.Option("--database", "-d", help="Where it shall live.", show_default="where it did, or new ones do"),
]
AsOption = Annotated[
    str | None, typer.Option("--as", help="The id that the tenant shall have.", show_default="its own")
]
ReplaceOption = Annotated[
    bool,
    typer.Option(
        "--replace", help="Delete the rows that the tenant has, in the same transaction; it has to be suspended."
    ),
]
ImportDryOption = Annotated[bool, typer.Option("--dry-run", help="Read and check everything, write nothing.")]
EraseDryOption = Annotated[bool, typer.Option("--dry-run", help="Count what there is, delete nothing.")]
ConfirmOption = Annotated[
    str | None, typer.Option("--confirm", help="The tenant's id again, instead of typing it when asked.")
]
ReceiptOption = Annotated[
    Path | None, typer.Option("--receipt", help="Write the receipt, as JSON, into this new file.")
]


async def export(session: Session, tenant: TenantArgument, to: ToOption) -> None:
    """Write all rows of a tenant, as of one moment, into a file. The tenant works meanwhile."""
    with _progress(session, "copying") as tell:
        done = await session.ops.data.export(tenant, to, progress=tell)
    facts = {
        "tenant": done.manifest.tenant,
        "database": done.database,
        "file": str(done.path),
        "rows": done.rows,
        "bytes": done.bytes,
        "tables": len(done.manifest.tables),
        "created": done.manifest.created,
        "fingerprint": done.manifest.fingerprint,
    }
    session.out.facts(facts)


async def import_file(
    session: Session,
    file: FileArgument,
    database: HomeOption = None,
    as_tenant: AsOption = None,
    replace: ReplaceOption = False,
    dry_run: ImportDryOption = False,
) -> None:
    """Bring an exported tenant in: all of its rows, in one transaction, or none. Repeatable."""
    with _progress(session, "importing") as tell:
        done = await session.ops.data.import_(
            file, database=database, as_tenant=as_tenant, replace=replace, dry_run=dry_run, progress=tell
        )
    session.out.facts(done._asdict())
    if done.already:
        session.out.say(f"the file's rows were in {done.database} already, each of them and no others")
    if done.schema_differs:
        session.out.say("the tables are not made as they were at the export; the rows fit all the same")


async def erase(
    session: Session,
    tenant: TenantArgument,
    dry_run: EraseDryOption = False,
    confirm: ConfirmOption = None,
    receipt: ReceiptOption = None,
    reason: ReasonOption = None,
) -> None:
    """Delete a tenant's rows in every database. It is removed first; there is no way back but an export.

    Repeatable: what was broken off, or could not be reached, is gone on with. Exit 1 while something is left.
    """
    row = session.ops.context.id_of(tenant)
    if not dry_run:
        _confirm(session, row, confirm)
    with _kept(receipt) as keep:
        with _progress(session, "erasing") as tell:
            done = await session.ops.data.erase(row, dry_run=dry_run, reason=reason, progress=tell)
        keep(done)
    if session.out.as_json:
        session.out.tree(done.as_json())
    else:
        session.out.rows(COLUMNS, _rows(done), empty="no row of the tenant is in any database")
    for one in done.databases:
        if one.unread is not None:
            session.out.warn(f"{one.database} could not be looked at: {one.unread}")
    if dry_run:
        session.out.say(f"{done.found} rows would be deleted; nothing was")
        return
    if not done.complete:
        session.out.error("not everything is erased: run the same again when every database answers")
        raise typer.Exit(exit_codes.FINDINGS)
    session.out.say(f"tenant {row} is erased: {done.found} rows in {len(done.databases)} databases, none is left")


def _rows(receipt: ErasureReceipt) -> Iterator[dict[str, Any]]:
    for one in receipt.databases:
        for table in one.tables:
            if table.found:
                yield {
                    "database": one.database,
                    "table": table.table,
                    "found": table.found,
                    "deleted": table.deleted,
                    "left": table.left,
                }


def _confirm(session: Session, tenant: str, given: str | None) -> None:
    """Only whoever writes the id means this tenant.

    Raises:
        ConfigError: another id was written, or there is nobody to ask.
    """
    if given is None:
        given = session.out.ask(f"Every row of tenant {tenant} will be deleted. Write its id")
    if given.strip() != tenant:
        raise ConfigError(f"this is not the id of tenant {tenant}; nothing was touched", key="--confirm")


@contextmanager
def _kept(path: Path | None) -> Iterator[Callable[[ErasureReceipt], None]]:
    """The file for the receipt, made before anything is deleted."""
    if path is None:
        yield lambda _: None
        return
    try:
        file = path.open("x", encoding="utf-8")
    except FileExistsError:
        raise ConfigError(f"{path} is there already: name another file", key="--receipt") from None
    try:
        with file:
            yield lambda receipt: json.dump(receipt.as_json(), file, indent=2, ensure_ascii=False)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


@contextmanager
def _progress(session: Session, what: str) -> Iterator[Callable[[DataProgress], None]]:
    with session.out.progress(what) as step:

        def tell(one: DataProgress, /) -> None:
            step(one.done, what=f"{one.work} {one.table}")

        yield tell


def register(root: typer.Typer) -> None:
    """Add `export`, `import` and `erase`."""
    command(root, "export")(export)
    command(root, "import")(import_file)
    command(root, "erase")(erase)
