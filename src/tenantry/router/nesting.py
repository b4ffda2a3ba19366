"""Scopes inside scopes of the same pool: who would wait for itself is told at once (guarantee G22)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

from tenantry.router.waiter import PooledConnection, Waiter


class Nesting:
    """Which tasks hold scopes of one pool, and which of them wait for another one there."""

    # Mutable state: _holders (how many scopes a task has open), _nested (who waits although its task is one of
    # them).

    __slots__ = ("_holders", "_nested")

    def __init__(self) -> None:
        self._holders: dict[asyncio.Task[Any] | None, int] = {}
        self._nested: set[Waiter] = set()

    def hold(self, pooled: PooledConnection, waiter: Waiter) -> None:
        """A scope is the waiter's on the connection from now on."""
        pooled.holder = waiter
        self._holders[waiter.task] = self._holders.get(waiter.task, 0) + 1

    def let_go(self, pooled: PooledConnection) -> None:
        """The scope on the connection is ending."""
        holder, pooled.holder = pooled.holder, None
        if holder is not None:
            left = self._holders.pop(holder.task) - 1
            if left:
                self._holders[holder.task] = left

    def is_inner(self, waiter: Waiter) -> bool:
        """The waiter's task holds a scope already."""
        return waiter.task in self._holders

    def deadlock(
        self, waiter: Waiter, busy: Collection[PooledConnection], *, size: int, at_cap: bool
    ) -> str | None:
        """Why an inner waiter would wait for itself; None: a connection may become free, and it waits from now on.

        One may where it is held by a task that does not wait here, or another one can be opened.

        Args:
            busy: connections in somebody's hand.
            size: connections at most.
            at_cap: the tenant has as many as it may have.
        """
        waiting = {nested.task for nested in self._nested if nested.waits()} | {waiter.task}

        def all_wait(blocking: Collection[PooledConnection]) -> bool:
            return bool(blocking) and all(p.holder is not None and p.holder.task in waiting for p in blocking)

        if len(busy) >= size and all_wait(busy):  # one that is closing makes room
            return f"its {size} connections are held by tasks that wait in the same way"
        own = [p for p in busy if p.holder is not None and p.holder.tenant_key == waiter.tenant_key]
        if at_cap and all_wait(own):
            return (
                f"the {len(own)} connections that the tenant may have are held by tasks that wait in the same way"
            )
        self._nested.add(waiter)
        return None

    def done(self, waiter: Waiter) -> None:
        """It waits no longer."""
        if self._nested:
            self._nested.discard(waiter)
