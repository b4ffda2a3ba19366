"""What a pool hands to and fro: connections, and the wishes for them."""

from __future__ import annotations

import asyncio

from tenantry.ids import TenantId, Terms
from tenantry.router import scope
from tenantry.router.driver import Connection


class Waiter:
    """One caller's wish for a scope on one database."""

    __slots__ = (
        "alone",
        "arrived",
        "bound",
        "deadline",
        "future",
        "opening",
        "pooled",
        "prompt",
        "retried",
        "riding",
        "task",
        "tenant",
        "tenant_key",
        "terms",
    )

    def __init__(
        self,
        tenant: TenantId,
        terms: Terms,
        opening: scope.ScopeOpener,
        arrived: float,
        deadline: float,
        *,
        prompt: bool = False,
    ) -> None:
        self.tenant = tenant
        self.tenant_key = opening.tenant
        """In which line it waits: the tenant's id as text, which is hashed once in its life."""
        self.terms = terms
        self.opening = opening
        """How the scope is opened."""
        self.arrived = arrived
        self.deadline = deadline
        """Loop time in seconds."""
        self.prompt = prompt
        """The deadline is the caller's own: it is told by then, however the server is."""
        self.future: asyncio.Future[None] | None = None
        self.pooled: PooledConnection | None = None
        self.bound = False
        """The connection was handed over with the opening already sent."""
        self.alone = False
        """The opening is to travel alone: whoever waits wants to know whether it is refused."""
        self.task = asyncio.current_task()
        self.riding = False
        """Its opening was sent behind the end of the scope before, which is not answered yet."""
        self.retried = 0
        """How often its opening was interrupted by somebody else."""

    def waits(self) -> bool:
        """It is in a line, and its caller has not gone."""
        return self.future is not None and not self.future.done()

    def watched(self) -> bool:
        """Its deadline counts: nothing but others keeps its scope from being open."""
        return self.riding or (self.future is not None and not self.future.done())

    def wait(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Begin to wait, at first or once more: what an earlier turn gave was no good."""
        self.pooled, self.bound = None, False
        self.future = loop.create_future()
        return self.future


class PooledConnection:
    """One connection with what must be known of it."""

    __slots__ = (
        "connection",
        "dirty",
        "dropped",
        "heard",
        "holder",
        "proof_context",
        "read_only",
        "schema",
        "since",
    )

    def __init__(
        self, connection: Connection, proof_context: scope.ProofContext, now: float, schema: int = 0
    ) -> None:
        self.connection = connection
        self.proof_context = proof_context
        self.since = now
        """Loop time at which it was taken, or put back."""
        self.heard = now
        """Loop time at which its server has last answered, or later."""
        self.holder: Waiter | None = None
        """Whose scope is open on it."""
        self.schema = schema
        """How many schema changes it has learned of; not as many as the pool: it must forget what it keeps."""
        self.dirty = False
        """It is in a transaction, or keeps what a scope left: to be rolled back and reset before use."""
        self.read_only = False
        """It leads to a server that takes no writes: not to be used again."""
        self.dropped = False
        """The pool has parted with it; whoever still has it in hand must not bring it back."""

    def outdated(self) -> None:
        """What asyncpg keeps of it no longer fits: it forgets that when its scope has ended."""
        self.schema = -1
