"""Tries an attack on a real server, and says what it got."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from tenantry import Router
from tenantry.errors import TenantryError
from tests.conformance.attacks.attack import SECRET_OF_B, TOLD, Attack, Gain, Gains, Kind
from tests.conformance.attacks.product import CALLS, IDS, INSERT, SESSION, SETUP, TIDY, WORK
from tests.support.product import Product
from tests.support.quiet import nothing_leaked
from tests.support.until import LONG, until

_NO_SAVEPOINT: Final = ("COMMIT", "ROLLBACK", "SAVEPOINT", "BEGIN", "DISCARD", "PREPARE TRANSACTION", "RELEASE")


class Stage:
    """Two tenants of a product with rows under the same keys; A's scopes and B's share a connection."""

    # Mutable state: a, b (the tenants), narrow (the router of one connection), number (of B's next row), rows
    # (that B must have), usual (what its work is answered while nothing was set up for an attack).

    def __init__(self, product: Product, admin: Any, wide: Router) -> None:
        self.product = product
        self.admin = admin
        self.wide = wide
        self.narrow = wide
        self.a: Any = None
        self.b: Any = None
        self.number = 100
        self.rows: set[tuple[int, str]] = set()
        self.usual: list[str] = []

    async def furnish(self) -> None:
        """The rows as they are before each attack."""
        await self.admin.execute(
            "DELETE FROM enrolments; DELETE FROM awards; DELETE FROM badges; DELETE FROM courses; DELETE "
            "FROM students"
        )
        for tenant, name, letter in ((self.a, "mine", "a"), (self.b, SECRET_OF_B, "b")):
            await self.admin.executemany(
                "INSERT INTO students (tenant_id, id, name, email) VALUES ($1, $2, $3, $4)",
                [(tenant, n, f"{name} {n}", f"{letter}{n}@{letter}.example") for n in IDS],
            )
        self.rows = {(n, f"{SECRET_OF_B} {n}") for n in IDS}

    async def usually(self, attack: Attack) -> list[str]:
        """What B's work is answered when nobody has attacked."""
        if attack.given:
            return await self.work(self.wide)
        if not self.usual:
            self.usual = await self.work(self.wide)
        return self.usual

    async def work(self, router: Router) -> list[str]:
        """B's usual work: what it was answered, in words."""
        answers: list[str] = []
        self.number += 1
        row = (self.number, f"{SECRET_OF_B}, later {self.number}")
        try:
            async with asyncio.timeout(LONG):
                await self._work(router, row, answers)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, TenantryError, OSError) as error:
            answers.append(f"{type(error).__name__}: {error}")
        return answers

    async def _work(self, router: Router, row: tuple[int, str], answers: list[str]) -> None:
        answers.append(repr(await router.fetch(self.b, WORK[0][0], *WORK[0][1])))
        async with router.tenant(self.b) as conn:
            answers.append(repr(await conn.fetch(SESSION)))
            answers += [repr(await conn.fetch(query, *args)) for query, args in (*WORK[1:], *CALLS)]
            answers.append(await conn.execute(INSERT, *row))
            try:
                async with conn.transaction():
                    answers.append(repr(await conn.fetchval("SELECT lastval()")))
            except asyncpg.ObjectNotInPrerequisiteStateError:
                answers.append("no lastval")
        self.rows.add(row)
        async with router.tenant(self.b) as conn:
            answers.append(await conn.execute("DELETE FROM students WHERE id = $1", row[0]))
        self.rows.discard(row)

    async def intact(self) -> bool:
        """Whether B's rows, looked at from outside, are those that it has written."""
        found = await self.admin.fetch("SELECT id, name FROM students WHERE tenant_id = $1", self.b)
        return {(row["id"], row["name"]) for row in found} == self.rows


@asynccontextmanager
async def stage(product: Product) -> AsyncIterator[Stage]:
    """A stage on a product of the test's own."""
    async with product.admin() as admin, product.open(pool={"max": 4}) as wide:
        await admin.execute(SETUP)
        made = Stage(product, admin, wide)
        made.a, made.b = await product.signed_up(wide, 2)
        yield made


async def gains(made: Stage, kind: Kind) -> dict[str, Gains]:
    """What each attack of the kind gets, by its name: with B coming next, and if it lingers, with B in line."""
    got: dict[str, Gains] = {}
    ways = (False, True) if kind.lingers or kind.fresh else (False,)
    if kind.fresh:
        for attack in kind.attacks:
            got[attack.name] = frozenset()
            for waiting in ways:
                async with made.product.open(pool={"max": 1}) as made.narrow:
                    got[attack.name] |= await attempt(made, attack, waiting=waiting, primed=False)
        return got
    async with made.product.open(pool={"max": 1}) as made.narrow:
        for attack in kind.attacks:
            got[attack.name] = frozenset()
            for waiting in ways:
                got[attack.name] |= await attempt(made, attack, waiting=waiting, primed=True)
    return got


