"""Background work goes on whatever a round raises, and is over when `close` has returned."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantry.errors import DatabaseUnavailable
from tenantry.runtime.periodic import Periodic
from tests.support.until import turns, until

NEVER = 1e6  # seconds: a pause that only `wake` or `close` ends


async def test_a_round_begins_at_start_and_the_next_after_the_pause() -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1

    periodic = Periodic(work, 0.0, name="rounds")
    await turns(3)
    assert rounds == 0
    periodic.start()
    periodic.start()
    await until(lambda: rounds >= 3)
    await periodic.close()


async def test_the_pause_that_a_round_returns_is_kept_instead_of_the_usual_one() -> None:
    rounds = 0

    async def work() -> float:
        nonlocal rounds
        rounds += 1
        return 0.0 if rounds < 3 else NEVER

    periodic = Periodic(work, NEVER, name="rounds")
    periodic.start()
    await until(lambda: rounds == 3)
    await turns(20)
    assert rounds == 3
    await periodic.close()


async def test_a_wake_during_a_round_begins_another_one_and_a_wake_in_the_pause_ends_it() -> None:
    rounds, go = 0, asyncio.Event()

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            await go.wait()

    periodic = Periodic(work, NEVER, name="rounds")
    periodic.start()
    await until(lambda: rounds == 1)
    periodic.wake()
    go.set()
    await until(lambda: rounds == 2)
    await turns(20)
    assert rounds == 2
    periodic.wake()
    await until(lambda: rounds == 3)
    await periodic.close()


async def test_work_that_wakes_itself_and_awaits_nothing_leaves_the_event_loop_to_others() -> None:
    async def work() -> None:
        periodic.wake()

    periodic = Periodic(work, NEVER, name="rounds")
    periodic.start()
    await turns(10)
    await periodic.close()


async def test_errors_in_a_row_are_counted_and_a_good_round_ends_the_row() -> None:
    told: list[int] = []
    outcomes = iter([True, True, False, True])

    async def work() -> float:
        failing = next(outcomes, None)
        if failing:
            raise DatabaseUnavailable("control", "away")
        return 0.0 if failing is not None else NEVER

    def on_error(_: Exception, failures: int) -> float:
        told.append(failures)
        return 0.0

    periodic = Periodic(work, NEVER, on_error, name="rounds")
    periodic.start()
    await until(lambda: told == [1, 2, 1])
    await periodic.close()


@pytest.mark.parametrize("error", [KeyError("ours"), ZeroDivisionError()])
async def test_a_mistake_of_ours_is_logged_with_its_traceback_and_ends_nothing(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise error

    periodic = Periodic(work, 0.0, name="the fleet's upkeep")
    with caplog.at_level(logging.ERROR, "tenantry"):
        periodic.start()
        await until(lambda: rounds > 2)
        await periodic.close()
    (record,) = caplog.records
    assert record.getMessage() == "the fleet's upkeep failed"
    assert record.exc_info is not None
    assert record.exc_info[1] is error


async def test_an_error_of_the_error_handler_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        raise DatabaseUnavailable("control", "away")

    def on_error(_: Exception, __: int) -> float:
        raise KeyError("ours")

    periodic = Periodic(work, 0.0, on_error, name="rounds")
    with caplog.at_level(logging.CRITICAL, "tenantry"):
        periodic.start()
        await until(lambda: rounds > 2)
        await periodic.close()


async def test_a_cancellation_that_comes_from_within_the_work_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        inner = asyncio.get_running_loop().create_future()
        inner.cancel()
        await inner

    periodic = Periodic(work, 0.0, name="rounds")
    with caplog.at_level(logging.CRITICAL, "tenantry"):
        periodic.start()
        await until(lambda: rounds > 2)
        await periodic.close()


async def test_a_round_that_closes_its_own_loop_is_the_last() -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1
        await periodic.close()

    periodic = Periodic(work, 0.0, name="rounds")
    periodic.start()
    await until(lambda: rounds == 1)
    await turns(20)
    assert rounds == 1
    assert not periodic.running


async def test_nothing_begins_after_close_and_start_does_not_bring_it_back() -> None:
    rounds = 0

    async def work() -> None:
        nonlocal rounds
        rounds += 1

    periodic = Periodic(work, 0.0, name="rounds")
    await periodic.close()
    periodic.start()
    periodic.wake()
    await turns(20)
    assert rounds == 0
    assert not periodic.running


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_any_order_of_starts_wakes_closes_and_errors_never_overlaps_rounds_and_leaves_nothing_running(
    seed: int,
) -> None:
    """Several callers use one loop at once; its rounds fail, hang, swallow a cancellation, clean up slowly."""
    asyncio.run(_stress(random.Random(seed)), debug=False)


async def _stress(dice: random.Random) -> None:
    inside = begun = closed = 0

    async def work() -> float | None:
        nonlocal inside, begun
        assert not closed, "a round begins after a close has returned"
        begun += 1
        inside += 1
        assert inside == 1, "two rounds at once"
        try:
            how = dice.randrange(6)
            if how == 0:
                raise DatabaseUnavailable("control", "away")
            if how == 1:
                raise KeyError("ours")
            if how == 2:
                await asyncio.Event().wait()  # hangs until it is cancelled
            if how == 3:
                with contextlib.suppress(asyncio.CancelledError):
                    await turns(dice.randrange(5))
            await turns(dice.randrange(4))
            return dice.choice([None, 0.0, NEVER])
        finally:
            with contextlib.suppress(asyncio.CancelledError):
                await turns(dice.randrange(4))  # cleanup takes a while too
            inside -= 1

    periodic = Periodic(
        work, 0.0, lambda *_: dice.choice([None, 0.0]), name="stress", chance=dice.random, jitter=0.5
    )

    async def caller() -> None:
        nonlocal closed
        for _ in range(dice.randrange(8)):
            await turns(dice.randrange(6))
            how = dice.randrange(8)
            if how == 0:
                closing = asyncio.create_task(periodic.close())
                await turns(dice.randrange(3))
                closing.cancel()  # a caller that was cancelled: the next close waits all the same
                with contextlib.suppress(asyncio.CancelledError):
                    await closing
            elif how == 1:
                await periodic.close()
                assert inside == 0
                closed += 1
            elif how < 5:
                periodic.start()
            else:
                periodic.wake()

    logging.getLogger("tenantry").setLevel(logging.CRITICAL)
    try:
        await asyncio.gather(*(caller() for _ in range(dice.randrange(1, 5))))
        await periodic.close()
        closed += 1
        assert inside == 0
        before = begun
        periodic.start()
        await turns(10)
        assert begun == before
        assert len(asyncio.all_tasks()) == 1, "something is left running"
    finally:
        logging.getLogger("tenantry").setLevel(logging.NOTSET)
