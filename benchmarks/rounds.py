"""Comparing sides by turns: short rounds, the order turning, medians of the ratios within a round."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter

#: One unit of work of a side, by a caller's number and its turn's number.
Work = Callable[[int, int], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Rates:
    """Units per second, by side, one figure per round."""

    by_side: Mapping[str, Sequence[float]]

    def rate(self, side: str) -> float:
        """Median over the rounds."""
        return statistics.median(self.by_side[side])

    def ratio(self, side: str, base: str) -> float:
        """Median of the rounds' ratios."""
        return statistics.median(self.ratios(side, base))

    def ratios(self, side: str, base: str) -> list[float]:
        """Round by round."""
        return [a / b for a, b in zip(self.by_side[side], self.by_side[base], strict=True)]

    def spread(self, side: str, base: str) -> str:
        """The middle half of the rounds' ratios, in words."""
        ratios = sorted(self.ratios(side, base))
        if len(ratios) < 4:
            return f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        low, _, high = statistics.quantiles(ratios, n=4)
        return f"{low:.2f} to {high:.2f}"


async def throughput(work: Work, callers: int, seconds: float) -> float:
    """Units per second that so many callers do together."""
    done = 0
    started = perf_counter()
    stop = started + seconds

    async def call(number: int) -> None:
        nonlocal done
        turn = 0
        while perf_counter() < stop:
            await work(number, turn)
            turn += 1
        done += turn

    await asyncio.gather(*(call(number) for number in range(callers)))
    return done / (perf_counter() - started)


async def by_turns(sides: Mapping[str, Work], *, callers: int, rounds: int, seconds: float) -> Rates:
    """Let the sides work by turns; each round begins with another one. The first round is not counted."""
    names = list(sides)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        turned = names[number % len(names) :] + names[: number % len(names)]
        for name in turned:
            rate = await throughput(sides[name], callers, seconds if number else seconds / 2)
            if number:
                found[name].append(rate)
    return Rates(found)
