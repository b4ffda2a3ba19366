"""The plan, its journal form, the states, and connection strings: plain functions over values."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.catalog.read import bare_tables
from tenantry.catalog.tables import TenantTables, tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import Kind
from tenantry.move import MovePlan, PreflightFinding, State, WrongState
from tenantry.move.catalog import Generator, Key, Reference, Table, TravelColumn
from tenantry.move.pg_dump import _NOT_FOR_US
from tenantry.move.plan import (
    Mechanism,
    SequencePlan,
    SequenceRule,
    fitting_identity,
    in_block,
    select,
    sequence_plan,
    table_plan,
)
from tenantry.move.preflight.facts import TablePolicy
from tenantry.move.session import Endpoint, conninfo, keywords
from tenantry.move.states import SUCCESSORS, begin
from tenantry.move.steps.procedure import PROCEDURE, remaining


def table(oid: int, name: str, *columns: str, keys: tuple[Key, ...] = (), to: tuple[int, ...] = ()) -> Table:
    return Table(
        oid, "public", name, "r", "p", "d", 10.0, 1000, False, "owner", True, (),
        tuple(TravelColumn(column, "uuid", True, False, True, False) for column in columns),
        keys,
        tuple(Reference("fk", one, ("x",), ("id",)) for one in to),
    )  # fmt: skip


def test_tables_are_told_apart_by_column_and_by_foreign_key() -> None:
    tables = [
        table(1, "price"),
        table(2, "orders", "tenant_id", to=(1,)),
        table(3, "line", to=(2,)),
        table(4, "note", to=(3,)),
        table(5, "cron"),
        table(6, "camel", "tenantId"),
        table(7, "unit", to=()),
        table(8, "price_group", to=(7,)),
    ]
    tables[0] = dataclasses.replace(tables[0], references=(Reference("fk", 8, ("g",), ("id",)),))
    chosen = select(tables, placed(tables))
    assert [(t.name, column) for t, column in chosen.tenant] == [("orders", "tenant_id"), ("camel", "tenantId")]
    assert {t.name for t in chosen.reference} == {"price", "price_group", "unit"}
    assert {t.name for t, _ in chosen.stranded} == {"line", "note"}
    assert {t.name for t in chosen.other} == {"cron"}
    overrides = {"public.line": "ignore", "public.note": "ignore", "public.cron": "reference"}
    overridden = select(tables, placed(tables, overrides))
    assert overridden.stranded == ()
    assert [question.object for question in overridden.unmatched] == ["public.line", "public.note"]
    assert {t.name for t in overridden.other} == set(), "nothing of a tenant is called not carried"
    assert "cron" in {t.name for t in overridden.reference}


def placed(tables: list[Table], overrides: Mapping[str, str] | None = None) -> TenantTables:
    rows = [
        {
            "oid": one.oid,
            "schema": one.schema,
            "name": one.name,
            "kind": one.kind,
            "parents": [],
            "columns": json.dumps([[n, column.name, "uuid", True] for n, column in enumerate(one.columns, 1)]),
            "keys": json.dumps([[0, key.name, [9], key.to, [1], False] for key in one.references]),
        }
        for one in tables
    ]
    return tenant_tables(bare_tables(rows), Tenancy(tables=overrides or {}))


def test_the_replica_identity_must_hold_the_tenant_column() -> None:
    by_id = Key("pk", True, False, ("id",))
    both = Key("both", False, False, ("tenant_id", "id"))
    assert fitting_identity(table(1, "t", "tenant_id", "id", keys=(by_id,)), "tenant_id") is None
    assert fitting_identity(table(1, "t", "tenant_id", "id", keys=(by_id, both)), "tenant_id") == "both"
    whole = Key("pk", True, False, ("tenant_id", "id"))
    assert fitting_identity(table(1, "t", "tenant_id", "id", keys=(whole,)), "tenant_id") == "pk"
    full = dataclasses.replace(table(1, "t", "tenant_id", "id", keys=(both,)), identity="f")
    assert fitting_identity(full, "tenant_id") == ""


@pytest.mark.parametrize(
    ("maximum", "last", "key", "kind", "rule"),
    [
        (2**63 - 1, 500, ("id",), Kind.DEDICATED, SequenceRule.BLOCK),
        (2**31 - 1, 500, ("id",), Kind.DEDICATED, SequenceRule.BLOCK),
        (2**31 - 1, 2**30 + 5, ("id",), Kind.DEDICATED, None),
        (2**31 - 1, 2**30 + 5, ("tenant_id", "id"), Kind.DEDICATED, SequenceRule.FOLLOW),
        (2**15 - 1, 5, ("id",), Kind.DEDICATED, None),
        (2**63 - 1, 2**40 * 7, ("id",), Kind.SHARED, SequenceRule.KEEP),
        (2**63 - 1, 500, ("tenant_id", "id"), Kind.SHARED, SequenceRule.FOLLOW),
    ],
)
def test_ids_of_a_moved_tenant_have_a_range_of_their_own(
    maximum: int, last: int, key: tuple[str, ...], kind: Kind, rule: SequenceRule | None
) -> None:
    feeds = table(1, "t", "tenant_id", "id", keys=(Key("pk", True, False, key),))
    sequence = Generator("public", "t_id_seq", maximum, 1, ((1, "id"),), last)
    tables = {1: (feeds, "tenant_id")}
    planned = sequence_plan(sequence, tables, kind, 3)
    assert (planned.rule if planned else None) == rule
    if rule is SequenceRule.BLOCK:
        other = sequence_plan(sequence, tables, kind, 4)
        assert planned is not None
        assert other is not None
        assert last < planned.start < other.start <= maximum
        assert in_block([planned], 4) == (other,)
        if maximum < 2**31:
            with pytest.raises(OverflowError):
                in_block([planned], 63)


@given(tenant=st.text(min_size=1).filter(lambda text: "\0" not in text), rows=st.integers(0, 10**9))
def test_a_plan_survives_the_journal(tenant: str, rows: int) -> None:
    feeds = table(1, "t", "tenant_id", "id", keys=(Key("pk", True, False, ("tenant_id", "id")),))
    plan = MovePlan(
        id="m0123456789", tenant=tenant, source="a", target="b", source_kind=Kind.SHARED,
        target_kind=Kind.DEDICATED, mechanism=Mechanism.REPLICATION, epoch=1, setting="app.t", id_type="text",
        tables=(table_plan(feeds, "tenant_id", rows),), references=(),
        sequences=(SequencePlan('"s"', SequenceRule.BLOCK, 2**40),), load_schema=True, shape="x", storage="y",
        pause=0.8,
        findings=(PreflightFinding("code", "problem", "fix", False),),
    )  # fmt: skip
    assert MovePlan.from_json(plan.to_json()) == plan


def test_finished_moves_stay_finished_and_every_state_can_end() -> None:
    for state in State:
        assert state.finished == (not SUCCESSORS[state])
    assert begin("m", State.ABORTED, "aborted") is None
    assert begin("m", State.RUNNING, "aborted") is State.ABORTING
    assert begin("m", State.FLIPPED, "released") is State.RELEASING
    for state, wish in ((State.RUNNING, "released"), (State.RELEASED, "rolled back"), (State.FLIPPED, "aborted")):
        with pytest.raises(WrongState):
            begin("m", state, wish)


def test_a_resumed_move_compares_again_before_it_flips() -> None:
    assert remaining(PROCEDURE, None) == PROCEDURE
    assert [step.name for step in remaining(PROCEDURE, "verify")][:2] == ["verify", "flip"]
    assert [step.name for step in remaining(PROCEDURE, "flip")] == ["finalize", "audit"]
    assert remaining(PROCEDURE, "audit") == ()


def test_connection_strings_are_taken_apart_and_quoted() -> None:
    dsn = "postgresql://us%40er:p%27w%5C@[::1]:5433/d%20b?sslmode=require"
    assert keywords(dsn) == {
        "host": "::1", "port": "5433", "user": "us@er", "password": "p'w\\", "dbname": "d b", "sslmode": "require",
    }  # fmt: skip
    assert r"password='p\'w\\'" in conninfo(dsn)
    assert "p'w" not in repr(Endpoint("a", Kind.SHARED, dsn, dsn))


def test_rows_of_a_distributed_table_are_deleted_by_key_on_their_shard_or_all_at_once() -> None:
    keyed = table_plan(
        table(1, "line", "tenant_id", "id", keys=(Key("pk", True, True, ("tenant_id", "id")),)), "tenant_id", 9
    )
    where = """("tenant_id" = '7')"""
    assert keyed.deletion("7", 50, distribution="tenant_id") == (
        f'DELETE FROM "public"."line" WHERE {where} AND ("id") IN '
        f'(SELECT t."id" FROM "public"."line" AS t WHERE {where} ORDER BY t."id" LIMIT 50)'
    )
    whole = f'DELETE FROM "public"."line" WHERE {where}'
    for other in ("id", ""):  # rows on many shards, or on every node
        assert keyed.deletion("7", 50, distribution=other) == whole
    assert dataclasses.replace(keyed, key=()).deletion("7", 50, distribution="tenant_id") == whole
    assert "ctid" in keyed.deletion("7", 50)


def test_a_dump_leaves_citus_behind_and_no_other_extension() -> None:
    citus = """CREATE EXTENSION IF NOT EXISTS citus WITH SCHEMA pg_catalog;
