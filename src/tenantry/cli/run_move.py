"""Runs a move at the terminal: shows how far it is, stops cleanly on Ctrl-C, and sums up."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Awaitable, Callable, Iterator

import asyncpg
import typer

from tenantry.cli import exit_codes
from tenantry.cli.move_progress import shown
from tenantry.cli.render import Renderer
from tenantry.cli.session import Session
from tenantry.cli.signals import on_signals
from tenantry.cli.summary import show
from tenantry.errors import DatabaseUnavailable
from tenantry.move import Interrupt, MoveInterrupted, MovePlan, MoveRecord, MoveStopped
from tenantry.move.progress import Tell
from tenantry.runtime.connection_errors import TRANSIENT


async def run_move(
    session: Session,
    plan: MovePlan,
    interrupt: Interrupt,
    work: Callable[[Tell], Awaitable[MoveRecord]],
) -> MoveRecord:
    """Do `work` on a move in sight of the user, and print the summary, however it ends.

    Raises:
        typer.Exit: it was interrupted; said already.
    """
    try:
        with stopping_cleanly(session.out, interrupt, plan.id), shown(session.out, plan) as tell:
            record = await work(tell)
    except MoveInterrupted as interrupted:
        await _show_what_is_known(session, plan.id)
        session.out.say(str(interrupted))
        raise typer.Exit(exit_codes.INTERRUPTED) from None
    except MoveStopped:
        await _show_what_is_known(session, plan.id)
        raise
    show(session.out, record, as_event=True)
    return record


async def _show_what_is_known(session: Session, move: str) -> None:
    with contextlib.suppress(
        asyncpg.PostgresError, DatabaseUnavailable, *TRANSIENT
    ):  # the journal is out of reach
        show(session.out, await session.ops.moves.show(move), as_event=True)


@contextlib.contextmanager
def stopping_cleanly(out: Renderer, interrupt: Interrupt, move: str) -> Iterator[None]:
    """While the body runs, the first Ctrl-C (or SIGTERM) wishes to stop and the second ends the process at once.

    The second is as safe as any death of the mover: the servers end an open fence by themselves.
    """

    def wished() -> None:
        if interrupt.asked:
            out.show_cursor()
            out.say(
                f"ended at once; `tenantry moves resume {move}` goes on, `tenantry moves show {move}` tells more"
            )
            os._exit(exit_codes.INTERRUPTED)
        interrupt.ask()
        out.say("stopping at the next clean point; Ctrl-C again ends at once, which is safe too")

    with on_signals(wished):
        yield
