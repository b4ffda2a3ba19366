"""Makes one attack in a savepoint, and judges what PostgreSQL answered."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import asyncpg

from tenantry.isolation.attacks.report import Attempt, Outcome
from tenantry.isolation.attacks.scene import Connection, undone
from tenantry.runtime.sqlstates import INSUFFICIENT_PRIVILEGE


class Takes(Enum):
    """How the last statement of an attack tells what it reached."""

    VALUE = "the number that it returns"
    ROWS = "the rows that it returns"
    COPY = "the lines that it copies"
    TAG = "the number in its command tag"


class Proof(Enum):
    """What an error proves, beside a policy's or a privilege's, which is always a refusal."""

    NONE = "nothing: it could not be tried"
    PASSED = "a constraint complains of a row only after the policies have let it pass"
    TAKEN = "a key complains of a row only after the policies have let it be taken"
    KEY = "the foreign key that was attacked refused it"
    UNREACHED = "any error: without a tenant a table is empty, and raises nothing"


class Attack(NamedTuple):
    """One way to reach another tenant's rows."""

    name: str
    statements: tuple[str, ...]
    """All but the last must succeed."""
    takes: Takes = Takes.VALUE
    most: int = 0
    """What it may reach: the rows that are the attacker's own."""
    error: Proof = Proof.NONE
    whose: str = ""
    """A statement that returns whose row the attack wrote: a trigger may have made it the writer's own."""
    without: str = ""
    """What it proves nothing without: a word on 0 rows reached."""


class AttackAnswer(NamedTuple):
    """What an attack reached, or the error that it met."""

    reached: int = 0
    error: asyncpg.PostgresError | None = None

    @property
    def refused(self) -> bool:
        """True when row-level security, a missing right or tenantry said no."""
        state = getattr(self.error, "sqlstate", "") or ""
        return state == INSUFFICIENT_PRIVILEGE or state.startswith("TN")

    @property
    def constraint(self) -> bool:
        """True when a constraint stopped it."""
        return (getattr(self.error, "sqlstate", "") or "").startswith("23")

    @property
    def why(self) -> str:
        """The error in one line."""
        return "" if self.error is None else f"{type(self.error).__name__}: {str(self.error).splitlines()[0]}"


async def attempt(
    connection: Connection, name: str, attack: Attack, *, triggers: bool = False, closed: bool = False
) -> Attempt:
    """Make an attack on the object called `name`; nothing of it stays.

    Args:
        triggers: True where triggers may change a row before policies and constraints see it.
        closed: True where the policies, as the audit reads them, let no such row pass.
    """
    answer = await ask(connection, attack)
    outcome, detail = judge(attack, answer, rewritten=triggers and closed)
    if triggers and attack.whose and answer.error is None and outcome is Outcome.BROKEN:
        check = await ask(connection, Attack(attack.name, (attack.whose,)))
        if check.error is None and not check.reached:
            outcome, detail = Outcome.HELD, "a trigger made the row its writer's own"
    return Attempt(name, attack.name, outcome, detail)


async def ask(connection: Connection, attack: Attack) -> AttackAnswer:
    """Run the statements in a savepoint that is rolled back."""
    *before, last = attack.statements
    try:
        async with undone(connection):
            for statement in before:
                await connection.execute(statement)
            match attack.takes:
                case Takes.VALUE:
                    return AttackAnswer(int(await connection.fetchval(last) or 0))
                case Takes.ROWS:
                    return AttackAnswer(len(await connection.fetch(last)))
                case Takes.COPY:
                    return AttackAnswer(await _copied(connection, last))
                case Takes.TAG:
                    count = (await connection.execute(last)).rpartition(" ")[2]
                    return AttackAnswer(int(count) if count.isdigit() else 0)
    except asyncpg.PostgresError as error:
        return AttackAnswer(error=error)


async def _copied(connection: Connection, query: str) -> int:
    lines = 0

    async def count(data: bytes) -> None:
        nonlocal lines
        lines += data.count(b"\n")

    await connection.copy_from_query(query, output=count)
    return lines


def judge(attack: Attack, answer: AttackAnswer, *, rewritten: bool = False) -> tuple[Outcome, str]:
    """What an answer proves. Policies are checked before constraints: a constraint's error came too late.

    Args:
        rewritten: True where a trigger may have changed the row before anything looked at it.
    """
    if answer.refused:
        return Outcome.HELD, answer.why
    if answer.error is None:
        if not answer.reached and attack.without:
            return Outcome.UNTRIED, attack.without
        if answer.reached <= attack.most:
            return Outcome.HELD, ""
        return Outcome.BROKEN, f"reached {answer.reached} rows, {attack.most} at most are its own"
    if attack.error is Proof.UNREACHED:
        return Outcome.BROKEN, f"without a tenant it fails instead of being empty: {answer.why}"
    if attack.error is Proof.KEY and isinstance(answer.error, asyncpg.ForeignKeyViolationError):
        return Outcome.HELD, answer.why
    keys = (asyncpg.UniqueViolationError, asyncpg.ForeignKeyViolationError)
    taken = attack.error is Proof.TAKEN and isinstance(answer.error, keys)
    if taken or (attack.error is Proof.PASSED and answer.constraint):
        if rewritten:
            return (
                Outcome.UNTRIED,
                f"a trigger may have changed the row before a constraint stopped it ({answer.why})",
            )
        return Outcome.BROKEN, f"its policies let it pass, only a constraint stopped it ({answer.why})"
    return Outcome.UNTRIED, answer.why
