"""Claims become JSON that PostgreSQL takes as jsonb, or a clear error that shows none of their values."""

from __future__ import annotations

import json
import uuid
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.errors import InvalidClaims
from tenantry.router.claims import DEEPEST, MOST_BYTES, encoded

SECRET = "s3cr3t"


def nested(depth: int) -> Any:
    value: Any = SECRET
    for _ in range(depth):
        value = {"a": value}
    return value


CYCLE: dict[str, Any] = {"sub": SECRET}
CYCLE["again"] = CYCLE

REFUSED: dict[str, tuple[Any, str]] = {
    "a text": (SECRET, "mapping"),
    "a list": ([SECRET], "mapping"),
    "nothing much": (0, "mapping"),
    "a uuid": ({"sub": uuid.uuid4()}, r"claims\.sub is a UUID"),
    "bytes in a list": ({"roles": ["x", SECRET.encode()]}, r"claims\.roles\[1\] is a bytes"),
    "a set": ({"roles": {SECRET}}, "is a set"),
    "a key that is a number": ({"a": {1: SECRET}}, r"claims\.a has a key that is a int"),
    "two keys that JSON would make one": ({"1": 1, 1: 2}, "has a key that is a int"),
    "NaN": ({"a": float("nan")}, "NaN"),
    "infinity": ({"a": [float("-inf")]}, "NaN"),
    "a number of ten thousand digits": ({"a": 10**10_000}, "digits"),
    "a NUL": ({"sub": f"{SECRET}\0"}, "NUL"),
    "a NUL in a key": ({"a\0": 1}, "NUL"),
    "half a surrogate pair": ({"sub": "\ud800"}, "Unicode"),
    "half a surrogate pair in a key": ({"\udfff": 1}, "Unicode"),
    "too many bytes": ({"sub": SECRET * MOST_BYTES}, f"may take {MOST_BYTES}"),
    "too many bytes, and few characters": ({"sub": "€" * (MOST_BYTES // 3)}, f"may take {MOST_BYTES}"),
    "too deep": (nested(DEEPEST + 1), "deep"),
    "itself": (CYCLE, "deep"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_claims_that_are_no_json_object_are_refused_without_showing_a_value(name: str) -> None:
    claims, why = REFUSED[name]
    with pytest.raises(InvalidClaims, match=why) as refused:
        encoded(claims)
    assert SECRET not in str(refused.value)
    assert len(str(refused.value)) < 200


def test_as_much_as_fits_is_taken() -> None:
    claims = {"sub": "x" * (MOST_BYTES - len('{"sub":""}'))}
    assert len(encoded(claims).encode()) == MOST_BYTES
    assert json.loads(encoded(nested(DEEPEST))) == nested(DEEPEST)


def test_any_mapping_will_do() -> None:
    assert encoded(MappingProxyType({"roles": ("a", "b"), "app": MappingProxyType({})})) == (
        '{"roles":["a","b"],"app":{}}'
    )
    assert encoded({}) == "{}"


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=10)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXTS, VALUES, max_size=3))
def test_what_is_taken_says_what_was_given(claims: dict[str, Any]) -> None:
    assert json.loads(encoded(claims)) == claims
