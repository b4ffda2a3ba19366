"""The policy template as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.catalog.tenancy import Tenancy, compared_in
from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.isolation import policy
from tenantry.isolation.equality import predicate, standard
from tenantry.isolation.guard import Guard, expressions

MINE = "\"tenant_id\" = nullif(current_setting('app.current_tenant', true), '')::uuid"
PROVEN = '"tenant_id" = (SELECT tenantry.admitted_tenant())'
ADMITTED = "(SELECT tenantry.admitted())"


@pytest.mark.parametrize("hardened", [False, True])
def test_the_tenant_policy_is_the_bare_equality(hardened: bool) -> None:
    assert predicate("tenant_id", Tenancy(hardened=hardened)) == MINE


@pytest.mark.parametrize(
    ("guard", "hardened", "using", "check"),
    [
        (Guard.FENCE, False, ADMITTED, ADMITTED),
        (Guard.BORDER, False, f"{MINE} AND {ADMITTED}", f"{MINE} AND {ADMITTED}"),
        (
            Guard.BORDER_AND_NOBODY,
            False,
            f'({MINE} OR "tenant_id" IS NULL) AND {ADMITTED}',
            f"{MINE} AND {ADMITTED}",
        ),
        (Guard.FENCE, True, f"coalesce({PROVEN}, false)", f"coalesce({PROVEN}, false)"),
        (Guard.BORDER, True, f"coalesce({PROVEN}, false)", f"coalesce({PROVEN}, false)"),
        (
            Guard.BORDER_AND_NOBODY,
            True,
            f'coalesce({PROVEN}, "tenant_id" IS NULL AND {ADMITTED})',
            f"coalesce({PROVEN}, false)",
        ),
    ],
)
def test_the_guard_checks_once_for_each_statement_and_when_hardened_compares_each_row(
    guard: Guard, hardened: bool, using: str, check: str
) -> None:
    assert expressions("tenant_id", Tenancy(hardened=hardened), guard) == (using, check)


def test_on_citus_the_tenant_policy_reads_the_mark_of_a_bind_and_stands_alone() -> None:
    mark = "nullif(current_setting('tenantry.bound', true), '') = current_setting('app.current_tenant', true)"
    assert standard("tenant_id", Tenancy(citus=True)) == f"{MINE} AND {mark}"
    assert standard("tenant_id", Tenancy()) == MINE
    statements = policy.table_sql("public", "t", "tenant_id", Tenancy(citus=True))
    assert not [text for text in statements if "RESTRICTIVE" in text or "(SELECT" in text]


def test_citus_and_hardened_mode_do_not_go_together() -> None:
    with pytest.raises(ConfigError, match="not to be had on Citus"):
        Tenancy(hardened=True, citus=True)


@pytest.mark.parametrize(
    ("column_type", "id_type", "wanted"),
    [
        ("uuid", IdType.UUID, "uuid"),
        ("integer", IdType.BIGINT, "bigint"),
        ("smallint", IdType.BIGINT, "bigint"),
        ("character varying(36)", IdType.TEXT, "text"),
        ("character varying(36)", IdType.UUID, "text"),
        ("text", IdType.BIGINT, "text"),
        ("character(8)", IdType.TEXT, None),
        ("citext", IdType.TEXT, None),
        ("uuid", IdType.TEXT, None),
        ("uuid", IdType.BIGINT, None),
        ("numeric(10,0)", IdType.BIGINT, None),
    ],
)
def test_a_column_is_compared_in_a_type_that_neither_cuts_nor_overflows(
    column_type: str, id_type: IdType, wanted: str | None
) -> None:
    assert compared_in(column_type, id_type) == wanted


def test_a_column_that_can_not_hold_the_ids_is_refused() -> None:
    with pytest.raises(ConfigError, match="change the column to uuid"):
        predicate("tenant_id", Tenancy(), "integer")
    for hardened in (False, True):
        with pytest.raises(ConfigError, match="change the column to uuid"):
            expressions("tenant_id", Tenancy(hardened=hardened), Guard.BORDER, "integer")


@pytest.mark.parametrize("setting", ["tenant", "app.x; DROP TABLE t", "App.tenant", "app.'x'", ""])
def test_a_setting_that_is_no_custom_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        Tenancy(setting=setting)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80))
def test_derived_names_fit_and_differ_by_table(table: str) -> None:
    name = policy.derived_name(table, "tenantry_idx")
    assert len(name.encode()) <= 63
    assert name != policy.derived_name(table + "x", "tenantry_idx")
