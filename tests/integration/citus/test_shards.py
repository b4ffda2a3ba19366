"""What Citus's own shard moves do to a tenant that works: the statements of docs/how-to/citus.md."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.integration.citus.conftest import ROWS, Cluster

ISOLATE = "SELECT isolate_tenant_to_new_shard('{table}', '{tenant}', 'CASCADE', shard_transfer_mode => '{mode}')"
PLACE = """
SELECT s.shardid, n.nodename, n.nodeport, n.groupid FROM pg_dist_shard AS s
JOIN pg_dist_placement AS p USING (shardid)
JOIN pg_dist_node AS n ON n.groupid = p.groupid AND n.noderole = 'primary'
WHERE s.shardid = get_shard_id_for_distribution_column('{table}', {tenant})
"""
MOVE = """
SELECT citus_move_shard_placement(
    {shard}, '{host}', {port}, '{to_host}', {to_port}, shard_transfer_mode => '{mode}')
"""


@asynccontextmanager
async def writing(cluster: Cluster, tenant: int) -> AsyncIterator[list[int]]:
    """A tenant that writes all the time; the list has a number for each write that was acknowledged."""
    done: list[int] = []
    stop = asyncio.Event()

    async def work() -> None:
        while not stop.is_set():
            await router.execute(tenant, "INSERT INTO entry (account, amount) VALUES (1, -7)")
            done.append(1)

    async with cluster.open() as router:
        worker = asyncio.create_task(work())
        try:
            yield done
        finally:
            stop.set()
            await worker


async def move(cluster: Cluster, tenant: int, mode: str) -> int:
    """Move the tenant's shard to the next worker; its group."""
    [place] = await cluster.fetch(PLACE.format(table="account", tenant=tenant))
    nodes = await cluster.fetch(
        "SELECT nodename, nodeport, groupid FROM pg_dist_node WHERE groupid > 0 ORDER BY groupid"
    )
    node = next(one for one in nodes if one["groupid"] != place["groupid"])
    await cluster.fetch(
        MOVE.format(
            shard=place["shardid"],
            host=place["nodename"],
            port=place["nodeport"],
            to_host=node["nodename"],
            to_port=node["nodeport"],
            mode=mode,
        )
    )
    return int(node["groupid"])


async def test_a_tenant_is_isolated_and_pinned_to_a_node_while_it_writes_and_nothing_is_lost(
    cluster: Cluster,
) -> None:
    async with writing(cluster, 1) as done:
        await cluster.fetch(ISOLATE.format(table="account", tenant=1, mode="block_writes"))
        group = await move(cluster, 1, "block_writes")
        [place] = await cluster.fetch(PLACE.format(table="entry", tenant=1))
        assert place["groupid"] == group
    assert len(done) > 0
    async with cluster.open() as router:
        assert await router.fetchval(1, "SELECT count(*) FROM entry") == ROWS + len(done)
        assert await router.fetchval(2, "SELECT count(*) FROM entry") == ROWS
