"""The scope protocol: the only code that binds a tenant. Pure: messages, and what their answers mean.

A scope is one transaction for one tenant. A hand-written wrapper pays five flights (network round trips)
for one query: BEGIN, set_config, the query, COMMIT, the pool's reset. A scope pays two:

    1.  [BEGIN, CALL tenantry.enter(tenant, proof, statements), the query]      one unit
    2.  [COMMIT; reset]                                                         one unit

and one when somebody is waiting for the database, because then the second goes on with the next caller's first:

        [COMMIT] [BEGIN, reset, COMMIT, BEGIN, CALL tenantry.enter(next), the next query]

A *unit* is what the server answers as a whole: after an error it skips the rest of the unit, and nothing of the
next. So COMMIT's answer is its own caller's alone, a reset that fails takes nothing back of what is committed, and
what follows a failed reset or a refused opening in its unit, the caller's statement included, is not run.

The opening goes by the extended protocol. `current_query()`, `pg_stat_activity`, `pg_stat_statements` and code
that an earlier scope has left for its COMMIT show `CALL tenantry.enter($1, $2, $3)`: a proof never stands in a
text. Its statements are parsed anew each time, as the unnamed one: one with a name could have been replaced.

A scope's claims follow as a statement of their own, as a parameter too, and local to the transaction. It selects
no row, so that the server does not send them back.

`enter` is `tenantry.bind` as a procedure (CALL costs the server half of what SELECT does), and it looks at the
session's prepared statements: a scope may have replaced or deallocated what asyncpg keeps, or left its own. Then
it refuses with TN005, and the connection is given up before anything of the caller has run.

Behind a pooler each opening begins with a reset: the server's process may come from any client, and from a scope
that is still open where its application has ended the transaction by hand. And nothing is sent behind a unit that
leaves the session idle, as the COMMIT does: with that unit's answer a pooler takes the process back, and were our
client to die just then, another one would get it with our next scope opening on it (PgBouncer 1.18, measured).
"""

from __future__ import annotations

from enum import Enum
from functools import lru_cache
from itertools import cycle
from random import SystemRandom
from typing import Final, NamedTuple

from tenantry.ids import tag
from tenantry.proof import bind_proof
from tenantry.router.answers import Answer
from tenantry.router.claims import SETTING
from tenantry.router.messages import OpeningMessages, answer, bound, parsed, simple, statement

#: Undoes all that a scope may leave on its connection, except prepared statements, which asyncpg caches, and
#: session locks. Giving back the session's authorization gives back its role, one that ALTER ROLE … SET role has
#: set included. asyncpg's default reset leaves temporary tables, `lastval()`, and roles behind.
_RESET: Final = (
    "CLOSE ALL",
    "UNLISTEN *",
    "RESET SESSION AUTHORIZATION",
    "RESET ALL",
    "DISCARD SEQUENCES",
    "DISCARD TEMP",
)
_UNLOCK: Final = "SELECT pg_catalog.pg_advisory_unlock_all()"  # a scope may have put its own before it

_CLAIMS: Final = parsed(f"SELECT WHERE pg_catalog.set_config('{SETTING}', $1, true) IS NULL")

_dice = SystemRandom()

#: `random()` must not go on from where a scope's setseed() has left it, and RESET leaves it there.
_SEEDS: Final = tuple(f"SET seed TO {_dice.uniform(-1, 1):.9f}" for _ in range(64))

#: The same as units of the simple protocol: an implicit transaction each.
_RESET_UNITS: Final = cycle("; ".join((_UNLOCK, *_RESET, seed)) for seed in _SEEDS)

