"""Who gets the next free connection of a database: decisions only, no I/O, no clock, no randomness.

Weighted deficit round robin over tenants, charged in connection time (Shreedhar and Varghese, "Efficient
Fair Queueing Using Deficit Round Robin", 1996, with two changes). A scope's cost is known only when it has
ended, so a turn is charged with the tenant's usual cost and corrected afterwards; and a tenant that owes
several rounds is not visited in each of them: a ring of rounds holds it at the round in which it is solvent
again, so that every decision is O(1) however many tenants wait and however deep one of them is in debt.

Within a tenant the order is first come, first served. A tenant may not hold more than its cap while other
tenants exist. Nobody who could be served is left waiting while a connection is free.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from tenantry.ids import Terms

Waiter = TypeVar("Waiter", bound=Hashable)

#: Connection time that one turn of the round robin is worth to a tenant of weight 1, in seconds.
QUANTUM = 0.02
#: Rounds that the ring holds: a debt is forgiven beyond ROUNDS * QUANTUM (some 20 s) of weighted time.
ROUNDS = 1024
#: "Other tenants exist" when another one has asked for a connection within so many seconds.
CONTENTION_WINDOW = 60.0

_FULL_RING = (1 << ROUNDS) - 1


class TenantQueue(Generic[Waiter]):
    """One tenant's queue in front of one database."""

    __slots__ = ("cost", "due", "held", "scheduled", "tenant", "terms", "waiting")

    def __init__(self, tenant: Hashable, terms: Terms, cost: float, due: float) -> None:
        self.tenant = tenant
        self.terms = terms
        self.cost = cost
        """Usual cost of one scope in seconds of connection time: a moving average."""
        self.due = due
        """The round, with its fraction, in which the next turn is due."""
        self.held = 0
        self.scheduled = False
        self.waiting: OrderedDict[Waiter, None] = OrderedDict()