COMMENT ON EXTENSION citus IS 'Citus distributed database';
CREATE EXTENSION IF NOT EXISTS citus_columnar WITH SCHEMA pg_catalog;
"""
    other = "CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;\nCREATE TABLE citus (a int);\n"
    assert _NOT_FOR_US.sub("", citus + other).strip() == other.strip()


def test_the_policy_of_citus_and_the_two_of_an_ordinary_database_are_the_same_to_a_move() -> None:
    mine = "(tenant_id = (NULLIF(current_setting('app.current_tenant'::text, true), ''::text))::bigint)"
    mark = (
        "(NULLIF(current_setting('tenantry.bound'::text, true), ''::text) = "
        "current_setting('app.current_tenant'::text, true))"
    )
    citus = TablePolicy(True, "ALL", ("PUBLIC",), f"({mine} AND {mark})", f"({mine} AND {mark})")
    tenant = TablePolicy(True, "ALL", ("PUBLIC",), mine, mine)
    admitted = "( SELECT tenantry.admitted() AS admitted)"
    guard = TablePolicy(False, "ALL", ("PUBLIC",), admitted, admitted)
    assert citus.normalized() == tenant.normalized() | guard.normalized()
    assert citus._replace(using=mark, check=mark).normalized() != citus.normalized()
