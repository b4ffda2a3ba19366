"""Nothing leaked: the router's books, once all scopes are over."""

from __future__ import annotations

from tenantry import Router
from tests.support.until import until


def _at_rest(router: Router) -> bool:
    pools = router.pools.open_pools().values()
    return all(
        pool.state()["busy"] == 0 and pool.state()["opening"] == 0 and pool.admission.waiting == 0
        for pool in pools
    )


async def nothing_leaked(router: Router) -> None:
    """Wait until cleanup is through; then no connection, queue place, permit or parking place is held."""
    await until(lambda: _at_rest(router), what=f"the router at rest: {router!r}")
    pools = router.pools.open_pools().values()
    await until(lambda: router.pools.budget.used == sum(pool.open for pool in pools), what="the budget's count")
    for pool in pools:
        assert pool.state()["idle"] == pool.open
        held = {line.tenant: line.held for line in pool.admission._queues.values() if line.held}
        assert not held, f"queue places are held on {pool.database}: {held}"
    assert router.pools.budget.waiting == 0
    assert len(router.fence_wait) == 0
