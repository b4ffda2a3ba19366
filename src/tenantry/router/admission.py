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

from tenantry.tenant import Terms

Ticket = TypeVar("Ticket", bound=Hashable)

#: Connection time that one turn of the round robin is worth to a tenant of weight 1, in seconds.
QUANTUM = 0.02
#: Rounds that the ring holds: a debt is forgiven beyond ROUNDS * QUANTUM (some 20 s) of weighted time.
ROUNDS = 1024
#: "Other tenants exist" when another one has asked for a connection within so many seconds.
COMPANY = 60.0

_FULL_RING = (1 << ROUNDS) - 1


class Line(Generic[Ticket]):
    """One tenant's line in front of one database."""

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
        self.waiting: OrderedDict[Ticket, None] = OrderedDict()


class Admission(Generic[Ticket]):
    """The queue in front of one database.

    The caller tells what happened (`arrive`, `leave`, `withdraw`), and asks `take` whenever a connection is
    free. `now` is a monotonic time in seconds.
    """

    # Mutable state: _lines (tenants that hold, wait or owe), the ring of rounds with _mask marking the
    # rounds in use, _round (the current one), waiting (tickets in all lines), _cost (usual cost of a scope
    # of anybody), the tenant seen last with its time and the time of the last other one (_latest,
    # _latest_at, _other_at), and the number of lines at which forgotten debtors are swept (_sweep_at).

    def __init__(self, connections: int, *, share: float = 0.75, queue: int = 1000) -> None:
        """Args:
        connections: size of the pool.
        share: part of the pool that one tenant may hold while others exist; above 0, at most 1.
        queue: waiting checkouts per tenant.
        """
        self.connections = connections
        self.queue = queue
        self._share_cap = max(1, int(connections * share))
        self._lines: dict[Hashable, Line[Ticket]] = {}
        self._ring: dict[int, deque[Line[Ticket]]] = {}
        self._mask = 0
        self._round = 0
        self._cost = QUANTUM / 20
        self._sweep_at = 64
        self.waiting = 0
        self._latest: Hashable = None
        self._latest_at = float("-inf")
        self._other_at = float("-inf")

    # -- what happened -----------------------------------------------------------------------------

    def arrive(self, ticket: Ticket, tenant: Hashable, terms: Terms, now: float) -> bool:
        """Put a ticket at the end of its tenant's line. False: the line is full, and nothing changed."""
        line = self._seen(tenant, terms, now)
        if len(line.waiting) >= (self.queue if terms.queue is None else terms.queue):
            return False
        line.waiting[ticket] = None
        self.waiting += 1
        self._schedule(line, now)
        return True

    def enter(self, tenant: Hashable, terms: Terms, now: float) -> bool:
        """Take a free connection at once, without a ticket. False: others come first, or the cap is reached.

        To be asked only when a connection is free.
        """
        line = self._seen(tenant, terms, now)
        if self._mask or line.waiting or line.held >= self._cap(line, now):
            self._forget(line)
            return False
        line.held += 1
        line.due = max(line.due, self._round) + line.cost / (QUANTUM * terms.weight)
        return True

    def leave(self, tenant: Hashable, used: float, now: float) -> None:
        """A connection came back after `used` seconds; the charge is corrected to them."""
        line = self._lines[tenant]
        line.held -= 1
        line.due += (used - line.cost) / (QUANTUM * line.terms.weight)
        line.cost += (used - line.cost) / 8
        self._cost += (used - self._cost) / 64
        if line.waiting:
            self._schedule(line, now)
        else:
            self._forget(line)

    def withdraw(self, ticket: Ticket, tenant: Hashable) -> bool:
        """Take a ticket out of its line. False: it isn't in the line (any more)."""
        line = self._lines.get(tenant)
        if line is None or ticket not in line.waiting:
            return False
        del line.waiting[ticket]
        self.waiting -= 1
        if not line.waiting:
            self._forget(line)
        return True

    def evict(self) -> list[Ticket]:
        """Take everybody out of the lines, those over their cap included; returns them."""
        evicted: list[Ticket] = []
        self._ring.clear()
        self._mask = self.waiting = 0
        for line in list(self._lines.values()):
            evicted += line.waiting
            line.waiting.clear()
            line.scheduled = False
            self._forget(line)
        return evicted

    def restore(self, ticket: Ticket, tenant: Hashable, terms: Terms, now: float) -> None:
        """Put a ticket whose turn came to nothing back to the head of its line, uncharged."""
        line = self._lines[tenant]
        line.held -= 1
        line.due -= line.cost / (QUANTUM * line.terms.weight)
        line.waiting[ticket] = None
        line.waiting.move_to_end(ticket, last=False)
        self.waiting += 1
        self._schedule(line, now)

    # -- decisions ---------------------------------------------------------------------------------

    def take(self, now: float) -> Ticket | None:
        """The ticket whose turn it is, now charged and counted as holding; None: nobody can be served."""
        while self._mask:
            number = self._first_round()
            bucket = self._ring[number % ROUNDS]
            line = bucket.popleft()
            if not bucket:
                del self._ring[number % ROUNDS]
                self._mask ^= 1 << (number % ROUNDS)
            line.scheduled = False
            if not line.waiting or line.held >= self._cap(line, now):
                self._forget(line)  # comes back with its next arrival or leave
                continue
            if line.due >= number + 1:  # charged since it was put here
                self._schedule(line, now)
                continue
            self._round = number
            ticket, _ = line.waiting.popitem(last=False)
            self.waiting -= 1
            line.held += 1
            line.due = max(line.due, number) + line.cost / (QUANTUM * line.terms.weight)
            self._schedule(line, now)
            return ticket
        return None

    def retry_after(self, tenant: Hashable, now: float) -> float:
        """Seconds after which this tenant's line is likely to have moved on."""
        line = self._lines.get(tenant)
        if line is None:
            return self._cost
        return max(line.cost, 0.001) * (len(line.waiting) + 1) / self._cap(line, now)

    def waiting_for(self, tenant: Hashable) -> int:
        """How many tickets of this tenant wait."""
        line = self._lines.get(tenant)
        return 0 if line is None else len(line.waiting)

    def queues(self) -> dict[Hashable, int]:
        """How many tickets wait, by tenant: those of whom some do."""
        return {line.tenant: len(line.waiting) for line in self._lines.values() if line.waiting}

    def held_by(self, tenant: Hashable) -> int:
        """How many connections this tenant holds."""
        line = self._lines.get(tenant)
        return 0 if line is None else line.held

    def first_waiting(self) -> Ticket | None:
        """The head of the line whose turn is next, without taking it; None when nobody can be served."""
        return next(iter(self._ring[self._first_round() % ROUNDS][0].waiting), None) if self._mask else None

    def eligible(self) -> bool:
        """Somebody may be waiting who could be served if a connection were free."""
        return self._mask != 0

    @property
    def idle(self) -> bool:
        """Nobody holds, waits or owes."""
        return not self._lines

    # -- bookkeeping -------------------------------------------------------------------------------

    def _seen(self, tenant: Hashable, terms: Terms, now: float) -> Line[Ticket]:
        if tenant != self._latest:
            self._other_at, self._latest = self._latest_at, tenant
        self._latest_at = now
        line = self._lines.get(tenant)
        if line is None:
            line = self._lines[tenant] = Line(tenant, terms, self._cost, self._round)
        elif line.terms is not terms:
            line.terms = terms
        return line

    def _cap(self, line: Line[Ticket], now: float) -> int:
        other = self._other_at if line.tenant == self._latest else self._latest_at
        cap = self._share_cap if now - other < COMPANY else self.connections
        limit = line.terms.connections
        return cap if limit is None else max(1, min(cap, limit))

    def _schedule(self, line: Line[Ticket], now: float) -> None:
        if line.scheduled or not line.waiting or line.held >= self._cap(line, now):
            return
        line.scheduled = True
        last = self._round + ROUNDS - 1
        if line.due >= last:
            line.due = float(last)
        number = max(int(line.due), self._round)
        place = number % ROUNDS
        bucket = self._ring.get(place)
        if bucket is None:
            self._ring[place] = deque((line,))
            self._mask |= 1 << place
        else:
            bucket.append(line)

    def _first_round(self) -> int:
        position = self._round % ROUNDS
        turned = ((self._mask >> position) | (self._mask << (ROUNDS - position))) & _FULL_RING
        return self._round + (turned & -turned).bit_length() - 1

    def _forget(self, line: Line[Ticket]) -> None:
        """Drop a line that has no say: it neither holds nor waits, and it owes nothing that matters.

        Debts matter only while somebody waits; when nobody does, the books are closed.
        """
        if line.held or line.waiting or line.scheduled:
            return
        if self.waiting == 0 or line.due <= self._round:
            self._lines.pop(line.tenant, None)
        if self.waiting == 0 and len(self._lines) >= self._sweep_at:
            self._lines = {t: kept for t, kept in self._lines.items() if kept.held or kept.scheduled}
            self._sweep_at = 2 * len(self._lines) + 64
