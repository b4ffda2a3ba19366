"""`tenantry demo`: the product's main job, shown on PostgreSQL servers of its own."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Annotated, Final, TextIO, cast

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tenantry.cli import exit_codes
from tenantry.cli.command import command
from tenantry.cli.session import Session
from tenantry.demo import Options, run
from tenantry.demo.teller import Frame, Teller

#: What a shell says of a command that Ctrl-C ended.
INTERRUPTED: Final = 130

#: The PostgreSQL versions that come in a wheel.
VERSIONS: Final = (16, 18)

_STYLES: Final = {
    "title": "bold",
    "heading": "bold cyan",
    "held": "green",
    "broken": "bold red",
    "verbatim": "dim",
    "bar": "blue",
}


class Screen(Teller):
    """Tells the story on a terminal, in colours, with the load moving. Mutable state: `_live` while it does."""

    def __init__(self, console: Console) -> None:
        super().__init__(cast(TextIO, console.file), width=console.width)
        self._console = console
        self._live: Live | None = None

    def line(self, text: str, style: str = "") -> None:
        """See `Teller.line`."""
        self._console.print(Text(text, style=_STYLES.get(style, "")), soft_wrap=True)

    def live(self) -> AbstractContextManager[object]:
        """See `Teller.live`."""
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        return self._live

    def frame(self, frame: Frame) -> None:
        """See `Teller.frame`."""
        if self._live is None:
            return
        of = "" if frame.seconds is None else f" of {frame.seconds:.0f}"
        lines = [
            Text(f"  {frame.title}, {frame.elapsed:.1f}{of} s", style="bold"),
            Text(
                f"  {frame.rate:,.0f} requests/s   p99 {frame.p99 * 1000:.1f} ms   "
                f"{frame.requests:,} requests, {frame.failures} failures"
            ),
            *(Text(text, style="blue") for text in self.drawn(frame.bars)),
            *(Text(f"  {text}", style="dim") for text in frame.pools),
        ]
        self._live.update(Group(*lines))


def demo(
    session: Session,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, max=600, help="How long the load at full speed runs.")
    ] = 10.0,
    pg: Annotated[int, typer.Option("--pg", help="PostgreSQL's major version: 16 or 18.")] = 18,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave it running at the end, until Ctrl-C; prints the DSNs.")
    ] = False,
) -> None:
    """Show the main job on embedded PostgreSQL servers: no set-up, nothing left behind.

    Exits with 1 when a promise did not hold in this run.
    """
    if pg not in VERSIONS:
        raise typer.BadParameter("there are 16 and 18", param_hint="--pg")
    stream = sys.stderr if session.out.as_json else sys.stdout
    teller = Screen(Console(file=stream, highlight=False)) if stream.isatty() else Teller(stream)
    try:
        summary = run(Options(pg, seconds, keep), teller)
    except KeyboardInterrupt:
        session.out.say("Stopped; nothing is left behind.")
        raise typer.Exit(INTERRUPTED) from None
    if session.out.as_json:
        session.out.tree(summary)
    if not summary["ok"]:
        raise typer.Exit(exit_codes.FINDINGS)


def register(root: typer.Typer) -> None:
    """Add the command."""
    command(root, "demo")(demo)
