"""Preflight finds rows that reference another tenant's rows: they could not live in two databases."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tenantry.move import MovePlan, PreflightFinding
from tenantry.move.preflight import read_foreign_keys
from tests.support.estate import Estate

#: Foreign keys that do not pair the tenant columns: the tables, the referencing one, the referenced one.
SHAPES = {
    "plain": (
        "CREATE TABLE parcel (tenant_id uuid NOT NULL, id int UNIQUE, PRIMARY KEY (tenant_id, id));"
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int, parcel bigint, PRIMARY KEY (tenant_id, id),"
        "                    CONSTRAINT crosses FOREIGN KEY (parcel) REFERENCES parcel (id))",
        "label",
        "parcel",
    ),
    "self": (
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int UNIQUE,"
        "                    parcel int CONSTRAINT crosses REFERENCES label (id), PRIMARY KEY (tenant_id, id))",
        "label",
        "label",
    ),
    "partitioned": (
        "CREATE TABLE parcel (tenant_id uuid NOT NULL, id int, PRIMARY KEY (id), UNIQUE (id, tenant_id))"
        "    PARTITION BY HASH (id);"
        "CREATE TABLE parcel_0 PARTITION OF parcel FOR VALUES WITH (MODULUS 2, REMAINDER 0);"
        "CREATE TABLE parcel_1 PARTITION OF parcel FOR VALUES WITH (MODULUS 2, REMAINDER 1);"
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int, parcel int CONSTRAINT crosses REFERENCES parcel,"
        "                    PRIMARY KEY (tenant_id, id)) PARTITION BY HASH (tenant_id);"
        "CREATE TABLE label_0 PARTITION OF label FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
        "label",
        "parcel",
    ),
    "of one partition": (
        "CREATE TABLE parcel (tenant_id uuid NOT NULL, id int UNIQUE, PRIMARY KEY (tenant_id, id));"
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int, parcel int, PRIMARY KEY (tenant_id, id))"
        "    PARTITION BY HASH (tenant_id);"
        "CREATE TABLE label_0 PARTITION OF label FOR VALUES WITH (MODULUS 1, REMAINDER 0);"
        "ALTER TABLE label_0 ADD CONSTRAINT crosses FOREIGN KEY (parcel) REFERENCES parcel (id)",
        "label_0",
        "parcel",
    ),
    "of two columns, sorted otherwise": (
        'CREATE TABLE parcel (tenant_id uuid NOT NULL, id int, "Part" text COLLATE "C" DEFAULT \'x\','
        '                     PRIMARY KEY (tenant_id, id), UNIQUE ("Part", id));'
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int, parcel int, part text COLLATE ucs_basic DEFAULT 'x',"
        '                    CONSTRAINT crosses FOREIGN KEY (part, parcel) REFERENCES parcel ("Part", id),'
        "                    PRIMARY KEY (tenant_id, id))",
        "label",
        "parcel",
    ),
}


@pytest.fixture
def shop(looked_at: Estate) -> Iterator[Estate]:
    yield looked_at
    looked_at.near.psql("DROP TABLE IF EXISTS label, parcel", looked_at.shared)


async def _plan(estate: Estate) -> MovePlan:
    return await estate.mover().plan(estate.tenant, "acme")


def _found(plan: MovePlan, code: str = "cross-tenant-reference") -> list[PreflightFinding]:
    return [finding for finding in plan.findings if finding.code == code]


def _fill(estate: Estate, parent: str) -> None:
    """Rows that reference their own tenant's, or nothing."""
    mine, other = estate.tenants[:2]
    rows = f"('{mine}', 1), ('{other}', 2)"
    estate.near.psql(f"INSERT INTO {parent} (tenant_id, id) VALUES {rows}", estate.shared)
    own = f"('{mine}', 11, 1), ('{other}', 12, 2), ('{mine}', 13, NULL), ('{other}', 14, NULL)"
    estate.near.psql(f"INSERT INTO label (tenant_id, id, parcel) VALUES {own}", estate.shared)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("whose", "at"), [(0, 2), (1, 1)], ids=["ours to others'", "others' to ours"])
async def test_a_row_that_references_another_tenants_is_refused_and_named(
    shop: Estate, shape: str, whose: int, at: int
) -> None:
    tables, child, parent = SHAPES[shape]
    shop.near.psql(tables, shop.shared)
    _fill(shop, parent)
    assert (await _plan(shop)).refusals == ()
    crossed = f"INSERT INTO label (tenant_id, id, parcel) VALUES ('{shop.tenants[whose]}', 77, {at})"
    shop.near.psql(crossed, shop.shared)

    (finding,) = (await _plan(shop)).refusals
    assert finding.code == "cross-tenant-reference"
    assert finding.problem.startswith("1 row")
    for name in (f"public.{child} ", f"public.{parent} ", "(crosses)"):
        assert name in finding.problem
    query = finding.fix[finding.fix.index("SELECT") :]
    rows = await shop.fetch("shared", query)
    assert [(row["tenant_id"], row["id"]) for row in rows] == [(shop.tenants[whose], 77)]

    shop.near.psql("DELETE FROM label WHERE id = 77", shop.shared)
    assert (await _plan(shop)).refusals == ()


