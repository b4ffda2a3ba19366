"""`check --moves` says today what a move would be refused for on the day, and its fixes end that."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tenantry.move import Endpoint, UnknownDatabase
from tenantry.runtime.sqltext import identifier
from tests.support.estate import Estate

CARRIER = 'It\'s the "carrier"'


@pytest.fixture
def carried(looked_at: Estate) -> Iterator[dict[str, Endpoint]]:
    """The estate's ends, by a role without any privilege, whose name wants quoting."""
    name, near = identifier(CARRIER), looked_at.near
    near.psql(f"CREATE ROLE {name} LOGIN NOSUPERUSER")
    near.psql(
        f"GRANT USAGE ON SCHEMA tenantry TO {name}; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO {name}",
        looked_at.shared,
    )
    try:
        ends = looked_at.endpoints
        dsn = ends["shared"].dsn.replace("postgres@", "It%27s%20the%20%22carrier%22@")
        yield {**ends, "shared": replace(ends["shared"], dsn=dsn)}
    finally:
        near.psql(f"DROP OWNED BY {name}", looked_at.shared)
        near.psql(f"DROP ROLE {name}")


async def test_a_fleet_that_is_ready_has_nothing_told_that_refuses(looked_at: Estate) -> None:
    mover = looked_at.mover()
    for name in ("shared", "acme"):
        assert [one for one in await mover.readiness(name) if one.refuses] == []
    with pytest.raises(UnknownDatabase):
        await mover.readiness("nowhere")


async def test_every_privilege_that_the_mover_lacks_is_told_and_the_printed_statement_ends_it(
    looked_at: Estate, carried: dict[str, Endpoint]
) -> None:
    mover = looked_at.mover(endpoints=carried)
    found = [one for one in await mover.readiness("shared") if one.refuses]
    assert {one.code for one in found} == {
        "not-owner", "no-bypassrls", "no-replication", "no-replica-role", "no-subscription", "no-create"
    }  # fmt: skip
    for fix in dict.fromkeys(one.fix for one in found):
        looked_at.near.psql(fix.partition(" (")[0].partition(", or ")[0], looked_at.shared)
    assert [one for one in await mover.readiness("shared") if one.refuses] == []


async def test_identities_and_statistics_that_a_move_would_stumble_over_are_told(estate18: Estate) -> None:
    estate18.near.psql(
        """CREATE TABLE "It's" (tenant_id uuid NOT NULL, id int PRIMARY KEY);
        CREATE TABLE "Many's" (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));
        INSERT INTO "Many's" SELECT gen_random_uuid(), i FROM generate_series(1, 20000) AS i""",
        estate18.shared,
    )
    mover = estate18.mover()
    found = {one.code: one for one in await mover.readiness("shared")}
    assert found["identity-without-tenant"].refuses
    stale = found["statistics-stale"]
    assert '"Many\'s"' in stale.problem
    assert not stale.refuses
    assert "statistics-stale" in [one.code for one in (await mover.plan(estate18.tenant, "acme")).findings]
    estate18.near.psql(stale.fix, estate18.shared)
    assert "statistics-stale" not in [one.code for one in await mover.readiness("shared")]
