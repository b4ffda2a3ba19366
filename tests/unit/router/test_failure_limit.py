"""How often a source may fail, with the time passed in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tenantry.router.failure_limit import FailureLimit


def test_a_source_may_fail_so_often_at_once_and_then_once_in_so_many_seconds() -> None:
    limit = FailureLimit(burst=3, every=10.0)
    for _ in range(3):
        assert limit.wait("a", 100.0) == 0.0
        limit.failed("a", 100.0)
    assert limit.wait("a", 100.0) == 10.0
    assert limit.wait("a", 105.0) == 5.0
    assert limit.wait("b", 105.0) == 0.0, "another source is nobody's concern"
    assert limit.wait("a", 110.0) == 0.0
    limit.failed("a", 110.0)
    assert limit.wait("a", 110.0) == 10.0
    assert limit.wait("a", 1000.0) == 0.0
    limit.failed("a", 1000.0)
    assert limit.wait("a", 1000.0) == 0.0, "after a while it is as if nothing had been"


def test_no_number_of_sources_takes_more_memory_than_those_that_are_remembered() -> None:
    limit = FailureLimit(burst=1, every=10.0, sources=100)
    for number in range(1000):
        limit.failed(f"source {number}", 0.0)
    assert len(limit._failures) == 100
    assert limit.wait("source 999", 0.0) > 0
    assert limit.wait("source 0", 0.0) == 0.0


@given(st.lists(st.floats(0, 100), max_size=50), st.integers(1, 5))
def test_who_fails_whenever_it_may_never_exceeds_the_rate(pauses: list[float], burst: int) -> None:
    limit, now, failures = FailureLimit(burst=burst, every=10.0), 0.0, 0
    for pause in pauses:
        now += pause
        if limit.wait("a", now) == 0.0:
            limit.failed("a", now)
            failures += 1
    assert failures <= burst + now / 10.0 + 1e-6