async def test_a_parent_row_of_no_tenant_stays_behind_too(shop: Estate) -> None:
    shop.near.psql(
        "CREATE TABLE parcel (tenant_id uuid, id int UNIQUE); ALTER TABLE parcel REPLICA IDENTITY FULL;"
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int, parcel int REFERENCES parcel (id),"
        "                    PRIMARY KEY (tenant_id, id));"
        f"INSERT INTO parcel VALUES (NULL, 1); INSERT INTO label VALUES ('{shop.tenant}', 5, 1)",
        shop.shared,
    )
    assert len(_found(await _plan(shop))) == 1


async def test_a_key_that_pairs_the_tenants_is_not_looked_at(
    shop: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read_foreign_keys, "PATIENCE", 0.001)
    shop.near.psql(
        "CREATE TABLE parcel (tenant_id uuid NOT NULL, id int, PRIMARY KEY (tenant_id, id));"
        "CREATE TABLE label (tenant_id uuid NOT NULL, id int, parcel int, PRIMARY KEY (tenant_id, id),"
        "                    FOREIGN KEY (parcel, tenant_id) REFERENCES parcel (id, tenant_id));"
        f"INSERT INTO parcel SELECT '{shop.tenant}', i FROM generate_series(1, 50000) AS i;"
        f"INSERT INTO label SELECT '{shop.tenant}', i, i FROM generate_series(1, 50000) AS i",
        shop.shared,
    )
    plan = await _plan(shop)
    assert _found(plan) == _found(plan, "references-unchecked") == []


async def test_a_partition_that_the_mover_may_not_read_is_not_looked_at_and_said(shop: Estate) -> None:
    tables, _, parent = SHAPES["of one partition"]
    shop.near.psql(tables, shop.shared)
    _fill(shop, parent)
    shop.near.psql(
        "CREATE ROLE carrier LOGIN BYPASSRLS REPLICATION; CREATE ROLE keeper; GRANT keeper TO carrier;"
        "GRANT USAGE ON SCHEMA tenantry TO carrier; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO carrier;"
        + "".join(f"ALTER TABLE {table} OWNER TO keeper;" for table in ("account", "entry", '"Blob"', "currency"))
        + "ALTER TABLE parcel OWNER TO keeper; ALTER TABLE label OWNER TO keeper",
        shop.shared,
    )
    try:
        ends = shop.endpoints
        ends["shared"] = replace(ends["shared"], dsn=ends["shared"].dsn.replace("postgres@", "carrier@"))
        plan = await shop.mover(endpoints=ends).plan(shop.tenant, "acme")
        said = _found(plan, "references-unchecked")
        assert ["public.label_0" in finding.problem for finding in said] == [True, True]
    finally:
        shop.near.psql("REASSIGN OWNED BY keeper TO postgres; DROP OWNED BY carrier", shop.shared)
        shop.near.psql("DROP ROLE carrier, keeper")


async def test_a_look_that_takes_too_long_is_given_up_and_said(
    shop: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.near.psql(SHAPES["plain"][0], shop.shared)
    shop.near.psql(
        f"INSERT INTO parcel SELECT '{shop.tenant}', i FROM generate_series(1, 50000) AS i;"
        f"INSERT INTO label SELECT '{shop.tenant}', i, i FROM generate_series(1, 50000) AS i",
        shop.shared,
    )
    patient = await _plan(shop)
    assert patient.refusals == ()
    assert _found(patient, "references-unchecked") == []

    monkeypatch.setattr(read_foreign_keys, "ALTOGETHER", 0.0)
    assert len(_found(await _plan(shop), "references-unchecked")) == 2
    monkeypatch.undo()

    monkeypatch.setattr(read_foreign_keys, "PATIENCE", 0.001)
    hasty = await _plan(shop)
    assert hasty.refusals == ()
    said = _found(hasty, "references-unchecked")
    assert len(said) == 2  # to each side
    for finding in said:
        assert "(crosses)" in finding.problem
        assert await shop.fetch("shared", finding.fix[finding.fix.index("SELECT") :]) == []


async def test_the_look_starts_from_the_tenants_own_rows(shop: Estate) -> None:
    mine, other = shop.tenants[:2]
    shop.near.psql(SHAPES["plain"][0], shop.shared)
    for tenant, low, high in ((other, 1, 60_000), (mine, 60_001, 60_100)):
        ids = f"generate_series({low}, {high}) AS i"
        shop.near.psql(f"INSERT INTO parcel SELECT '{tenant}', i FROM {ids}", shop.shared)
        shop.near.psql(f"INSERT INTO label SELECT '{tenant}', i, i FROM {ids}", shop.shared)
    shop.near.psql(f"INSERT INTO label VALUES ('{mine}', 0, 1), ('{other}', 0, 60001)", shop.shared)
    shop.near.psql("CREATE INDEX ON label (parcel); ANALYZE label, parcel", shop.shared)
    found = _found(await _plan(shop))
    assert len(found) == 2
    for finding in found:
        query = finding.fix[finding.fix.index("SELECT") :].replace("c.*", "count(*)")
        plan = "\n".join(row[0] for row in await shop.fetch("shared", f"EXPLAIN {query}"))
        assert "Seq Scan" not in plan
