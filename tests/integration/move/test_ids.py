"""Ids that sequences give out after a move: inside their columns, and nobody else's."""

from __future__ import annotations

import asyncio

from tenantry.move.plan import in_block
from tests.integration.move.operators import having
from tests.support.estate import Estate

#: `old` is as in databases upgraded from before 10: a bigint sequence feeds an integer column. `loose` is not
#: owned by its column, `twice` feeds two.
SEQUENCES = """
CREATE SEQUENCE old;
CREATE TABLE a (tenant_id uuid NOT NULL, id int NOT NULL DEFAULT nextval('old'), PRIMARY KEY (tenant_id, id));
ALTER SEQUENCE old OWNED BY a.id;
CREATE SEQUENCE loose AS int;
CREATE TABLE b (tenant_id uuid NOT NULL, id int NOT NULL DEFAULT nextval('loose') UNIQUE,
                PRIMARY KEY (tenant_id, id));
CREATE SEQUENCE twice;
CREATE TABLE c (tenant_id uuid NOT NULL, id bigint NOT NULL DEFAULT nextval('twice') PRIMARY KEY,
                number int DEFAULT nextval('twice'), UNIQUE (tenant_id, id));
CREATE TABLE d (tenant_id uuid NOT NULL, id bigint NOT NULL, number int DEFAULT nextval('loose'),
                PRIMARY KEY (tenant_id, id), UNIQUE (number) DEFERRABLE);
"""
INSERT = """
INSERT INTO a (tenant_id) SELECT $1::uuid FROM generate_series(1, 5);
INSERT INTO b (tenant_id) SELECT $1::uuid FROM generate_series(1, 5);
INSERT INTO c (tenant_id) SELECT $1::uuid FROM generate_series(1, 5);
INSERT INTO d (tenant_id, id) SELECT $1::uuid, nextval('loose') FROM generate_series(1, 5);
"""


async def test_ids_fit_their_columns_and_meet_nobodys(estate: Estate) -> None:
    estate.near.psql(SEQUENCES, estate.shared)
    tenant, other = estate.tenants[:2]

    def insert(who: object, *, home: bool = False) -> None:
        server, database = (estate.far, estate.dedicated) if home else (estate.near, estate.shared)
        server.psql(INSERT.replace("$1", f"'{who}'"), database)

    insert(tenant)
    insert(other)
    mover = estate.mover()
    record = await mover.run(await mover.plan(tenant, "acme"))
    for _ in range(3):  # both sides, and the way back between them
        insert(tenant, home=True)
        await asyncio.to_thread(insert, other)
    await mover.rollback(record.id)
    insert(tenant)
    ((rows, ids),) = await estate.fetch("shared", "SELECT count(*), count(DISTINCT id) FROM b")
    assert rows == ids == 45


async def test_a_sequence_that_counts_downwards_is_refused(looked_at: Estate) -> None:
    schema = (
        "CREATE SEQUENCE down INCREMENT -1; "
        "CREATE TABLE e (tenant_id uuid NOT NULL, id int DEFAULT nextval('down'), PRIMARY KEY (tenant_id, id))"
    )
    with having(looked_at, schema, "DROP TABLE e; DROP SEQUENCE down"):
        (finding,) = (await looked_at.mover().plan(looked_at.tenant, "acme")).refusals
        assert finding.code == "sequence-descends"


async def test_a_plan_takes_no_ids_and_a_move_takes_one_block(estate18: Estate) -> None:
    """Integers have some sixty blocks for the whole fleet: plans that are only looked at must not use them up."""
    estate18.near.psql(SEQUENCES, estate18.shared)
    mover = estate18.mover()

    async def taken() -> int:
        ((last,),) = await estate18.fetch(
            "control", "SELECT coalesce(pg_sequence_last_value('tenantry.move_id_block'), 0)"
        )
        return int(last)

    before = await taken()
    foreseen = await mover.plan(estate18.tenant, "acme")
    await estate18.fetch("control", "SELECT nextval('tenantry.move_id_block')")  # another move has begun
    assert (await mover.plan(estate18.tenants[1], "acme")).refusals == ()
    assert await taken() == before + 1
    record = await mover.run(foreseen)
    assert await taken() == before + 2
    assert record.plan.sequences == in_block(foreseen.sequences, before + 2) != foreseen.sequences
    (loose,) = (s for s in record.plan.sequences if "loose" in s.quoted)
    ((given,),) = await estate18.fetch("acme", "SELECT nextval('loose')")
    assert loose.start <= given <= loose.start + 1
