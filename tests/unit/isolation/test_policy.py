"""The policy template as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.catalog.tenancy import Tenancy, compared_in
from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.isolation import policy


def test_the_equality_is_bare_and_the_check_is_wrapped() -> None:
    assert policy.predicate("tenant_id", Tenancy()) == (
        "\"tenant_id\" = nullif(current_setting('app.current_tenant', true), '')::uuid "
        "AND (SELECT tenantry.admitted())"
    )


def test_hardened_mode_also_compares_each_row_with_the_proven_tenant() -> None:
    text = policy.predicate("tenant_id", Tenancy(id_type=IdType.TEXT, hardened=True))
    assert 'coalesce("tenant_id" = (SELECT tenantry.admitted_tenant()), false)' in text
    assert "tenantry.admitted()" not in text


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
        policy.predicate("tenant_id", Tenancy(), "integer")


@pytest.mark.parametrize("setting", ["tenant", "app.x; DROP TABLE t", "App.tenant", "app.'x'", ""])
def test_a_setting_that_is_no_custom_setting_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError):
        Tenancy(setting=setting)


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=80))
def test_derived_names_fit_and_differ_by_table(table: str) -> None:
    name = policy.derived_name(table, "tenantry_idx")
    assert len(name.encode()) <= 63
    assert name != policy.derived_name(table + "x", "tenantry_idx")