class Admission(Generic[Waiter]):
    """The queue in front of one database.

    The caller tells what happened (`arrive`, `leave`, `withdraw`), and asks `take` whenever a connection is
    free. `now` is a monotonic time in seconds.
    """

    # Mutable state: _queues (tenants that hold, wait or owe), the ring of rounds with _mask marking the
    # rounds in use, _round (the current one), waiting (waiters in all queues), _cost (usual cost of a scope
    # of anybody), the tenant seen last with its time and the time of the last other one (_latest,
    # _latest_at, _other_at), and the number of queues at which forgotten debtors are swept (_sweep_at).

    def __init__(self, connections: int, *, share: float = 0.75, queue: int = 1000) -> None:
        """Args:
        connections: size of the pool.
        share: part of the pool that one tenant may hold while others exist; above 0, at most 1.
        queue: waiting checkouts per tenant.
        """
        self.connections = connections
        self.queue = queue
        self._share_cap = max(1, int(connections * share))
        self._queues: dict[Hashable, TenantQueue[Waiter]] = {}
        self._ring: dict[int, deque[TenantQueue[Waiter]]] = {}
        self._mask = 0
        self._round = 0
        self._cost = QUANTUM / 20
        self._sweep_at = 64
        self.waiting = 0
        self._latest: Hashable = None
        self._latest_at = float("-inf")
        self._other_at = float("-inf")

    # -- what happened -----------------------------------------------------------------------------

    def arrive(self, waiter: Waiter, tenant: Hashable, terms: Terms, now: float) -> bool:
        """Put a waiter at the end of its tenant's queue. False: the queue is full, and nothing changed."""
        queue = self._seen(tenant, terms, now)
        if len(queue.waiting) >= (self.queue if terms.queue is None else terms.queue):
            return False
        queue.waiting[waiter] = None
        self.waiting += 1
        self._schedule(queue, now)
        return True

    def enter(self, tenant: Hashable, terms: Terms, now: float) -> bool:
        """Take a free connection at once, without a waiter. False: others come first, or the cap is reached.

        To be asked only when a connection is free.
        """
        queue = self._seen(tenant, terms, now)
        if self._mask or queue.waiting or queue.held >= self._cap(queue, now):
            self._forget(queue)
            return False
        queue.held += 1
        queue.due = max(queue.due, self._round) + queue.cost / (QUANTUM * terms.weight)
        return True

    def leave(self, tenant: Hashable, used: float, now: float) -> None:
        """A connection came back after `used` seconds; the charge is corrected to them."""
        queue = self._queues[tenant]
        queue.held -= 1
        queue.due += (used - queue.cost) / (QUANTUM * queue.terms.weight)
        queue.cost += (used - queue.cost) / 8
        self._cost += (used - self._cost) / 64
        if queue.waiting:
            self._schedule(queue, now)
        else:
            self._forget(queue)

    def withdraw(self, waiter: Waiter, tenant: Hashable) -> bool:
        """Take a waiter out of its queue. False: it isn't in the queue (any more)."""
        queue = self._queues.get(tenant)
        if queue is None or waiter not in queue.waiting:
            return False
        del queue.waiting[waiter]
        self.waiting -= 1
        if not queue.waiting:
            self._forget(queue)
        return True

    def evict(self) -> list[Waiter]:
        """Take everybody out of the queues, those over their cap included; returns them."""
        evicted: list[Waiter] = []
        self._ring.clear()
        self._mask = self.waiting = 0
        for queue in list(self._queues.values()):
            evicted += queue.waiting
            queue.waiting.clear()
            queue.scheduled = False
            self._forget(queue)
        return evicted

    def restore(self, waiter: Waiter, tenant: Hashable, terms: Terms, now: float) -> None:
        """Put a waiter whose turn came to nothing back to the head of its queue, uncharged."""
        queue = self._queues[tenant]
        queue.held -= 1
        queue.due -= queue.cost / (QUANTUM * queue.terms.weight)
        queue.waiting[waiter] = None
        queue.waiting.move_to_end(waiter, last=False)
        self.waiting += 1
        self._schedule(queue, now)

    # -- decisions ---------------------------------------------------------------------------------

    def take(self, now: float) -> Waiter | None:
        """The waiter whose turn it is, now charged and counted as holding; None: nobody can be served."""
        while self._mask:
            number = self._first_round()
            bucket = self._ring[number % ROUNDS]
            queue = bucket.popleft()
            if not bucket:
                del self._ring[number % ROUNDS]
                self._mask ^= 1 << (number % ROUNDS)
            queue.scheduled = False
            if not queue.waiting or queue.held >= self._cap(queue, now):
                self._forget(queue)  # comes back with its next arrival or leave
                continue
            if queue.due >= number + 1:  # charged since it was put here
                self._schedule(queue, now)
                continue
            self._round = number
            waiter, _ = queue.waiting.popitem(last=False)
            self.waiting -= 1
            queue.held += 1
            queue.due = max(queue.due, number) + queue.cost / (QUANTUM * queue.terms.weight)
            self._schedule(queue, now)
            return waiter
        return None

    def retry_after(self, tenant: Hashable, now: float) -> float:
        """Seconds after which this tenant's queue is likely to have moved on."""
        queue = self._queues.get(tenant)
        if queue is None:
            return self._cost
        return max(queue.cost, 0.001) * (len(queue.waiting) + 1) / self._cap(queue, now)

    def waiting_for(self, tenant: Hashable) -> int:
        """How many waiters of this tenant wait."""
        queue = self._queues.get(tenant)
        return 0 if queue is None else len(queue.waiting)

    def queues(self) -> dict[Hashable, int]:
        """How many waiters wait, by tenant: those of whom some do."""
        return {queue.tenant: len(queue.waiting) for queue in self._queues.values() if queue.waiting}

    def at_cap(self, tenant: Hashable, now: float) -> bool:
        """This tenant holds as many connections as it may."""
        queue = self._queues.get(tenant)
        return queue is not None and queue.held >= self._cap(queue, now)

    def held_by(self, tenant: Hashable) -> int:
        """How many connections this tenant holds."""
        queue = self._queues.get(tenant)
        return 0 if queue is None else queue.held

    def first_waiting(self) -> Waiter | None:
        """The head of the queue whose turn is next, without taking it; None when nobody can be served."""
        return next(iter(self._ring[self._first_round() % ROUNDS][0].waiting), None) if self._mask else None

    def eligible(self) -> bool:
        """Somebody may be waiting who could be served if a connection were free."""
        return self._mask != 0

    @property
    def idle(self) -> bool:
        """Nobody holds, waits or owes."""
        return not self._queues

    # -- bookkeeping -------------------------------------------------------------------------------

    def _seen(self, tenant: Hashable, terms: Terms, now: float) -> TenantQueue[Waiter]:
        if tenant != self._latest:
            self._other_at, self._latest = self._latest_at, tenant
        self._latest_at = now
        queue = self._queues.get(tenant)
        if queue is None:
            queue = self._queues[tenant] = TenantQueue(tenant, terms, self._cost, self._round)
        elif queue.terms is not terms:
            queue.terms = terms
        return queue

    def _cap(self, queue: TenantQueue[Waiter], now: float) -> int:
        other = self._other_at if queue.tenant == self._latest else self._latest_at
        cap = self._share_cap if now - other < CONTENTION_WINDOW else self.connections
        limit = queue.terms.connections
        return cap if limit is None else max(1, min(cap, limit))

    def _schedule(self, queue: TenantQueue[Waiter], now: float) -> None:
        if queue.scheduled or not queue.waiting or queue.held >= self._cap(queue, now):
            return
        queue.scheduled = True
        last = self._round + ROUNDS - 1
        if queue.due >= last:
            queue.due = float(last)
        number = max(int(queue.due), self._round)
        place = number % ROUNDS
        bucket = self._ring.get(place)
        if bucket is None:
            self._ring[place] = deque((queue,))
            self._mask |= 1 << place
        else:
            bucket.append(queue)

    def _first_round(self) -> int:
        position = self._round % ROUNDS
        turned = ((self._mask >> position) | (self._mask << (ROUNDS - position))) & _FULL_RING
        return self._round + (turned & -turned).bit_length() - 1

    def _forget(self, queue: TenantQueue[Waiter]) -> None:
        """Drop a queue that has no say: it neither holds nor waits, and it owes nothing that matters.

        Debts matter only while somebody waits; when nobody does, the books are closed.
        """
        if queue.held or queue.waiting or queue.scheduled:
            return
        if self.waiting == 0 or queue.due <= self._round:
            self._queues.pop(queue.tenant, None)
        if self.waiting == 0 and len(self._queues) >= self._sweep_at:
            self._queues = {t: kept for t, kept in self._queues.items() if kept.held or kept.scheduled}
            self._sweep_at = 2 * len(self._queues) + 64
