"""One form for definitions that only look different, and none for two that mean something else."""

from __future__ import annotations

import pytest

from tenantry.move.definitions import Definition, differences
from tenantry.move.normal_form import normal_form

ALIKE = [
    (
        "CHECK (((state)::text = ANY ((ARRAY['new'::character varying, 'a]''(b'::character varying])::text[])))",
        "CHECK (((state)::text = ANY (ARRAY[('new'::character varying)::text, "
        "('a]''(b'::character varying)::text])))",
        "CHECK (((state)::text = ANY (ARRAY['new'::text, 'a]''(b'::text])))",
    ),
    ("CHECK ((((x >= 1) AND (x <= 2)) AND y))", "CHECK (((x >= 1) AND (x <= 2) AND y))"),
    ("((a OR b) OR (c OR d))", "(a OR b OR c OR d)"),
    ("(x = ANY ((ARRAY[1, 2])::bigint[]))", "(x = ANY (ARRAY[(1)::bigint, (2)::bigint]))"),
    ("(ARRAY[ARRAY[1], ARRAY[2]])::bigint[]", "ARRAY[ARRAY[(1)::bigint], ARRAY[(2)::bigint]]"),
    ("(ARRAY[1.5])::numeric(10,2)[]", "ARRAY[(1.5)::numeric(10,2)]"),
    ('("merge" = "My ""x")', '(merge = "My ""x")'),
    ('((ARRAY[\'a\'::text]))::"S"."T"[]', 'ARRAY[(\'a\'::text)::"S"."T"]'),
]
DIFFERENT = [
    ("((a OR b) AND c)", "(a OR (b AND c))"),
    ("(NOT (a AND b))", "(NOT a AND b)"),
    ("CHECK ((s = 'a b'::text))", "CHECK ((s = 'a  b'::text))"),
    ("CHECK ((s = E'a\\\\'::text))", "CHECK ((s = E'a'::text))"),
    ('("A" > 0)', "(a > 0)"),
    ("(state)::text = ANY (ARRAY['new'::text])", "(state)::text = ANY (ARRAY['new'::text, 'done'::text])"),
    ("('a'::character varying(1))::text", "'a'::text"),
    ("('a'::bpchar)::text", "'a'::text"),
    ("(ARRAY[1])::bigint[]", "(ARRAY[1])::integer[]"),
    ("f((a), b)", "f(a)"),
    ('x::"char"', "x::char(1)"),
    ("a = '\"b\"'", "a = 'b'"),
]


@pytest.mark.parametrize("spellings", ALIKE)
def test_spellings_of_one_definition_have_one_form(spellings: tuple[str, ...]) -> None:
    assert len({normal_form(text) for text in spellings}) == 1
    assert len({normal_form(normal_form(text)) for text in spellings}) == 1


@pytest.mark.parametrize("pair", DIFFERENT)
def test_definitions_that_differ_have_two_forms(pair: tuple[str, str]) -> None:
    assert normal_form(pair[0]) != normal_form(pair[1])


def test_how_an_index_is_stored_is_no_part_of_its_definition() -> None:
    loose = "CREATE INDEX i ON s.t USING btree (a) INCLUDE (b) WITH (fillfactor='70') WHERE (c)"
    tight = "CREATE INDEX i ON s.t USING btree (a) INCLUDE (b) WHERE (c)"
    excluding = "EXCLUDE USING gist (a WITH &&)"
    assert normal_form(loose, storage=False) == normal_form(tight, storage=False) != normal_form(loose)
    assert normal_form(excluding, storage=False) == normal_form(excluding)


@pytest.mark.parametrize("junk", ["", ")", "((", "]]) ::", "'", '"', "ARRAY[", "(ARRAY[1])::", "a::", "\x00"])
def test_text_that_is_no_definition_has_a_form_too(junk: str) -> None:
    assert isinstance(normal_form(junk), str)
    assert normal_form(junk + "x1") != normal_form(junk)


def test_of_a_table_that_is_missing_its_parts_are_not_told() -> None:
    ours = [
        Definition("table", "public.a", "ordinary"),
        Definition("column", "public.a.x", "integer"),
        Definition("index", "public.i", "…", "CREATE INDEX i ON public.a USING btree (x)", "DROP INDEX public.i"),
        Definition("table", "public.ab", "ordinary"),
        Definition("column", "public.ab.x", "integer"),
    ]
    theirs = [Definition("table", "public.ab", "ordinary"), Definition("column", "public.ab.x", "bigint")]
    found = [(one.kind, one.name) for one in differences(ours, theirs)]
    assert found == [("table", "public.a"), ("column", "public.ab.x")]
