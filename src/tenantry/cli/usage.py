"""`tenantry usage …`, `candidates` and `top`: who uses how much, and who has outgrown the shared database."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from tenantry.cli import format
from tenantry.cli.command import MEANS_TENANT, command, group
from tenantry.cli.options import seconds_of
from tenantry.cli.render import OutputColumn
from tenantry.cli.reports import (
    CANDIDATE_COLUMNS,
    DAY_COLUMNS,
    TENANT_COLUMNS,
    TOP_COLUMNS,
    candidate_rows,
    day_rows,
    tenant_rows,
    top_rows,
)
from tenantry.cli.session import Session
from tenantry.cli.watch import watch as watch_report
from tenantry.errors import ConfigError
from tenantry.promotion import reasons
from tenantry.usage import exchange

_CSV_ROWS = 1000

TenantArgument = Annotated[str | None, typer.Argument(help="Only this tenant, day by day."), MEANS_TENANT]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="Show it again and again, until Ctrl-C.")]
EveryOption = Annotated[str, typer.Option("--every", help="How often, with --watch.")]
LargestOption = Annotated[int, typer.Option("--top", min=1, max=1000, help="So many of each database.")]
FileArgument = Annotated[Path, typer.Argument(help="A CSV file; - reads standard input.")]
LabelOption = Annotated[
    str, typer.Option("--label", help="Where the history comes from; every verdict will say it.")
]
OutOption = Annotated[Path | None, typer.Option("--file", help="Write here, not to standard output.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="First UTC day, as 2026-11-01.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="First UTC day that is left out.")]


app = group("usage", "Who uses how much: `usage`, or `usage TENANT`.", default="show", no_args_is_help=False)


@command(app, "show")
async def show_usage(
    session: Session,
    tenant: TenantArgument = None,
    top: LargestOption = 10,
    watch: WatchOption = False,
    every: EveryOption = "5s",
) -> None:
    """Shares per day, the largest tenants first; of one tenant, its days and what the rule says."""

    async def once() -> None:
        await (_overview(session, top, watch) if tenant is None else _one(session, tenant, watch))

    await _again(session, once, watch, every)


async def _overview(session: Session, top: int, watch: bool) -> None:
    found = await session.ops.usage.overview(top)
    rows = tenant_rows(found)
    _show(session, TENANT_COLUMNS, rows, "no use is recorded yet", watch)
    session.out.say(f"the fleet reported {format.share(found.reported)} of today so far")
    for row in rows:
        if row["disagrees"]:
            session.out.warn(
                f"{row['tenant']}: the ledger says {format.share(row['today'])} of today, "
                f"the witness {format.share(row['witness'])}; "
                "see docs/explanation/usage.md, “When the two figures disagree”"
            )


async def _one(session: Session, tenant: str, watch: bool) -> None:
    found = await session.ops.usage.tenant(tenant)
    _show(session, DAY_COLUMNS, day_rows(found), "no use is recorded", watch)
    for reason in reasons(found.verdict) if found.verdict else ("not in the directory",):
        session.out.say(f"{found.tenant}: {reason}")


def _show(
    session: Session, columns: Sequence[OutputColumn], rows: Sequence[Mapping[str, Any]], empty: str, watch: bool
) -> None:
    """A table. In JSON a list; of `--watch` one a line, so that a program can tell where each ends."""
    if watch and session.out.as_json:
        session.out.line([{column.key: row.get(column.key) for column in columns} for row in rows])
    else:
        session.out.rows(columns, rows, empty=empty)


@command(app, "import")
async def import_usage(session: Session, file: FileArgument, label: LabelOption) -> None:
    """Take in history from elsewhere: day,database,tenant,busy_seconds,total_seconds[,coverage,…]."""
    try:
        with _reading(file) as text:
            done = await session.ops.usage.import_csv(text, label)
    except ValueError as error:
        raise ConfigError(str(error), source=str(file)) from None
    session.out.facts({**done._asdict(), "label": label})


@command(app, "export")
async def export_usage(
    session: Session, since: SinceOption = None, until: UntilOption = None, file: OutOption = None
) -> None:
    """The ledger as CSV, a line for each day, database and tenant; in JSON a list."""
    found = session.ops.usage.export_history(_day(since, "--since"), _day(until, "--until"))
    if session.out.as_json:
        session.out.tree([row._asdict() async for row in found])
        return
    if file is not None:
        with file.open("w", newline="") as out:
            writer = exchange.CsvWriter(out)
            async for row in found:
                writer.row(row)
        return
    page = io.StringIO()
    writer, count = exchange.CsvWriter(page), 0
    async for row in found:
        writer.row(row)
        count += 1
        if count % _CSV_ROWS == 0:
            session.out.text(page.getvalue().removesuffix("\n"))
            page.seek(0)
            page.truncate()
    if page.getvalue():
        session.out.text(page.getvalue().removesuffix("\n"))


async def candidates(session: Session) -> None:
    """What the rule says of everybody who is anywhere near it, why, and what to do next."""
    rows = candidate_rows(await session.ops.candidates())
    session.out.rows(CANDIDATE_COLUMNS, rows, empty="nobody is anywhere near the rule")
    for row in rows:
        for reason in row["reasons"]:
            session.out.say(f"{row['tenant']}: {reason}")
        if row["next"]:
            session.out.say(f"{row['tenant']}: next, {row['next']}")


async def top(session: Session, watch: WatchOption = False, every: EveryOption = "1s") -> None:
    """Who is loading the servers now: sessions by tenant, what they wait for, and callers that wait in routers."""

    async def once() -> None:
        load = await session.ops.usage.load()
        _show(session, TOP_COLUMNS, top_rows(load.sessions, load.queues or {}), "nobody is doing anything", watch)
        for why in load.unseen.values():
            session.out.warn(why)
        if load.queues is None:
            session.out.warn(
                "routers' queues are not shown: the control database's schema is old; run `tenantry init`"
            )
        for name, activity in load.sessions.items():
            if hidden := sum(some.sessions for some in activity if some.state == "hidden"):
                session.out.warn(f"{hidden} sessions of {name} can't be seen: GRANT pg_monitor to the role")

    await _again(session, once, watch, every)


async def _again(session: Session, once: Callable[[], Awaitable[None]], again: bool, every: str) -> None:
    pause = seconds_of(every, "--every")
    assert pause is not None
    if not again:
        await once()
        return
    await watch_report(session.out, once, pause)


def _reading(file: Path) -> AbstractContextManager[TextIO]:
    """The file, or standard input: UTF-8, with the mark in front that spreadsheets write or without."""
    if str(file) == "-":
        return nullcontext(io.TextIOWrapper(typer.get_binary_stream("stdin"), encoding="utf-8-sig", newline=""))
    return file.open(newline="", encoding="utf-8-sig")


def _day(text: str | None, key: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"{text!r} is no day; write it as 2026-11-01", key=key) from None


def register(root: typer.Typer) -> None:
    """Add the commands."""
    root.add_typer(app)
    command(root, "candidates")(candidates)
    command(root, "top")(top)
