"""Notices of the control database: whatever a payload says, and however many come."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.directory.notices import Notice, NoticeThrottle, read_notice

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("payload", "notice"),
    [
        ('{"tenants": ["a", "b"], "changed": "77"}', Notice({"a": 77, "b": 77})),
        ('{"tenants": ["a"]}', Notice({"a": None})),
        ('{"tenants": "*"}', Notice({}, everything=True)),
        ('{"databases": "*"}', Notice({}, databases=True)),
    ],
)
def test_what_the_directorys_triggers_write_is_read(payload: str, notice: Notice) -> None:
    assert read_notice(payload) == notice


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "*",
        "{}",
        "7",
        "null",
        '"tenants"',
        '["tenants"]',
        "[" * 7999,
        '{"tenants": ' * 600,
        '{"tenants": 1}',
        '{"tenants": {"a": 1}}',
        '{"tenants": [1]}',
        '{"tenants": [["a"]]}',
        '{"tenants": [""]}',
        json.dumps({"tenants": ["x" * 256]}),
        '{"tenants": ["a"], "more": 1}',
        '{"databases": ["shared"]}',
        "9" * 5000,
        None,
        b"\xff",
    ],
)
def test_a_payload_that_the_triggers_do_not_write_is_no_notice(payload: object) -> None:
    assert read_notice(payload) is None


@given(
    st.text()
    | JSON.map(json.dumps)
    | st.dictionaries(st.sampled_from(["tenants", "changed", "databases"]), JSON, min_size=1).map(json.dumps)
)
def test_no_payload_raises(payload: str) -> None:
    notice = read_notice(payload)
    assert notice is None or isinstance(notice, Notice)


@pytest.mark.parametrize("changed", ["x", "", "-1", "1e3", "٣", "9" * 21, 5, None, [1]])
def test_a_version_that_is_none_is_unknown(changed: object) -> None:
    assert read_notice(json.dumps({"tenants": ["a"], "changed": changed})) == Notice({"a": None})


NEWS = st.tuples(
    st.floats(0, 3),
    st.dictionaries(st.sampled_from("abcdef"), st.none() | st.integers(1, 9), max_size=3),
    st.booleans(),
)


@given(st.lists(NEWS, max_size=60))
def test_a_flood_of_notices_is_let_through_at_a_bounded_rate_and_none_is_lost(
    news: list[tuple[float, dict[str, int | None], bool]],
) -> None:
    throttle = NoticeThrottle(every=0.1, everything=1.0)
    doubtful: set[str] = set()
    taken: list[float] = []
    floods: list[float] = []

    def take(now: float) -> None:
        notice = throttle.take(now)
        doubtful.difference_update(doubtful if notice.everything else notice.tenants)
        if notice.tenants:
            taken.append(now)
        if notice.everything:
            floods.append(now)

    for when, tenants, everything in sorted(news, key=lambda each: each[0]):
        while (due := throttle.due()) is not None and due <= when:
            take(due)
        throttle.add(Notice(tenants, everything))
        doubtful.update("abcdef" if everything else tenants)
        take(when)
    while (due := throttle.due()) is not None:
        take(max(due, 3.0))
    assert not doubtful
    assert all(b - a >= 0.1 - 1e-9 for a, b in pairwise(taken))
    assert all(b - a >= 1.0 - 1e-9 for a, b in pairwise(floods))
