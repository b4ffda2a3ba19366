"""The placing of tables, as a plain function over what the catalogs say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest

from tenantry.catalog.read import bare_tables
from tenantry.catalog.tables import TenantTables, spelling, tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Tables


class Made(NamedTuple):
    """A table of a test, as sql/catalog/tables.sql would show it."""

    name: str
    columns: Sequence[str | tuple[str, str]] = ()
    """Names, of type uuid unless they say another."""
    to: Sequence[str] = ()
    """Tables that it references."""
    parents: Sequence[str] = ()
    kind: str = "r"


def tables(*made: Made) -> Tables:
    oids = {one.name: number for number, one in enumerate(made, 1)}
    rows = []
    for one in made:
        columns = [(c, "uuid") if isinstance(c, str) else c for c in one.columns]
        rows.append(
            {
                "oid": oids[one.name],
                "schema": "public",
                "name": one.name,
                "kind": one.kind,
                "parents": [oids[parent] for parent in one.parents],
                "columns": json.dumps([[n, name, kind, True] for n, (name, kind) in enumerate(columns, 1)]),
                "keys": json.dumps(
                    [[n, f"to_{far}", [9], oids[far], [1], False] for n, far in enumerate(one.to, 1)]
                ),
            }
        )
    return bare_tables(rows)


def placed(*made: Made, **tenancy: Any) -> Mapping[str, str]:
    """What each table is: `tenant COLUMN`, or the word for its kind."""
    known = tables(*made)
    found = tenant_tables(known, Tenancy(**tenancy))
    return {relation.name: kind(found, oid) for oid, relation in known.relations.items()}


def kind(found: TenantTables, oid: int) -> str:
    if oid in found.tenants:
        return f"tenant {found.tenants[oid].name}"
    words = ("reference", "once", "ignored", "unclear", "dependent", "without")
    return next(word for word in words if oid in getattr(found, word))


def test_a_column_is_found_in_any_spelling_and_the_exact_one_goes_before() -> None:
    assert placed(
        Made("exact", ["id", "tenant_id"]),
        Made("camel", ["tenantId"]),
        Made("dash", ["tenant-id"]),
        Made("blank", ["Tenant ID"]),
        Made("both", ["tenantId", "tenant_id"]),
        Made("neither", ["tenant"]),
    ) == {
        "exact": "tenant tenant_id",
        "camel": "tenant tenantId",
        "dash": "tenant tenant-id",
        "blank": "tenant Tenant ID",
        "both": "tenant tenant_id",
        "neither": "without",
    }


def test_a_column_spelt_inexactly_twice_is_undecided() -> None:
    known = tables(Made("twice", ["tenantId", "Tenant_ID"]))
    found = tenant_tables(known, Tenancy())
    (question,) = found.undecided
    assert found.tenants == {}
    assert question.choices == ("tables: {public.twice: tenantId}", "tables: {public.twice: Tenant_ID}")


@pytest.mark.parametrize("word", ["reference", "once", "ignore"])
def test_an_override_counts_for_partitions_and_children_unless_they_have_their_own(word: str) -> None:
    found = placed(
        Made("parent", ["tenant_id"], kind="p"),
        Made("part", ["tenant_id"], parents=["parent"]),
        Made("below", ["tenant_id"], parents=["part"]),
        Made("own", ["tenant_id"], parents=["parent"]),
        tables={"public.parent": word, "public.own": "tenant_id"},
    )
    said = {"ignore": "ignored"}.get(word, word)
    assert found == {"parent": said, "part": said, "below": said, "own": "tenant tenant_id"}


def test_a_child_goes_by_its_parents_column_whatever_columns_it_adds() -> None:
    assert placed(
        Made("parent", ["tenantId", "org"]),
        Made("child", ["tenantId", "org", "tenant_id"], parents=["parent"]),
    ) == {"parent": "tenant tenantId", "child": "tenant tenantId"}
    assert placed(
        Made("parent", ["tenantId", "org"]),
        Made("child", ["tenantId", "org", "tenant_id"], parents=["parent"]),
        tables={"public.parent": "org"},
    ) == {"parent": "tenant org", "child": "tenant org"}


def test_a_child_of_a_tenants_table_and_of_an_ignored_one_is_a_tenants() -> None:
    assert (
        placed(
            Made("loose", ["tenant_id"]),
            Made("held", ["tenant_id"]),
            Made("child", ["tenant_id"], parents=["loose", "held"]),
            tables={"public.loose": "ignore"},
        )["child"]
        == "tenant tenant_id"
    )


def test_overrides_that_name_a_missing_table_or_column_are_reported() -> None:
    known = tables(Made("orders", ["tenant_id"]))
    found = tenant_tables(known, Tenancy(tables={"public.orders": "org", "public.gone": "ignore"}))
    assert found.tenants == {}
    assert [(item.object, item.problem) for item in found.undecided] == [
        ("public.orders", "the override names the column 'org', which the table does not have"),
        ("public.gone", "the override names a table that is not there"),
    ]


def test_an_overrides_column_is_taken_as_it_is_spelt() -> None:
    assert placed(Made("orders", ["orgId", "tenant_id"]), tables={"public.orders": "org_id"}) == {
        "orders": "unclear"
    }


def test_what_belongs_to_tenants_by_foreign_keys_is_followed_over_any_distance() -> None:
    known = tables(
        Made("price"),
        Made("orders", ["tenant_id"], to=["price"]),
        Made("line", to=["orders"]),
        Made("note", to=["line", "price"]),
        Made("cron"),
    )
    found = tenant_tables(known, Tenancy())
    assert {known.relations[oid].name: key.name for oid, key in found.dependent.items()} == {
        "line": "to_orders",
        "note": "to_line",
    }
    problems = {item.object: item.problem for item in found.undecided}
    assert problems["public.note"] == "belongs to a tenant only through its foreign key to_line to public.line"
    assert problems["public.cron"] == "has no tenant column"


def test_no_override_waves_through_what_belongs_to_tenants_at_whatever_distance() -> None:
    shape = (
        Made("orders", ["tenant_id"]),
        Made("line", to=["line", "note", "orders"]),
        Made("note", to=["line"]),
        Made("rate", to=["note"]),
        Made("price", to=["rate"]),
        Made("cron", to=["cron"]),
        Made("log", kind="p"),
        Made("log_1", parents=["log"], to=["note"]),
        Made("log_2", parents=["log"]),
    )
    words = {"line": "ignore", "note": "ignore", "rate": "reference", "cron": "ignore", "log": "once"}
    known = tables(*shape)
    found = tenant_tables(known, Tenancy(tables={f"public.{name}": word for name, word in words.items()}))
    told = {known.relations[oid].name: question for oid, question in found.waved_through.items()}
    assert set(told) == {"line", "note", "rate", "log"}, "price hangs on rows that are everybody's"
    drops = {name: question.choices[1].partition(": ")[2] for name, question in told.items()}
    assert drops["line"] == 'ALTER TABLE "public"."line" DROP CONSTRAINT "to_orders"', (
        "not what leads round to itself"
    )
    assert drops["log"] == 'ALTER TABLE "public"."log_1" DROP CONSTRAINT "to_note"'
    assert "they would stay behind" in told["note"].problem
    assert "could not keep the key" in told["rate"].problem
    assert found.undecided[-1].object == "public.price" if found.undecided else False
    bare = tenant_tables(known, Tenancy())
    assert {known.relations[oid].name for oid in bare.dependent} == {
        "line", "note", "rate", "price", "log", "log_1", "log_2"
    }  # fmt: skip
    asked = [question.object for question in bare.undecided]
    assert asked == ["public.line", "public.note", "public.rate", "public.price", "public.cron", "public.log"]


def test_what_a_migration_tool_keeps_is_copied_once_unless_it_is_a_tenants() -> None:
    assert placed(
        Made("alembic_version", [("version_num", "character varying(32)")]),
        Made("django_migrations", ["tenant_id"]),
        Made("schema_migrations", [("version", "text")]),
        Made("ledger", [("version", "text")]),
        tables={"public.schema_migrations": "reference", "public.ledger": "once"},
    ) == {
        "alembic_version": "once",
        "django_migrations": "tenant tenant_id",
        "schema_migrations": "reference",
        "ledger": "once",
    }


def test_a_foreign_table_and_a_column_of_an_unfit_type_are_unclear() -> None:
    assert placed(
        Made("elsewhere", ["tenant_id"], kind="f"),
        Made("padded", [("tenant_id", "character(36)")]),
        Made("loose", [("tenant_id", "character varying(40)")]),
    ) == {"elsewhere": "unclear", "padded": "unclear", "loose": "tenant tenant_id"}


@pytest.mark.parametrize("name", ["tenant_id", "tenantId", "TENANT-ID", "Tenant Id", "tenantid"])
def test_spellings_of_one_name_have_one_form(name: str) -> None:
    assert spelling(name) == "tenantid"


def test_letters_beyond_ascii_are_not_folded() -> None:
    assert spelling("TENANT_İD") != spelling("tenant_id")
    assert spelling("MÜNDEL_id") == "mÜndelid"
