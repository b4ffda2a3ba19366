"""What the comparison decides without a server: which pages it reads, and what it says of rows that differ."""

from __future__ import annotations

import re
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tenantry.move.steps.digest import Chunks, Digest, ShownRow
from tenantry.move.steps.verify import differing, tell_apart

PLACES = ("shared", "acme")
ROWS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2)), max_size=8)


def holds(condition: list[str], page: int) -> bool:
    """Whether a row of that page fulfils it."""
    for part in condition:
        found = re.fullmatch(r"t\.ctid (>=|<) '\((\d+),0\)'::tid", part)
        assert found, part
        if not (page >= int(found[2]) if found[1] == ">=" else page < int(found[2])):
            return False
    return True


@given(pages=st.integers(0, 60), step=st.integers(1, 70), later=st.integers(0, 10))
def test_every_page_is_read_once_those_that_came_later_too(pages: int, step: int, later: int) -> None:
    conditions = list(Chunks(pages, step).conditions())
    for page in range(pages + later + 1):
        assert sum(holds(condition, page) for condition in conditions) == 1
    assert len(conditions) == max(1, -(-pages // step))


@given(ours=ROWS, theirs=ROWS)
def test_rows_that_differ_are_named_and_those_that_do_not_are_not(
    ours: list[tuple[str, int]], theirs: list[tuple[str, int]]
) -> None:
    here, there = ([ShownRow(name, f"({name})", value) for name, value in rows] for rows in (ours, theirs))
    odd = {
        name
        for name in "abcd"
        if Counter(r for r in ours if r[0] == name) != Counter(r for r in theirs if r[0] == name)
    }
    told = tell_apart(here, there, PLACES)
    assert [line.split()[1] for line in told] == [f"({name})" for name in sorted(odd)]
    for line, name in zip(told, sorted(odd), strict=True):
        absent = [
            place for place, rows in zip(PLACES, (ours, theirs), strict=True) if all(r[0] != name for r in rows)
        ]
        assert absent == {"is missing in acme": ["acme"], "is only in acme": ["shared"]}.get(
            line.split(maxsplit=2)[2], []
        )


@given(
    st.dictionaries(st.integers(0, 40), st.builds(Digest, st.integers(1, 9000), st.integers(-9, 9))),
    st.dictionaries(st.integers(0, 40), st.builds(Digest, st.integers(1, 9000), st.integers(-9, 9))),
)
def test_some_differing_buckets_are_listed_and_never_too_many_rows(
    ours: dict[int, Digest], theirs: dict[int, Digest]
) -> None:
    chosen = differing(ours, theirs)
    assert all(ours.get(bucket) != theirs.get(bucket) for bucket in chosen)
    assert bool(chosen) == (ours != theirs)
    listed = [ours.get(bucket, Digest()).rows + theirs.get(bucket, Digest()).rows for bucket in chosen]
    assert len(chosen) <= 20
    assert len(chosen) == 1 or sum(listed) <= 20_000 or not chosen
