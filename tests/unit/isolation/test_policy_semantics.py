"""What policy expressions mean: right, not loud."""

from __future__ import annotations

import pytest

from tenantry.catalog.tenancy import Tenancy
from tenantry.catalog.values import Catalog, Column, Function, Relation
from tenantry.isolation.expression import Opaque, parse
from tenantry.isolation.policy_semantics import USER, Semantics
from tenantry.isolation.policy_verdict import ExpressionVerdict, verdict
from tenantry.isolation.unbound import Unbound, unbound

SETTING = "current_setting('app.current_tenant'::text, true)"
BARE = f"(tenant_id = (NULLIF({SETTING}, ''::text))::uuid)"


def _relation(oid: int, name: str) -> Relation:
    return Relation(oid, "public", name, "r", "o", True, True, "d", "p", False, 0.0, (), (), None)


def _column(number: int, name: str, kind: str = "uuid") -> Column:
    return Column(number, name, kind, True, "", "", None, True)


def _function(oid: int, name: str, source: str, *, language: str = "sql", arguments: str = "") -> Function:
    inputs = 1 if arguments else 0
    return Function(
        oid, "app", name, arguments, "f", "o", False, "s", language, (), False, 0, inputs, "uuid", source
    )


CATALOG = Catalog(
    version=180004,
    user="postgres",
    database="d",
    large_objects=0,
    lo_compat_privileges=False,
    extensions=(),
    schemas={},
    relations={1: _relation(1, "orders"), 2: _relation(2, "lines"), 3: _relation(3, "members")},
    columns={
        1: (_column(1, "tenant_id"), _column(2, "public", "boolean"), _column(3, "id")),
        2: (_column(1, "order_id"), _column(2, "tenant_id")),
        3: (_column(1, "tenant_id"), _column(2, "login", "text")),
    },
    indexes={},
    ways={},
    policies={},
    constraints={},
    grants=(),
    reads={},
    functions={
        10: _function(10, "tenant", "SELECT nullif(current_setting('app.current_tenant', true), '')::uuid"),
        11: _function(
            11,
            "mine",
            "BEGIN\n RETURN current_setting('app.current_tenant')::uuid;\nEND;",
            language="plpgsql",
        ),
        12: _function(12, "through", "SELECT app.tenant()"),
        13: _function(13, "odd", "return plv8.whatever()", language="plv8", arguments="t uuid"),
        14: _function(14, "can_see", "SELECT $1 = app.tenant()", arguments="uuid"),
    },
    triggers={},
    roles={},
)
SEMANTICS = Semantics(CATALOG, Tenancy())


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (BARE, ExpressionVerdict.TIED),
        (f"({BARE} AND ( SELECT tenantry.admitted() AS admitted))", ExpressionVerdict.TIED),
        (f"({BARE} AND public)", ExpressionVerdict.TIED),
        (f"({BARE} OR public)", ExpressionVerdict.OPEN),
        (f"({BARE} OR (current_setting('app.staff'::text, true) = 'on'::text))", ExpressionVerdict.GATED),
        (f"({BARE} OR pg_has_role('staff'::name, 'member'::text))", ExpressionVerdict.GATED),
        (f"(((tenant_id)::text COLLATE app.loose) = {SETTING})", ExpressionVerdict.UNPROVEN),
        (f"((tenant_id)::text = ({SETTING} COLLATE app.loose))", ExpressionVerdict.UNPROVEN),
        (f'((tenant_id)::text = ({SETTING} COLLATE "C"))', ExpressionVerdict.TIED),
        ("true", ExpressionVerdict.OPEN),
        ("false", ExpressionVerdict.TIED),
        ("(1 = 1)", ExpressionVerdict.OPEN),
        ("public", ExpressionVerdict.OPEN),
        (f"({SETTING} IS NOT NULL)", ExpressionVerdict.OPEN),
        (f"({SETTING} = 'operator'::text)", ExpressionVerdict.GATED),
        ("(tenant_id = app.tenant())", ExpressionVerdict.TIED),
        ("(tenant_id = ( SELECT app.tenant() AS tenant))", ExpressionVerdict.TIED),
        ("(tenant_id = app.through())", ExpressionVerdict.TIED),
        ("app.can_see(tenant_id)", ExpressionVerdict.TIED),
        ("app.odd(tenant_id)", ExpressionVerdict.UNPROVEN),
        ("((tenant_id)::text = CURRENT_USER)", ExpressionVerdict.TIED),
        ("((tenant_id)::text = (CURRENT_USER)::text)", ExpressionVerdict.TIED),
        ("(tenant_id IS NOT NULL)", ExpressionVerdict.OPEN),
        (f"((tenant_id IS NULL) OR {BARE})", ExpressionVerdict.TIED),
        (f"(tenant_id <> ({SETTING})::uuid)", ExpressionVerdict.OPEN),
        (f"(NOT (tenant_id <> ({SETTING})::uuid))", ExpressionVerdict.TIED),
        (
            "(tenant_id IN ( SELECT m.tenant_id\n   FROM public.members m\n  WHERE (m.login = CURRENT_USER)))",
            ExpressionVerdict.UNPROVEN,
        ),
        ("(tenant_id IN ( SELECT m.tenant_id FROM public.members m))", ExpressionVerdict.OPEN),
        (f"(COALESCE({BARE}, false))", ExpressionVerdict.TIED),
        (f"CASE WHEN public THEN {BARE} ELSE false END", ExpressionVerdict.TIED),
        (f"CASE WHEN public THEN true ELSE {BARE} END", ExpressionVerdict.OPEN),
        (
            "((tenant_id)::text = ((current_setting('request.jwt.claims'::text, true))::json ->> 'tenant'::text))",
            ExpressionVerdict.FOREIGN,
        ),
        (
            f"((tenant_id)::text = ANY (string_to_array({SETTING}, ','::text)))",
            ExpressionVerdict.TIED,
        ),
    ],
)
def test_the_verdict_is_about_rows_not_about_looks(text: str, wanted: ExpressionVerdict) -> None:
    assert verdict(SEMANTICS, text, 1, (), writes=False) is wanted