async def attempt(made: Stage, attack: Attack, *, waiting: bool, primed: bool) -> Gains:
    """Try an attack once."""
    words = {
        "{A}": str(made.a),
        "{B}": str(made.b),
        "{type}": made.product.ids.value,
        "{host}": made.product.server.host,
        "{port}": str(made.product.server.port),
        "{proof}": "",
    }
    await made.furnish()
    for statement in attack.given:
        await made.admin.execute(fill(statement, words))
    made.rows |= {
        (r["id"], r["name"])
        for r in await made.admin.fetch("SELECT id, name FROM students WHERE tenant_id = $1", made.b)
    }
    usual = await made.usually(attack)
    if primed:
        await made.narrow.fetch(made.b, WORK[0][0], *WORK[0][1])
    seen: list[str] = []
    got: set[Gain] = set()
    try:
        for statement in attack.victim:
            await made.narrow.fetch(made.b, statement)
        async with made.wide.tenant(made.b) as accomplice:
            words["{proof}"] = await accomplice.fetchval("SELECT current_setting('tenantry.proof', true)") or ""
            for statement in attack.beside:
                await accomplice.fetch(statement)
            answers = [await _in_as_scope(made, attack, words, seen, waiting=waiting)]
        if "{NEW SESSION}" in attack.steps:
            try:
                async with made.product.open(pool={"max": 1}) as later:
                    answers.append(await made.work(later))
            except TenantryError as error:
                answers.append([repr(error)])
        if any(one is not None and one != usual for one in answers):
            got.add(Gain.DISTURBS)
        if attack.loot:
            with contextlib.suppress(TenantryError, asyncpg.PostgresError):
                async with made.narrow.tenant(made.a) as conn:
                    for step in attack.loot:
                        seen += await _step(conn, fill(step, words))
        if not await made.intact():
            got.add(Gain.WRITES)
        await nothing_leaked(made.narrow)
    finally:
        await _clear(made, attack, words)
    if any(SECRET_OF_B in one for one in seen):
        got.add(Gain.READS)
    if any(TOLD in one for one in seen):
        got.add(Gain.TELLS)
    return frozenset(got)


def fill(text: str, words: dict[str, str]) -> str:
    """The step with its words filled in."""
    for word, value in words.items():
        text = text.replace(word, value)
    return text


async def _in_as_scope(
    made: Stage, attack: Attack, words: dict[str, str], seen: list[str], *, waiting: bool
) -> list[str] | None:
    """The attack in A's scope, and then B's work on the same connection; returns what that was answered."""
    meanwhile: list[list[str]] = []
    next_one: asyncio.Task[list[str]] | None = None
    try:
        async with made.narrow.tenant(made.a) as conn:
            if waiting:
                pool = made.narrow.pools.open_pools()["shared"]
                next_one = asyncio.create_task(made.work(made.narrow))
                await until(lambda: pool.admission.waiting == 1)
            for step in attack.steps:
                if step == "{WORK}":
                    for query, args in (*WORK, (INSERT, (66, "x"))):
                        seen += await _step(conn, query, *args)
                elif step == "{MEANWHILE}":
                    meanwhile.append(await made.work(made.wide))
                elif step != "{NEW SESSION}":
                    seen += await _step(conn, fill(step, words))
    except (TenantryError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        seen.append(_told(error))  # what A is told of its own scope is for other tests
    answers = await (next_one or made.work(made.narrow))
    return next((one for one in meanwhile if one != answers), answers)


async def _step(conn: Any, step: str, *args: Any) -> list[str]:
    """Run a step; what PostgreSQL refuses yields its error's text, and the transaction goes on."""
    guarded = not step.startswith(_NO_SAVEPOINT)
    if guarded:
        try:
            await conn.execute("SAVEPOINT step")
        except (asyncpg.PostgresError, asyncpg.InterfaceError):
            guarded = False  # the transaction has ended
    try:
        answer = await _send(conn, step, *args)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
            if guarded:
                await conn.execute("ROLLBACK TO SAVEPOINT step")
        return [_told(error)]
    if guarded:
        with contextlib.suppress(asyncpg.PostgresError, asyncpg.InterfaceError):
            await conn.execute("RELEASE SAVEPOINT step")
    return answer


async def _send(conn: Any, step: str, *args: Any) -> list[str]:
    if step.startswith("COPY") and "STDOUT" in step:
        lines = bytearray()

        async def keep(data: bytes) -> None:
            lines.extend(data)

        query = step.removeprefix("COPY ").removesuffix(" TO STDOUT").strip("()")
        await conn.copy_from_query(query if " " in query else f"SELECT * FROM {query}", output=keep)
        return [lines.decode()]
    try:
        return [str(tuple(row.values())) for row in await conn.fetch(step, *args)]
    except asyncpg.PostgresSyntaxError as error:
        if "multiple commands" not in str(error):
            raise
    return [await conn.execute(step)]


def _told(error: BaseException) -> str:
    parts: Iterable[Any] = (getattr(error, name, None) for name in ("detail", "hint", "context"))
    return " ".join(map(str, (type(error).__name__, error, *parts)))


async def _clear(made: Stage, attack: Attack, words: dict[str, str]) -> None:
    """Take back what the attack has left in the database."""
    for gid in await made.admin.fetch("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()"):
        await made.admin.execute(f"ROLLBACK PREPARED '{gid['gid']}'")
    await made.admin.execute(TIDY)
    for statement in attack.undo:
        await made.admin.execute(fill(statement, words))
