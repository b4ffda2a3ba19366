"""The mover: plans moves, runs them, and takes them back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

import asyncpg

from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import UnknownDatabase, UnknownTenant
from tenantry.move import failpoints, replication
from tenantry.move.context import MoveContext
from tenantry.move.endings import completion
from tenantry.move.errors import (
    AlreadyThere,
    DataDiffers,
    MoveBusy,
    MoveInterrupted,
    MoveRefused,
    MoveStopped,
    PreflightFinding,
    SchemaChanged,
    SlotLost,
    WrongState,
)
from tenantry.move.interrupt import Interrupt, Interrupted
from tenantry.move.journal import INTERRUPTED, Journal, Leftover, MoveRecord, MoveSummary
from tenantry.move.lease import lease
from tenantry.move.limits import Limits
from tenantry.move.pg_dump import find_pg_dump
from tenantry.move.plan import Mechanism, MovePlan, SequenceRule, in_block
from tenantry.move.preflight.readiness import readiness
from tenantry.move.preflight.rules_migrations import being_migrated
from tenantry.move.preflight.rules_source import no_ids
from tenantry.move.preflight.survey import MoveRequest, survey
from tenantry.move.progress import Tell, silence
from tenantry.move.results import MoveResult
from tenantry.move.session import Endpoint, session
from tenantry.move.states import State, begin
from tenantry.move.steps import fence
from tenantry.move.steps.procedure import run
from tenantry.move.throttle import Throttle
from tenantry.runtime.connection_errors import TRANSIENT


class Mover:
    """Carries tenants from one database to another while they work. Keeps no state: the journal does.

    Every command can be repeated, and can be taken over by another mover when this one dies.
    """

    def __init__(
        self,
        control_dsn: str,
        endpoints: Mapping[str, Endpoint],
        *,
        tenancy: Tenancy | None = None,
        limits: Limits | None = None,
        pg_dump: str | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        """Args:
        control_dsn: of the control database, directly.
        endpoints: the databases by their names in the directory.
        tenancy: which tables are tenants', by which column; None: those with the column tenant_id.
        pg_dump: the program; None: the fitting one is looked for.
        interrupt: by which whoever started the mover can stop it cleanly.
        """
        self._control_dsn = control_dsn
        self._journal = Journal(control_dsn)
        self._endpoints = dict(endpoints)
        self._tenancy = tenancy or Tenancy()
        self._limits = limits or Limits()
        self._pg_dump = pg_dump
        self._interrupt = interrupt or Interrupt()

    # -- looking -----------------------------------------------------------------------------------

    async def plan(self, tenant: object, to: str, *, consent: float | None = None) -> MovePlan:
        """Decide a move of `tenant` to the database `to`. Touches nothing.

        What stands in its way is in the plan's `findings`. `consent`: seconds of pause that the operator accepts
        for a copy under the fence, which it chooses; None: by logical replication.

        Raises:
            UnknownTenant: the directory has no such tenant.
            UnknownDatabase: the mover was not given one of the two databases.
            AlreadyThere: there is nothing to do.
        """
        text = str(tenant)
        with self._journal.kept():
            placed = await self._journal.placement(text)
            if placed is None:
                raise UnknownTenant(text)
            source, target = self._endpoint(placed[0]), self._endpoint(to)
            if source.name == target.name:
                raise AlreadyThere(text, to)
            request = MoveRequest(
                text, source, target, self._tenancy, consent, self._pg_dump, pause=self._limits.pause
            )
            plan = await survey(request, self._journal)
            other = await self._journal.unfinished(text)
            return plan if other is None else replace(plan, findings=(_busy(text, other), *plan.findings))

    async def readiness(self, database: str) -> tuple[PreflightFinding, ...]:
        """What a move from or to this database would be refused for today, or told. Touches nothing.

        Raises:
            UnknownDatabase: the mover was not given it.
        """
        return await readiness(self._endpoint(database), self._tenancy)

    async def list(self, tenant: object = None) -> list[MoveSummary]:
        """All moves, or one tenant's; the newest first."""
        return await self._journal.list(None if tenant is None else str(tenant))

    async def show(self, move: str) -> MoveRecord:
        """One move, as the journal has it."""
        return await self._journal.show(move)

    async def leftovers(self) -> Sequence[Leftover]:
        """What moves have left, or may have left, and no mover is at work on."""
        return await self._journal.leftovers()

    async def _with_ids(self, plan: MovePlan) -> MovePlan:
        """The plan with a block of ids that is its own; planning takes none."""
        if not any(sequence.rule is SequenceRule.BLOCK for sequence in plan.sequences):
            return plan
        try:
            return replace(plan, sequences=in_block(plan.sequences, await self._journal.take_id_block()))
        except OverflowError:
            raise MoveRefused(plan.tenant, plan.target, [no_ids("one of its sequences")]) from None

    # -- moving ------------------------------------------------------------------------------------

    async def run(self, plan: MovePlan, progress: Tell = silence) -> MoveRecord:
        """Run a plan to the tenant's new home. The way back stays open until `release`.

        Raises:
            MoveBusy: the tenant is being moved already.
            MoveRefused: preflight refuses, or the tenant was moved since the plan was made; nothing was touched.
            MoveStopped: it could not be done; the tenant works where it was. `resume` or `abort` it.
            MoveInterrupted: the interrupt was asked for; the same.
        """
        failpoints.reach("run.started")
        with self._journal.kept():
            # Before the refusals: what the other move has made so far looks like obstacles to preflight.
            if other := await self._journal.unfinished(plan.tenant):
                raise MoveBusy(other, f"tenant {plan.tenant} is being moved already")
            if plan.refusals:
                raise MoveRefused(plan.tenant, plan.target, plan.refusals)
            # Before the journal says that there is a move: a refused one is not to be resumed or aborted.
            async with self._journal.unmigrated((plan.source, plan.target)) as in_the_way:
                if in_the_way is not None:
                    raise MoveRefused(plan.tenant, plan.target, [being_migrated(in_the_way)])
                await self._journal.open(await self._with_ids(plan))
            return await self.resume(plan.id, progress)

    async def resume(self, move: str, progress: Tell = silence) -> MoveRecord:
        """Go on with a move, whatever it was doing: forward, aborting, rolling back, releasing."""
        with self._journal.kept():
            async with self._context(move, progress) as (context, record):
                if record.state in (State.RUNNING, State.FLIPPED):
                    await self._forward(context, record)
                elif record.state is State.ROLLING_BACK:
                    await completion.roll_back(context, record)
                else:
                    await completion.finish(context, record.state)
            return await self.show(move)

    async def abort(self, move: str, progress: Tell = silence) -> MoveRecord:
        """Give a move up and take away what it made.

        After the flip there is nothing to abort: then the move goes forward, and its state says "flipped". If the
        audit took the tenant back, the target's rows, which were kept, are deleted.
        """
        return await self._command(move, "aborted", progress)

    async def rollback(self, move: str, progress: Tell = silence) -> MoveRecord:
        """Take the tenant back, with every write made since the flip, after an equal comparison.

        Raises:
            DataDiffers: the old home does not hold what the new one does; the move stays flipped.
            MoveStopped: it could not be done; before the way back's flip the move stays flipped.
        """
        return await self._command(move, "rolled back", progress)

    async def release(self, move: str, progress: Tell = silence) -> MoveRecord:
        """Give the way back up and delete the tenant's rows at its old home."""
        return await self._command(move, "released", progress)

    # -- how ---------------------------------------------------------------------------------------

    async def _command(self, move: str, wish: str, progress: Tell) -> MoveRecord:
        with self._journal.kept():
            async with self._context(move, progress) as (context, record):
                audited = False
                if record.state is State.FLIPPED:
                    audited = await self._up_to_date(context, record, wish)
                    if wish == "aborted":
                        return await self.show(move)
                    record = await self.show(move)
                if wish == "aborted" and await completion.may_have_leftovers(context, record):
                    await completion.clean_again(context, record.state)
                    return await self.show(move)
                if record.state is State.RUNNING and wish == "aborted":
                    await self._journal.enter(context.plan, State.ABORTING)
                state = begin(move, record.state, wish)
                if state is not None:
                    self._mechanism_allows(context.plan, state)
                    if state is State.ROLLING_BACK:
                        await completion.roll_back(context, record, compared=audited)
                    else:
                        await self._journal.enter(context.plan, state)
                        await completion.finish(context, state)
            return await self.show(move)

    async def _up_to_date(self, context: MoveContext, record: MoveRecord, wish: str) -> bool:
        """Do what the last mover left undone after the flip. True if that was the audit, and all is equal."""
        if record.step == completion.procedure(context.plan)[-1].name:
            return False
        try:
            await self._forward(context, record)
        except SchemaChanged:
            if wish != "rolled back":  # a table that was made at the old home; going back compares again
                raise
            return False
        except SlotLost as lost:
            if wish != "released":  # nothing will ever bring the old home up to date, and it is given up here
                raise
            await self._journal.record_result(context.plan.id, MoveResult(unaudited=lost.reason))
            return False
        return True

    def _mechanism_allows(self, plan: MovePlan, state: State) -> None:
        if state is State.ROLLING_BACK and plan.mechanism is Mechanism.COPY:
            raise WrongState(
                plan.id, "flipped without a way back", "rolled back", "move the tenant back with a new move"
            )

    async def _forward(self, context: MoveContext, record: MoveRecord) -> None:
        """Run what remains; a failed audit takes the tenant back by itself, and keeps the target's rows."""
        try:
            await run(context, completion.procedure(context.plan), await _reached(context, record))
        except DataDiffers as error:
            await self._journal.record_failure(context.plan.id, error.reason)
            if (await self.show(context.plan.id)).state is State.FLIPPED:
                await completion.roll_back_after_audit(context, error)
            raise
        except MoveStopped as error:
            await self._journal.record_failure(context.plan.id, error.reason)
            if isinstance(error, SlotLost) and (await self.show(context.plan.id)).state is State.FLIPPED:
                error.advise(_way_back_lost(context))
            raise

    @contextlib.asynccontextmanager
    async def _context(self, move: str, progress: Tell) -> AsyncIterator[tuple[MoveContext, MoveRecord]]:
        record = await self.show(move)
        async with lease(self._control_dsn, move, (record.source, record.target)) as held:
            record = await self.show(move)
            plan = record.plan
            context = MoveContext(
                plan=plan,
                source=self._endpoint(plan.source),
                target=self._endpoint(plan.target),
                journal=self._journal,
                lease=held,
                limits=self._limits,
                tell=progress,
                pg_dump=self._pg_dump or await self._find_pg_dump(plan),
                interrupt=self._interrupt,
                throttle=Throttle(self._limits.copy_rate),
                endpoints=self._endpoints,
            )
            if record.step is not None and plan.mechanism is Mechanism.REPLICATION:
                await replication.renew_connections(context)
            try:
                yield context, record
            except Interrupted:
                raise await self._interrupted(context) from None

    async def _interrupted(self, context: MoveContext) -> MoveInterrupted:
        """Bring the journal up to date before the lease is given back: the wish may have come behind the flip."""
        move, home = context.plan.id, None
        with contextlib.suppress(MoveStopped, asyncpg.PostgresError, *TRANSIENT):  # then the next mover finds out
            await _reached(context, await self.show(move))
            await self._journal.record_failure(move, INTERRUPTED)
            home = await _home(context, (await self.show(move)).state)
        return MoveInterrupted(move, (await self.show(move)).state.value, home)

    async def _find_pg_dump(self, plan: MovePlan) -> str | None:
        if not plan.load_schema:
            return None
        async with session(self._endpoint(plan.source), "version") as source:
            return await find_pg_dump(source.get_server_version().major)

    def _endpoint(self, name: str) -> Endpoint:
        try:
            return self._endpoints[name]
        except KeyError:
            hint = "Give it an operator_dsn in the configuration, or see `tenantry databases list`"
            raise UnknownDatabase(name, list(self._endpoints), hint) from None