def test_a_sub_select_is_tied_by_a_table_that_protects_itself() -> None:
    text = "(EXISTS ( SELECT 1\n   FROM public.orders o\n  WHERE (o.tenant_id = lines.tenant_id)))"
    assert verdict(SEMANTICS, text, 2, (1,), writes=False) is ExpressionVerdict.TIED
    assert verdict(SEMANTICS, text, 2, (), writes=False) is ExpressionVerdict.OPEN
    through = text.replace("o.tenant_id = lines.tenant_id", "o.id = lines.order_id")
    assert verdict(SEMANTICS, through, 2, (1,), writes=False) is ExpressionVerdict.UNPROVEN


def test_rows_of_nobody_may_be_read_but_not_written_by_everybody() -> None:
    text = f"((tenant_id IS NULL) OR {BARE})"
    assert verdict(SEMANTICS, text, 1, (), writes=False) is ExpressionVerdict.TIED
    assert verdict(SEMANTICS, text, 1, (), writes=True) is ExpressionVerdict.OPEN


@pytest.mark.parametrize(
    ("text", "never", "empty"),
    [
        (BARE, Unbound.CLOSED, Unbound.CLOSED),
        (f"(tenant_id = ({SETTING})::uuid)", Unbound.CLOSED, Unbound.ERROR),
        (
            "(tenant_id = (current_setting('app.current_tenant'::text))::uuid)",
            Unbound.ERROR,
            Unbound.ERROR,
        ),
        (f"((tenant_id)::text = {SETTING})", Unbound.CLOSED, Unbound.CLOSED),
        (f"(({SETTING} IS NULL) OR {BARE})", Unbound.OPEN, Unbound.CLOSED),
        (f"(({SETTING} = ''::text) OR {BARE})", Unbound.CLOSED, Unbound.OPEN),
        (
            f"(tenant_id = (COALESCE({SETTING}, '00000000-0000-0000-0000-000000000000'::text))::uuid)",
            Unbound.ROWS,
            Unbound.ERROR,
        ),
        ("(tenant_id = app.tenant())", Unbound.CLOSED, Unbound.CLOSED),
        ("(tenant_id = ( SELECT app.through() AS through))", Unbound.CLOSED, Unbound.CLOSED),
        ("(tenant_id = app.mine())", Unbound.ERROR, Unbound.ERROR),
        ("(tenant_id = app.odd())", Unbound.DEPENDS, Unbound.DEPENDS),
        ("((tenant_id)::text = CURRENT_USER)", Unbound.DEPENDS, Unbound.DEPENDS),
        (
            f"CASE WHEN ({SETTING} <> ''::text) THEN (tenant_id = ({SETTING})::uuid) ELSE false END",
            Unbound.CLOSED,
            Unbound.CLOSED,
        ),
    ],
)
def test_what_a_policy_does_without_a_tenant(text: str, never: Unbound, empty: Unbound) -> None:
    assert unbound(text, SEMANTICS, 1, None) is never
    assert unbound(text, SEMANTICS, 1, "") is empty


def test_the_sources_of_a_helper_are_found_through_its_body() -> None:
    assert SEMANTICS.sources(parse("app.through()")) == {"app.current_tenant"}
    assert SEMANTICS.sources(parse("((x)::text = SESSION_USER)")) == {USER}


def test_what_can_not_be_read_is_kept_as_text() -> None:
    assert parse("a b c ~ ( [") == Opaque("a b c ~ ( [")
