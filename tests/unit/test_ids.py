"""Tenant ids: validated before any I/O, quoted by one function that nothing breaks out of."""

from __future__ import annotations

import contextlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import InvalidTenantId
from tenantry.ids import TAG_PREFIX, IdType, tag

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
