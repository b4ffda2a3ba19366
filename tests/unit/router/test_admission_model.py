"""Admission against a slow model: every random schedule of arrivals, turns, ends, withdrawals and restores."""

from __future__ import annotations

import itertools
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tenantry.ids import Terms
from tenantry.router.admission import CONTENTION_WINDOW, Admission

TENANTS = "abcde"
tenants = st.sampled_from(TENANTS)
durations = st.sampled_from([0.0, 0.0001, 0.001, 0.02, 0.5, 30.0])


class AdmissionMachine(RuleBasedStateMachine):
    """Tells `Admission` and a model the same story, and compares what they say."""

    @initialize(
        connections=st.integers(1, 6),
        share=st.sampled_from([0.25, 0.5, 0.75, 1.0]),
        queue=st.integers(1, 5),
        weights=st.lists(st.sampled_from([0.01, 0.5, 1.0, 3.0, 100.0]), min_size=5, max_size=5),
        limits=st.lists(st.sampled_from([None, None, 1, 2, 50]), min_size=5, max_size=5),
    )
    def start(
        self, connections: int, share: float, queue: int, weights: list[float], limits: list[int | None]
    ) -> None:
        self.admission: Admission[int] = Admission(connections, share=share, queue=queue)
        self.connections, self.queue = connections, queue
        self.share_cap = max(1, int(connections * share))
        self.terms = {
            tenant: Terms(weight, limit) for tenant, weight, limit in zip(TENANTS, weights, limits, strict=True)
        }
        self.now = 1000.0
        self.numbers = itertools.count()
        # The model: each tenant's line, who holds what since when, when each was seen, free connections.
        self.lines: dict[str, list[int]] = defaultdict(list)
        self.holding: list[tuple[str, float]] = []
        self.seen: dict[str, float] = {}
        self.free = connections

    def cap(self, tenant: str) -> int:
        others = [at for other, at in self.seen.items() if other != tenant]
        company = bool(others) and self.now - max(others) < CONTENTION_WINDOW
        cap = self.share_cap if company else self.connections
        limit = self.terms[tenant].connections
        return cap if limit is None else max(1, min(cap, limit))

    def held(self, tenant: str) -> int:
        return sum(1 for holder, _ in self.holding if holder == tenant)

    def servable(self) -> set[str]:
        return {tenant for tenant, line in self.lines.items() if line and self.held(tenant) < self.cap(tenant)}

    @rule(seconds=durations)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(tenant=tenants)
    def arrives(self, tenant: str) -> None:
        ticket = next(self.numbers)
        taken = self.admission.arrive(ticket, tenant, self.terms[tenant], self.now)
        self.seen[tenant] = self.now
        assert taken == (len(self.lines[tenant]) < self.queue)
        if taken:
            self.lines[tenant].append(ticket)

    @precondition(lambda self: self.free > 0)
    @rule(tenant=tenants)
    def enters(self, tenant: str) -> None:
        entered = self.admission.enter(tenant, self.terms[tenant], self.now)
        self.seen[tenant] = self.now
        if entered:
            assert not self.lines[tenant], "past its own line"
            assert not self.servable(), "past somebody who waits"
            assert self.held(tenant) < self.cap(tenant)
            self.free -= 1
            self.holding.append((tenant, self.now))
        elif not any(self.lines.values()) and self.held(tenant) < self.cap(tenant):
            # A line that was just withdrawn may still be scheduled: then the way round must work.
            ticket = next(self.numbers)
            assert self.admission.arrive(ticket, tenant, self.terms[tenant], self.now)
            assert self.admission.take(self.now) == ticket
            self.free -= 1
            self.holding.append((tenant, self.now))

    @precondition(lambda self: self.free > 0)
    @rule()
    def is_asked_for_the_next(self) -> None:
        servable = self.servable()
        ticket = self.admission.take(self.now)
        if ticket is None:
            assert not servable, "a connection is free and somebody who may have it waits"
            return
        [tenant] = [tenant for tenant, line in self.lines.items() if ticket in line]
        assert tenant in servable, "over the cap"
        assert self.lines[tenant].pop(0) == ticket, "not in order of arrival within the tenant"
        self.free -= 1
        self.holding.append((tenant, self.now))
        self.last = (tenant, ticket)

    @precondition(lambda self: self.holding)
    @rule(which=st.integers(0, 10))
    def ends(self, which: int) -> None:
        tenant, since = self.holding.pop(which % len(self.holding))
        self.free += 1
        self.admission.leave(tenant, self.now - since, self.now)

    @precondition(lambda self: self.holding)
    @rule(which=st.integers(0, 10))
    def hands_on_and_takes_back(self, which: int) -> None:
        """A scope ends, the next one is chosen, and its turn comes to nothing."""
        tenant, since = self.holding.pop(which % len(self.holding))
        self.admission.leave(tenant, self.now - since, self.now)
        self.free += 1
        next_waiter = self.admission.take(self.now)
        if next_waiter is not None:
            [owner] = [name for name, line in self.lines.items() if next_waiter in line]
            self.admission.restore(next_waiter, owner, self.terms[owner], self.now)
            assert self.lines[owner][0] == next_waiter

    @rule(tenant=tenants, which=st.integers(0, 10))
    def withdraws(self, tenant: str, which: int) -> None:
        line = self.lines[tenant]
        if not line:
            assert not self.admission.withdraw(-1, tenant)
            return
        ticket = line.pop(which % len(line))
        assert self.admission.withdraw(ticket, tenant)
        assert not self.admission.withdraw(ticket, tenant), "twice"

    @precondition(lambda self: hasattr(self, "lines"))
    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "admission"):
            return
        assert self.admission.waiting == sum(map(len, self.lines.values()))
        for tenant in TENANTS:
            assert self.admission.waiting_for(tenant) == len(self.lines[tenant])
            assert self.admission.held_by(tenant) == self.held(tenant)
            assert self.admission.retry_after(tenant, self.now) >= 0
        if self.servable():
            assert self.admission.eligible()

    def teardown(self) -> None:
        """Everybody is served in the end, and nothing is left of anybody."""
        if not hasattr(self, "admission"):
            return
        for _ in range(10_000):
            for tenant, since in self.holding:
                self.admission.leave(tenant, self.now - since, self.now)
            self.free, self.holding = self.connections, []
            if not any(self.lines.values()):
                break
            ticket = self.admission.take(self.now)
            assert ticket is not None, "somebody waits, everything is free, and nobody is served"
            [tenant] = [name for name, line in self.lines.items() if ticket in line]
            assert self.lines[tenant].pop(0) == ticket
            self.holding.append((tenant, self.now))
        assert self.admission.take(self.now) is None
        assert self.admission.waiting == 0
        assert all(self.admission.held_by(tenant) == 0 for tenant in TENANTS)


TestAdmissionAgainstTheModel = AdmissionMachine.TestCase
TestAdmissionAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
