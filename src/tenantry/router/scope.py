"""The scope protocol: the only code that binds a tenant.

A scope is one transaction for one tenant. A hand-written wrapper pays five flights (network round trips)
for one query: BEGIN, set_config, the query, COMMIT, the pool's reset. A scope pays three:

    1.  BEGIN; CALL tenantry.enter('<tenant>')         one message
    2.  the query
    3.  COMMIT; <reset>                                 one message

and two when somebody is waiting for the database, because then the third message goes on:

    3.  COMMIT; <reset>; BEGIN; CALL tenantry.enter('<next tenant>')

`tenantry.enter` is `tenantry.bind` as a procedure: CALL costs the server half of what SELECT does.

PostgreSQL runs the statements of a message in order and skips the rest after an error, so one answer has to
be read for two callers. `read_answer` does that from what the connection says of itself afterwards:

    no error                         the first is committed, the next one bound
    error, no transaction open       the COMMIT failed; the rest never ran
    error, a transaction open        the first is committed; the bind of the next one was refused
    connection gone, or cancelled    nobody knows; the first is told so, nothing of the next one ran

The first caller gets its own answer either way, never the other's.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, NamedTuple

from tenantry.ids import tag
from tenantry.proof import bind_proof
from tenantry.runtime.sqlstates import IN_FAILED_TRANSACTION
from tenantry.runtime.sqltext import literal

_UNLOCK: Final = "pg_catalog.pg_advisory_unlock_all()"  # a scope may have put its own before it
_RESET_ALL_BUT_LOCKS: Final = (
    "CLOSE ALL; UNLISTEN *; RESET SESSION AUTHORIZATION; RESET ALL; DISCARD SEQUENCES; DISCARD TEMP"
)

#: Undoes all that a scope may leave on its connection, except prepared statements, which asyncpg caches. Giving
#: back the session's authorization gives back its role, one that ALTER ROLE … SET role has set included.
#: asyncpg's default reset leaves temporary tables, `lastval()`, and roles behind.
RESET: Final = f"SELECT {_UNLOCK}; {_RESET_ALL_BUT_LOCKS}"

#: Between the end of one scope and the beginning of the next in one message.
_RESET_BETWEEN: Final = f"; BEGIN; {_RESET_ALL_BUT_LOCKS}; COMMIT; "

#: Brings a connection in any state back to a clean one. ROLLBACK outside a transaction only warns.
ROLLBACK_AND_RESET: Final = f"ROLLBACK; {RESET}"

#: Forgets what SQL's own PREPARE has left, and spares asyncpg's statements. The connection is closed as well,
#: but a pooler in between keeps the server process, and gives it to the next tenant.
FORGET_PREPARED: Final = (
    "DO $$ DECLARE left_over text; BEGIN FOR left_over IN SELECT name FROM pg_catalog.pg_prepared_statements "
    "WHERE from_sql LOOP EXECUTE pg_catalog.format('DEALLOCATE %I', left_over); END LOOP; END $$"
)

#: In a transaction that has failed, fails with 25P02 and so keeps PostgreSQL from answering COMMIT with a
#: silent rollback. Sent only when some statement of the scope has failed: it is then the first statement of
#: the message, and nothing else in the message can fail with that code.
ASSERT_ALIVE: Final = "SELECT 1; "

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
    """Hardened mode: what the router puts into a bind on one connection."""

    backend: int
    """The server process that the proof is for; 0 for any, behind a pooler."""
    padding: str
    """Blanks in front of the message, as many as `pg_stat_activity` shows: nobody reads a proof there."""


class ScopeOpener:
    """How scopes of one tenant are opened on one database. Made once and used again."""

    # Immutable.

    __slots__ = ("_after", "_begin", "_key", "_plain", "_plain_after_reset", "statement_timeout", "tag", "tenant")

    def __init__(self, begin: str, tenant: str, statement_timeout: int | None = None, key: bytes | None = None):
        """Args:
        begin: from `Mode.begin`.
        tenant: the id as the databases write it.
        statement_timeout: the tenant's own in milliseconds, or None.
        key: the database's key in hardened mode.
        """
        self.tenant = tenant
        self.tag = tag(tenant)
        """What the scope leaves in `application_name`."""
        self.statement_timeout = statement_timeout
        self._begin = begin
        self._after = "" if statement_timeout is None else f"; SET LOCAL statement_timeout = {statement_timeout:d}"
        self._key = key
        self._plain = f"{begin}; CALL tenantry.enter({literal(tenant)}){self._after}"
        self._plain_after_reset = _RESET_BETWEEN + self._plain

    def message(self, context: ProofContext) -> str:
        """Opens the scope on a clean connection."""
        return self._plain if self._key is None else context.padding + self._proven(self._key, context)

    def message_after(self, ending: str, context: ProofContext) -> str:
        """Ends what is open by `ending`, resets, and opens this scope.

        Session locks are given back by `enter`: a SELECT of its own costs more than the rest of the reset
        together. The reset is a transaction of its own: a BEGIN that follows statements of
        the same message goes on with their transaction, so this scope would run at the isolation level that
        the last one has set for the session, and its ROLLBACK would bring back what the reset has undone.
        """
        if self._key is None:
            return ending + self._plain_after_reset
        return f"{context.padding}{ending}{_RESET_BETWEEN}{self._proven(self._key, context)}"

    def _proven(self, key: bytes, context: ProofContext) -> str:
        proof = bind_proof(key, context.backend, self.tenant)
        return f"{self._begin}; CALL tenantry.enter({literal(self.tenant)}, '{proof}'){self._after}"


def end_message(
    command: str,
    next: ScopeOpener | None,
    context: ProofContext,
    *,
    check_failed: bool = False,
    deallocate: bool = False,
) -> str:
    """The message that ends a scope, and opens the next one when somebody is waiting.

    Args:
        command: "COMMIT" or "ROLLBACK".
        next: how the next caller's scope is opened, or None.
        context: the connection's.
        check_failed: a statement of the scope has failed; make sure that the transaction is alive.
        deallocate: the scope has used SQL's PREPARE, and the connection will be closed. A pooler behind it keeps
            the server's side, which must not keep the statements.
    """
    ending = ASSERT_ALIVE + command if check_failed and command == "COMMIT" else command
    if deallocate:
        return f"{ending}; {RESET}; {FORGET_PREPARED}"
    return f"{ending}; {RESET}" if next is None else next.message_after(ending, context)


class Answer(Enum):
    """What the answer to a closing message means for the two callers in it."""

    DONE = "the first ended as it asked, the next one (if any) is bound"
    ENDED_NEXT_REFUSED = "the first ended as it asked, the bind of the next one was refused"
    NOT_ENDED = "the first one's COMMIT failed, nothing after it ran"
    WAS_FAILED = "the first one's transaction had failed before; nothing was committed"
    UNKNOWN = "the connection went away, or the message was cut short"


def read_answer(*, sqlstate: str | None, closed: bool, in_transaction: bool, next_sent: bool) -> Answer:
    """Tell what a closing message did that raised an error.

    Args:
        sqlstate: of the error that PostgreSQL answered, None when there was none of its own.
        closed: the connection is gone.
        in_transaction: a transaction, alive or failed, is open now.
        next_sent: the message went on with the next caller's opening.
    """
    if closed or sqlstate is None:
        return Answer.UNKNOWN
    if not in_transaction:
        return Answer.NOT_ENDED
    if sqlstate == IN_FAILED_TRANSACTION:
        return Answer.WAS_FAILED
    return Answer.ENDED_NEXT_REFUSED if next_sent else Answer.UNKNOWN
