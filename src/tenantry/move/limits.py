"""How long, how fast, how often: the bounds of a move."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.runtime.durations import seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds of a move. Times are seconds."""

    pause: float = 0.8
    """Hard cap of the time for which the tenant's clients wait; kept by the server even if the mover is gone. The
    fence gets all but the last 0.1 of it (`switch.NOTICE`)."""
    lock: float = 0.3
    """Part of `pause` for which the fence waits for the tenant's running transactions."""
    latency: float = 0.15
    """No fence until the last probes were seen at the other side within this."""
    probes: int = 3
    """How many probes in a row must be that fast."""
    attempts: int = 20
    """Fences tried before the move stops and says why."""
    backoff: float = 0.5
    """First wait after a missed fence; doubled each time, up to 8 s."""
    patience: float = 120.0
    """How long a step is tried again while connections break, and how long a slot may wait for others'
    transactions."""
    catch_up: float = 3600.0
    """How long the other side may take to catch up after the copy."""
    stall: float = 60.0
    """A copy that moves no byte for this long is broken off and tried again."""
    jobs: int = 2
    """Tables copied at once."""
    copy_rate: float | None = None
    """Bytes a second at most, over all copying jobs; None: no limit. A copy under the fence is not throttled."""
    chunk: int = 32 * 1024 * 1024
    """Bytes of a table that one statement of the comparison reads."""
    delete_batch: int = 2_000
    """Old rows deleted in one transaction."""
    delete_pause: float = 0.01
    """Wait between two such transactions."""

    def __post_init__(self) -> None:
        """Refuse times that can't be waited for, and numbers that nothing can be done by, as ValueError."""
        for name in ("pause", "lock", "latency", "backoff", "patience", "catch_up", "stall", "delete_pause"):
            seconds(name, getattr(self, name))
        for name in ("probes", "attempts", "jobs", "chunk", "delete_batch"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is a whole number from 1, not {value!r}")
        if self.copy_rate is not None and not seconds("copy_rate", self.copy_rate) > 0:
            raise ValueError(f"copy_rate is bytes a second, above zero; got {self.copy_rate!r}")