#: In front of an opening, in its unit. A transaction of its own: a BEGIN that follows statements of the same unit
#: goes on with their transaction, so the scope would run at the isolation level that the last one has set for
#: the session, and its ROLLBACK would bring back what the reset has undone. Session locks are given back by
#: `enter`: a SELECT of its own costs more than the rest of the reset together.
_RESETS_FIRST: Final = cycle(
    b"".join(statement(sql) for sql in ("BEGIN", *_RESET, seed, "COMMIT")) for seed in _SEEDS
)
_RESETS_TAGS: Final = (
    "BEGIN",
    "CLOSE CURSOR ALL",
    "UNLISTEN",
    "RESET",
    "RESET",
    "DISCARD SEQUENCES",
    "DISCARD TEMP",
    "SET",
    "COMMIT",
)
_ROLLBACK_FIRST: Final = statement("ROLLBACK")
_FORGET_FIRST: Final = _ROLLBACK_FIRST + statement("DEALLOCATE ALL")

_LEVELS: Final = {
    "read_committed": "READ COMMITTED",
    "read_uncommitted": "READ UNCOMMITTED",
    "repeatable_read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}


class Mode(NamedTuple):
    """How a scope's transaction is opened; the words are asyncpg's."""

    readonly: bool = False
    isolation: str | None = None
    """"read_committed", "read_uncommitted", "repeatable_read", "serializable"; None: the server's default."""
    deferrable: bool = False
    claims: str | None = None
    """JSON for policies that ask who it is within the tenant, from `claims.encoded`; None: there are none."""

    def begin(self) -> str:
        """The BEGIN statement of this mode.

        Raises:
            ValueError: for an isolation level that PostgreSQL doesn't have.
        """
        words = ["BEGIN"]
        if self.isolation is not None:
            if self.isolation not in _LEVELS:
                raise ValueError(f"isolation is one of {', '.join(_LEVELS)}, or None; not {self.isolation!r}")
            words += ["ISOLATION LEVEL", _LEVELS[self.isolation]]
        if self.readonly:
            words.append("READ ONLY")
        if self.deferrable:
            words.append("DEFERRABLE")
        return " ".join(words)


PLAIN: Final = Mode()


class ProofContext(NamedTuple):
    """What an opening depends on of its connection."""

    backend: int
    """The server process that a proof is for; 0 for any, behind a pooler."""
    pooled: bool = False
    """A pooler stands in between."""
    pipelined: bool = False
    """Openings may travel with statements."""


class Before(Enum):
    """What a connection's session is in before an opening."""

    CLEAN = "nothing of an earlier scope is there"
    ENDED = "an earlier scope has ended, and is not reset"
    OPEN = "a transaction may be open"
    OUTDATED = "a transaction may be open, and asyncpg has forgotten what it had prepared"


class ScopeOpener:
    """How scopes of one tenant are opened on one database. Made once and used again."""

    # Mutable state: _last, what was made last without a proof, with what it depends on.

    __slots__ = ("_head", "_key", "_last", "_tags", "_tail", "statement_timeout", "tag", "tenant")

    def __init__(
        self,
        begin: str,
        tenant: str,
        statement_timeout: int | None = None,
        key: bytes | None = None,
        claims: str | None = None,
    ):
        """Args:
        begin: from `Mode.begin`.
        tenant: the id as the databases write it.
        statement_timeout: the tenant's own in milliseconds, or None.
        key: the database's key in hardened mode.
        claims: as of `Mode`.
        """
        self.tenant = tenant
        self.tag = tag(tenant)
        """What the scope leaves in `application_name`."""
        self.statement_timeout = statement_timeout
        self._head = statement(begin) + parsed("CALL tenantry.enter($1, $2, $3)")
        self._tail = b""
        self._tags: tuple[str, ...] = ("BEGIN", "CALL")
        if claims is not None:
            self._tail = _CLAIMS + bound((claims,))
            self._tags += ("SELECT 0",)
        if statement_timeout is not None:
            self._tail += statement(f"SET LOCAL statement_timeout = {statement_timeout:d}")
            self._tags += ("SET",)
        self._key = key
        self._last: tuple[int, Before, OpeningMessages] | None = None

    def opening(self, context: ProofContext, statements: int, before: Before = Before.CLEAN) -> OpeningMessages:
        """What opens the scope.

        Args:
            statements: how many named ones asyncpg has on the session; -1: any number.
            before: what must be undone first. Behind a pooler the session is never clean.
        """
        last = self._last
        if last is not None and last[0] == statements and last[1] is before is Before.CLEAN and not context.pooled:
            return last[2]
        proof = None if self._key is None else bind_proof(self._key, context.backend, self.tenant)
        data = self._head + bound((self.tenant, proof, str(statements))) + self._tail
        tags = self._tags
        if before is not Before.CLEAN or context.pooled:
            data, tags = next(_RESETS_FIRST) + data, _RESETS_TAGS + tags
        if before is Before.OPEN:
            data, tags = _ROLLBACK_FIRST + data, ("ROLLBACK", *tags)
        elif before is Before.OUTDATED:
            data, tags = _FORGET_FIRST + data, ("ROLLBACK", "DEALLOCATE ALL", *tags)
        made = OpeningMessages(data, len(tags), _answer(tags))
        if self._key is None and before is Before.CLEAN:
            self._last = (statements, before, made)
        return made


_answer = lru_cache(64)(lambda tags: answer(*tags))


def end(command: str, context: ProofContext, *, reset: bool = True) -> bytes:
    """The unit that ends a scope by `command`, "COMMIT" or "ROLLBACK".

    Behind a pooler the reset stands in it always: with the answer to COMMIT the pooler may give the process of the
    server to somebody else. There it is one transaction that stays open, failed, where the reset fails: then the
    process is still ours, and the pooler ends it when we close the connection. Nobody gets what the scope left.
    It is chained, so that a timeout that the scope has left finds no moment between the two, outside of any
    transaction; at a level that waits for nobody, where the scope was SERIALIZABLE DEFERRABLE.

    Args:
        reset: the session is reset in it too, behind the COMMIT and in a transaction of its own; the tags tell how
            far the unit came.
    """
    if context.pooled:
        chained = f"SET TRANSACTION ISOLATION LEVEL READ COMMITTED; {next(_RESET_UNITS)}"
        return simple(f"{command} AND CHAIN; {chained}; COMMIT")
    return simple(f"{command}; {next(_RESET_UNITS)}" if reset else command)


def reset(*, forget: bool = False) -> bytes:
    """The unit that brings a session of any state back to a clean one. ROLLBACK outside a transaction only warns.

    The reset is a transaction that stays open where it fails: see `end`.

    Args:
        forget: prepared statements go too; `driver.forget` is the client's side of it.
    """
    first = "ROLLBACK; DEALLOCATE ALL" if forget else "ROLLBACK"
    return simple(f"{first}; BEGIN; {next(_RESET_UNITS)}; COMMIT")


#: Ends the server's process, whose state is beyond repair; the transaction that was refused is still open.
END_SESSION: Final = simple("ROLLBACK; SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")


class ScopeOutcome(Enum):
    """What became of a scope's transaction: what its caller is told is true (guarantee G23)."""

    COMMITTED = "it is committed"
    ROLLED_BACK = "it is rolled back, as asked or because a statement had failed"
    ENDED = "the application has ended it by hand"
    REFUSED = "the COMMIT failed, nothing of it is committed"
    UNKNOWN = "the connection went away before the answer: committed or not, nobody knows"


def outcome(answer: Answer) -> ScopeOutcome:
    """Read the answer to the unit that ends a scope.

    A COMMIT in a transaction that has failed is no error to PostgreSQL: it answers ROLLBACK.
    """
    if answer.completed:
        return ScopeOutcome.COMMITTED if answer.completed[0] == "COMMIT" else ScopeOutcome.ROLLED_BACK
    return ScopeOutcome.UNKNOWN if answer.lost else ScopeOutcome.REFUSED
