"""What every stage of the demo is given. A stage is a module with one function: `async def run(demo) -> None`."""

from __future__ import annotations

from dataclasses import dataclass

from tenantry.demo.load import DemoLoad
from tenantry.demo.story import Story
from tenantry.demo.world import World
from tenantry.usage.ledger import Ledger
from tenantry.wiring import Router


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller may choose."""

    version: int = 18
    """PostgreSQL's major version: 16 or 18."""
    seconds: float = 10.0
    """Of the load at full speed."""
    keep: bool = False
    """Leave it running at the end, until Ctrl-C."""


@dataclass
class Demo:
    """The running demo."""

    options: Options
    world: World
    router: Router
    ledger: Ledger
    load: DemoLoad
    story: Story
    url: str
    """Where this process's metrics are served."""
    console: str | None = None
    """Where the console is; None: the extra `server` is not installed."""
    rate: float = 0.0
    """Requests a second that the load at full speed reached."""
