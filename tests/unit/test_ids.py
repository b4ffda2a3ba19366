"""Tenant ids: validated before any I/O, quoted by one function that nothing breaks out of."""

from __future__ import annotations

import contextlib
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import InvalidTenantId
from tenantry.ids import LARGEST, LIMITS, TAG_PREFIX, IdType, check_terms, tag

texts = st.text(
    st.one_of(
        st.sampled_from("'\"\\;$-/*\n\r\t%_ \u00bf\u2019\uff07\u8868\u80fd\ufeffu027xEeUNn&"),
        st.characters(exclude_categories=["Cs"], exclude_characters="\0"),
    ),
    min_size=1,
    max_size=60,
)


@given(text=texts)
def test_a_tag_fits_application_name_and_tells_ids_apart(text: str) -> None:
    made = tag(text)
    assert made.startswith(TAG_PREFIX)
    assert len(made.encode()) <= 63
    assert made.isascii()
    assert made != tag(text + "x")


@given(value=st.one_of(st.none(), st.integers(), st.text(), st.binary(), st.floats(), st.uuids(), st.booleans()))
def test_only_the_configured_type_is_an_id(value: object) -> None:
    right = {IdType.UUID: uuid.UUID, IdType.BIGINT: int, IdType.TEXT: str}
    for kind, python in right.items():
        with contextlib.suppress(InvalidTenantId):
            assert kind.validate(value) is value
            assert type(value) is python
        if kind is IdType.UUID and isinstance(value, uuid.UUID):
            assert kind.validate(value) is value


def test_a_subclass_that_could_lie_about_itself_is_no_id() -> None:
    class Liar(str):
        def __str__(self) -> str:
            return "'; DROP TABLE students; --"

    class Number(int):
        pass

    with pytest.raises(InvalidTenantId):
        IdType.TEXT.validate(Liar("x"))
    with pytest.raises(InvalidTenantId):
        IdType.BIGINT.validate(Number(1))


@given(value=st.uuids() | st.integers(-(2**63), 2**63 - 1))
def test_ids_are_read_back_as_they_are_written(value: uuid.UUID | int) -> None:
    kind = IdType.UUID if isinstance(value, uuid.UUID) else IdType.BIGINT
    assert kind.parse(str(value)) == value


U = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
SPELT = {
    IdType.UUID: [(U.upper(), U), (U.replace("-", ""), U), (f"{{{U}}}", U), (U, U)],
    IdType.BIGINT: [
        ("0", "0"),
        ("7", "7"),
        ("-7", "-7"),
        (str(2**63 - 1), str(2**63 - 1)),
        (str(-(2**63)), str(-(2**63))),
    ],
    IdType.TEXT: [
        (" Acme ", " Acme "),
        ("e\u0301", "e\u0301"),
        ("\u00e9", "\u00e9"),
        ("007", "007"),
        ("x" * 255, "x" * 255),
    ],
}
NO_IDS = {
    IdType.UUID: [
        "",
        f"urn:uuid:{U}",
        f" {U}",
        f"{U} ",
        f"{U}\n",
        U[:-1],
        f"{{{U}",
        f"{U}}}",
        U.replace("-", "", 1),
        "\u0666" + U[1:],
    ],
    IdType.BIGINT: [
        "",
        "+7",
        "007",
        " 7",
        "7\n",
        "1_000",
        "-0",
        "0x7",
        "7.0",
        "\u0667",
        str(2**63),
        str(-(2**63) - 1),
        "9" * 5000,
    ],
    IdType.TEXT: ["", "a\0b", "\ud800", "x" * 256, "\u00e9" * 128],
}


@pytest.mark.parametrize("ids", IdType)
def test_an_id_has_one_normal_form_which_parsing_gives_and_is_insisted_on_in_rows(ids: IdType) -> None:
    for written, normal in SPELT[ids]:
        assert str(ids.parse(written)) == normal
        assert ids.stored(normal) == normal
        if written != normal:
            with pytest.raises(InvalidTenantId, match="spelt otherwise"):
                ids.stored(written)
    for text in NO_IDS[ids]:
        for read in (ids.parse, ids.stored):
            with pytest.raises(InvalidTenantId):
                read(text)


@given(text=st.text("0123456789abcdefABCDEF-{}+_ ", max_size=40) | st.uuids().map(str) | st.integers().map(str))
def test_what_can_be_read_as_an_id_has_a_normal_form_that_reads_as_the_same_id(text: str) -> None:
    for ids in IdType:
        with contextlib.suppress(InvalidTenantId):
            found = ids.parse(text)
            assert ids.stored(str(found)) == str(found)
            assert ids.parse(str(found)) == found == ids.validate(found)


@pytest.mark.parametrize("weight", [0.0, -1.0, 100.1, float("nan"), float("inf"), True, "1"])
def test_a_weight_that_nothing_can_be_weighed_by_is_refused(weight: Any) -> None:
    with pytest.raises(ValueError, match="weight is between"):
        check_terms(weight, None)


@pytest.mark.parametrize("name", LIMITS)
@pytest.mark.parametrize("value", [0, -1, 2**31, 3_000_000_000, True, 1.0, float("nan"), "5", None])
def test_a_limit_that_postgresql_or_the_pool_could_not_keep_is_refused(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=name):
        check_terms(1.0, {name: value})
    check_terms(1.0, {name: LARGEST})


def test_a_limit_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'memory'"):
        check_terms(1.0, {"memory": 1})
