"""Background jobs: without a tenant they raise; with one they touch no other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tenantry.ids import TenantId
from tenantry.router import TenantRouter
from tenantry.testing.report import Attempt, Outcome, Report
from tenantry.testing.scene import Scene, rolled_back, unbound

Job = Callable[[Any], Awaitable[object]]


def _name(job: Job) -> str:
    return getattr(job, "__qualname__", None) or repr(job)


async def raises(job: Job, given: Any, attack: str) -> Attempt:
    """Run the job with what is no tenant: it must end by an exception."""
    try:
        answer = await job(given)
    except Exception:
        return Attempt(_name(job), attack, Outcome.HELD)
    shown = repr(answer)
    why = f"it ended as if all were well and returned {shown[:80]}: a job without a tenant must raise"
    return Attempt(_name(job), attack, Outcome.LEAKED, why)


async def run_unbound(router: TenantRouter, tenant: TenantId, work: Job) -> Attempt:
    """Run `work(connection)` on the application role's connection without a tenant."""
    async with unbound(router, tenant) as connection:
        return await raises(work, connection, "on a connection without a tenant")


async def keeps_to(scene: Scene, job: Job) -> Attempt:
    """Run the job for A: B's rows are the same afterwards. What it does for A is committed."""
    before = await _fingerprints(scene)
    await job(scene.a)
    after = await _fingerprints(scene)
    changed = sorted(table for table in before if before[table] != after[table])
    if changed:
        why = f"changed rows of the other tenant in {', '.join(changed)}"
        return Attempt(_name(job), "for one tenant", Outcome.LEAKED, why)
    return Attempt(_name(job), "for one tenant", Outcome.HELD)


async def _fingerprints(scene: Scene) -> dict[str, str]:
    found = {}
    async with rolled_back(scene.router, scene.b) as connection:
        for table in scene.tables:
            if "SELECT" in table.rights:
                found[table.name] = str(
                    await connection.fetchval(
                        "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(to_jsonb(t)::text), '' "
                        f"ORDER BY md5(to_jsonb(t)::text))), '') FROM {table.sql} AS t WHERE {table.tenant} = $1",
                        str(scene.b),
                    )
                )
    return found


async def jobs(router: TenantRouter, job: Job, *, none: tuple[Any, ...], scene: Scene | None) -> Report:
    """Both promises, as far as they can be tried."""
    attempts = [await raises(job, given, f"with {given!r} for a tenant") for given in none]
    if scene is not None:
        attempts.append(await keeps_to(scene, job))
    return Report(tuple(attempts), scene.problems() if scene is not None else ())