async def _reached(context: MoveContext, record: MoveRecord) -> str | None:
    """The last complete step. What the gate or the state says of the flip counts more than the step.

    A mover may have died at the commit, or between the journal's two words for it; after a flip nothing that comes
    before it is done again.
    """
    if record.step is None:
        return record.step
    if record.state is State.FLIPPED:
        names = [step.name for step in completion.procedure(context.plan)]
        if names.index(record.step) >= names.index("flip"):
            return record.step
    elif record.state is not State.RUNNING or not await fence.is_flipped(context, context.forward):
        return record.step
    await context.journal.enter(context.plan, State.FLIPPED)
    await context.journal.complete_step(context.plan.id, "flip")
    return "flip"


async def _home(context: MoveContext, state: State) -> str:
    """Where the tenant of an unfinished move lives."""
    back = state is State.ROLLING_BACK and await fence.is_flipped(context, context.reverse)
    target = state in (State.FLIPPED, State.ROLLING_BACK, State.RELEASING) and not back
    return context.target.name if target else context.source.name


def _way_back_lost(context: MoveContext) -> str:
    move = context.plan.id
    return f"`tenantry moves release {move}` gives the way back up, without the audit that needs it"


def _busy(tenant: str, other: str) -> PreflightFinding:
    return PreflightFinding(
        "being-moved",
        f"move {other} of tenant {tenant} is not finished, and what it has made may look like obstacles",
        f"see `tenantry moves show {other}`: it has to be aborted, rolled back or released first",
    )
