"""Makes one attempt in a savepoint and judges what PostgreSQL answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import asyncpg

from tenantry.runtime.sqlstates import INSUFFICIENT_PRIVILEGE
from tenantry.testing.report import Attempt, Outcome
from tenantry.testing.scene import Table, undone

"""insufficient_privilege: what a policy or a missing right answers."""


class Answer(NamedTuple):
    """What came of a piece of work."""

    value: Any = None
    error: asyncpg.PostgresError | None = None

    @property
    def refused(self) -> bool:
        """True when row-level security, a missing right or tenantry said no."""
        state = getattr(self.error, "sqlstate", "") or ""
        return state == INSUFFICIENT_PRIVILEGE or state.startswith("TN")

    @property
    def constraint(self) -> bool:
        """True when only a constraint was in the way: the policies had let the row pass before."""
        return (getattr(self.error, "sqlstate", "") or "").startswith("23")

    @property
    def why(self) -> str:
        """The error in one line."""
        return "" if self.error is None else f"{type(self.error).__name__}: {self.error}"


async def ask(connection: Any, work: Callable[[], Awaitable[Any]]) -> Answer:
    """Do the work in a savepoint that is rolled back."""
    try:
        async with undone(connection):
            return Answer(await work())
    except asyncpg.PostgresError as error:
        return Answer(error=error)


def nothing_seen(table: str, attack: str, answer: Answer) -> Attempt:
    """Judge a read: it must be refused, or see no row of another tenant."""
    if answer.refused:
        return Attempt(table, attack, Outcome.HELD)
    if answer.error is not None:
        return Attempt(table, attack, Outcome.UNTRIED, answer.why)
    if answer.value:
        return Attempt(table, attack, Outcome.LEAKED, f"sees {answer.value} of another tenant's rows")
    return Attempt(table, attack, Outcome.HELD)


async def own_rows(connection: Any, table: Table, tenant: str) -> int:
    """Rows of the tenant that its scope sees."""
    return int(
        await connection.fetchval(f"SELECT count(*) FROM {table.sql} AS t WHERE {table.tenant} = $1", tenant)
    )


def affected(status: str) -> int:
    """The number at the end of "UPDATE 3"."""
    last = status.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
