"""Materialized views at a target that a move has filled."""

from __future__ import annotations

import pytest

from tenantry.embedded import EmbeddedError
from tests.support.estate import Estate


async def test_the_application_reads_materialized_views_at_the_new_home(estate18: Estate) -> None:
    estate18.near.psql(
        "CREATE MATERIALIZED VIEW later AS SELECT count(*) AS n FROM entry WITH NO DATA; "
        "CREATE MATERIALIZED VIEW sums AS SELECT tenant_id, count(*) AS n FROM entry GROUP BY 1; "
        "CREATE MATERIALIZED VIEW total AS SELECT sum(n) AS n FROM sums; GRANT SELECT ON total, later TO app",
        estate18.shared,
    )
    mover = estate18.mover()
    await mover.run(await mover.plan(estate18.tenant, "acme"))
    assert estate18.far.psql("SELECT n FROM total", estate18.dedicated, "app") == "200"
    with pytest.raises(EmbeddedError, match="has not been populated"):  # as at the source
        estate18.far.psql("SELECT n FROM later", estate18.dedicated, "app")
