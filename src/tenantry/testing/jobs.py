"""Background jobs: without a tenant they raise; with one they touch no other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tenantry.ids import TenantId
from tenantry.isolation.attacks import Attempt, Outcome, Report
from tenantry.isolation.attacks.scene import Scene
from tenantry.router import TenantRouter
from tenantry.testing.scope import rolled_back, unbound

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
    return Attempt(_name(job), attack, Outcome.BROKEN, why)


async def run_unbound(router: TenantRouter, tenant: TenantId, work: Job) -> Attempt:
    """Run `work(connection)` on the application role's connection without a tenant."""
    async with unbound(router, tenant) as connection:
        return await raises(work, connection, "on a connection without a tenant")


async def keeps_to(router: TenantRouter, scene: Scene, job: Job, a: TenantId, b: TenantId) -> Attempt:
    """Run the job for A: B's rows are the same afterwards. What it does for A is committed."""
    before = await _fingerprints(router, scene, b)
    await job(a)
    after = await _fingerprints(router, scene, b)
    changed = sorted(table for table in before if before[table] != after[table])
    if changed:
        why = f"changed rows of the other tenant in {', '.join(changed)}"
        return Attempt(_name(job), "for one tenant", Outcome.BROKEN, why)
    return Attempt(_name(job), "for one tenant", Outcome.HELD)


async def _fingerprints(router: TenantRouter, scene: Scene, tenant: TenantId) -> dict[str, str]:
    found = {}
    async with rolled_back(router, tenant) as connection:
        for target in scene.targets.values():
            if "SELECT" in target.rights.whole:
                found[target.relation.key] = await connection.fetchval(
                    "SELECT count(*) || ' ' || coalesce(md5(string_agg(md5(to_jsonb(t)::text), '' "
                    f"ORDER BY md5(to_jsonb(t)::text))), '') FROM {target.relation.sql} AS t "
                    f"WHERE t.{target.quoted} = {target.id(str(tenant))}"
                )
    return found


async def jobs(
    router: TenantRouter, job: Job, *, none: tuple[Any, ...], scene: Scene | None, a: Any = None, b: Any = None
) -> Report:
    """Both promises, as far as they can be tried."""
    attempts = [await raises(job, given, f"with {given!r} for a tenant") for given in none]
    if scene is not None:
        attempts.append(await keeps_to(router, scene, job, a, b))
    return Report(tuple(attempts), scene.problems if scene is not None else ())
