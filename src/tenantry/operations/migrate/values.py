"""What a migration of all databases is told, and what it tells. Values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from tenantry.errors import TenantryError


class TurnState(StrEnum):
    """Where a database of a run stands."""

    WAITING = "waiting"
    """Its turn has not come."""
    RUNNING = "running"
    DONE = "done"
    """The command ended with 0."""
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    """The command, or the process that ran it, was ended; the command may have done a part."""


class RunState(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    STOPPED = "stopped"
    """It did not reach all databases: running the command again goes on."""
    DONE = "done"
    ABANDONED = "abandoned"
    """It did not reach all databases; another command was run since, or an operator has given it up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrateOptions:
    """How the command is run."""

    jobs: int = 4
    """Databases at once, after the canary."""
    canary: str | None = None
    """The first database, alone; None: the one with the fewest tenants."""
    timeout: float | None = None
    """Seconds that the command may take for one database; None: no limit."""
    lock_timeout: float = 5.0
    """Seconds for which a statement waits for a lock; 0: without end."""
    lock_retries: int = 5
    """How often the command is begun again where a lock was not to be had."""
    wait: float = 0.0
    """Seconds to wait for a move, or for another migration, that is under way; 0: refuse at once."""
    again: bool = False
    """Run it on the databases too that the unfinished run of this command has done."""
    with_way_back: bool = False
    """Migrate databases too between which a tenant's way back is open; it may break."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """More environment variables: name -> template, see `command.fill`."""


class DatabaseRun(NamedTuple):
    """A database in a run, as the journal has it."""

    database: str
    state: TurnState
    attempts: int = 0
    """How often the command was begun."""
    exit: int | None = None
    """The command's last exit code; None: none yet, or it was ended."""
    seconds: float | None = None
    """Of the last attempt."""
    error: str | None = None
    """Why it is not done; or that it is, and could not be looked at."""
    output: str | None = None
    """The end of what the command said, if it is not done."""
    fingerprint: str | None = None
    """Of the product's schema afterwards; None: not read."""
    rls_steps: int | None = None
    """What `rls plan` would do there afterwards; None: not asked."""


class MigrateRun(NamedTuple):
    """A run."""

    id: str
    command: str
    """As a shell reads it, without secrets."""
    actor: str
    state: RunState
    started_at: datetime
    changed_at: datetime
    databases: tuple[DatabaseRun, ...]
    """In their turns, the canary first."""

    @property
    def behind(self) -> tuple[str, ...]:
        """The databases that the command has not been run on."""
        return tuple(one.database for one in self.databases if one.state is not TurnState.DONE)

    @property
    def drifted(self) -> tuple[str, ...]:
        """The databases that were done and have another schema than most of them."""
        known = [one for one in self.databases if one.state is TurnState.DONE and one.fingerprint]
        counts = Counter(one.fingerprint for one in known)
        usual = counts.most_common(1)[0][0] if counts else None
        return tuple(one.database for one in known if one.fingerprint != usual)

    @property
    def unplanned(self) -> tuple[DatabaseRun, ...]:
        """The databases in which `rls plan` has something to do."""
        return tuple(one for one in self.databases if one.rls_steps)


class MigratePlan(NamedTuple):
    """What a run would do."""

    command: str
    resumes: str | None
    """The unfinished run of this command that it would go on with."""
    todo: tuple[str, ...]
    """The databases in their turns, the canary first."""
    done: tuple[str, ...]
    """Those that the run has done, and which are left alone."""
    absent: tuple[str, ...]
    """Registered, but not made yet: a move will bring the schema."""
    withheld: tuple[str, ...]
    """Variables of this process's environment that name databases and are not passed on."""
    fingerprints: Mapping[str, str]
    """Of the schemas now."""


class MigrateEvent(NamedTuple):
    """Something happened."""

    kind: str
    """"wait" (for the commands of a process that has died), "plan", "absent" (databases), "withheld" (variables);
    of a database "start", "output", "retry", "end"."""
    database: str = ""
    text: str = ""
    """A line of the command's output; why it is tried again."""
    done: int = 0
    """Databases that are done, of `total`."""
    total: int = 0
    run: DatabaseRun | None = None
    """How it ended."""


Tell = Callable[[MigrateEvent], None]


def silence(event: MigrateEvent) -> None:
    """Tell nobody."""


class Listener:
    """Tells somebody what happens, for as long as he listens: whoever fails at it harms no migration."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.error: Exception | None = None
        """What he has failed with."""

    def __call__(self, event: MigrateEvent) -> None:
        """Tell it."""
        try:
            self._tell(event)
        except Exception as error:
            self._tell, self.error = silence, error


class MigrationStopped(TenantryError):
    """The run stopped before all databases were migrated; the same command goes on from there.

    Attributes:
        run: how it stands.
    """

    def __init__(self, run: MigrateRun, why: str) -> None:
        self.run = run
        behind = ", ".join(run.behind)
        super().__init__(
            f"run {run.id} stopped: {why}. Behind: {behind or 'none'}. Mend it and run the same command again: it "
            "goes on with these"
        )
