"""Decisions about one tenant's data: the tenant's column before COPY's text, manifests, the order of tables."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry.move.catalog import Reference, Table
from tenantry.operations.data.holdings import in_order
from tenantry.operations.data.importing import with_tenant
from tenantry.operations.data.manifest import (
    FORMAT,
    VERSION,
    ArchivedAudit,
    ArchivedKits,
    ArchivedPart,
    ArchivedReference,
    ArchivedSequence,
    ArchivedTable,
    Manifest,
    ManifestUnusable,
)

PART = ArchivedPart("tables/0001.copy", 2, 10, "0" * 64)
MANIFEST = Manifest(
    format=FORMAT, version=VERSION, tenantry="0.1.0", server="18.1", created="2026-11-27T00:00:00+00:00",
    tenant="a", id_type="text", database="shared", name="Acme", plan=None, weight=1.0, limits={"queue": 3},
    fingerprint="f", definitions=(("column", "t.x", "text"),),
    tables=(ArchivedTable("public", "t", "tenant_id", ("x", "y"), "-7", PART),),
    references=(ArchivedReference("k", '"t"', '"r"', ("id",), replace(PART, member="references/0002.copy")),),
    sequences=(ArchivedSequence('"public"."s"', 4),),
    kits=ArchivedKits("gold", (("seats", None),), ArchivedAudit((("shared", 9),), replace(PART, member="kits/3"))),
)  # fmt: skip


def prefixed(text: bytes, cuts: list[int], tenant: str, *, alone: bool = False) -> bytes:
    """`text`, cut into blocks at these places, through `with_tenant`."""
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})

    async def blocks() -> AsyncIterator[bytes]:
        for start, end in itertools.pairwise(places):
            yield text[start:end]

    async def all_of_it() -> bytes:
        return b"".join([block async for block in with_tenant(blocks(), tenant, alone=alone)])

    return asyncio.run(all_of_it())


@given(
    st.lists(st.binary(max_size=8).map(lambda row: row.replace(b"\n", b"")), max_size=8), st.lists(st.integers(0))
)
def test_each_line_begins_with_the_tenants_id_however_the_stream_is_cut(
    rows: list[bytes], cuts: list[int]
) -> None:
    text = b"".join(row + b"\n" for row in rows)
    assert prefixed(text, cuts, "t") == b"".join(b"t\t" + row + b"\n" for row in rows)


def test_a_table_of_nothing_but_the_tenant_gets_the_id_alone() -> None:
    assert prefixed(b"\n\n", [1], "t", alone=True) == b"t\nt\n"


def test_an_id_is_written_so_that_copy_reads_the_very_id() -> None:
    assert prefixed(b"1\n", [], "a\tb\\c\nd\\.") == b"a\\tb\\\\c\\nd\\\\.\t1\n"


def test_a_manifest_is_read_as_it_was_written() -> None:
    assert Manifest.from_json(MANIFEST.to_json().encode()) == MANIFEST
    assert MANIFEST.size == 30


JUNK = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))


@given(st.data())
def test_a_manifest_with_any_value_changed_is_a_manifest_or_refused_by_name(data: st.DataObject) -> None:
    found: Any = json.loads(MANIFEST.to_json())
    at = found
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            break
        at = at[key]
    if data.draw(st.booleans()):
        at[key] = data.draw(JUNK)
    else:
        del at[key]
    try:
        read = Manifest.from_json(json.dumps(found).encode())
    except ManifestUnusable:
        return
    assert Manifest.from_json(read.to_json().encode()) == read


@pytest.mark.parametrize("text", [b"", b"\xff", b"[]", b"[" * 100_000, b'{"format": 1}', b'{"format": NaN}'])
def test_what_is_no_manifest_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(ManifestUnusable):
        Manifest.from_json(text)


def test_numbers_that_postgresql_has_not_are_refused() -> None:
    huge = MANIFEST.to_json().replace('"last": 4', f'"last": {2**63}')
    with pytest.raises(ManifestUnusable, match="too large"):
        Manifest.from_json(huge.encode())


def table(oid: int, name: str, *to: int) -> tuple[Table, str]:
    references = tuple(Reference("k", other, ("x",), ("id",)) for other in to)
    return (
        Table(oid, "public", name, "r", "p", "d", 0.0, 0, False, "me", True, (), (), (), references),
        "tenant_id",
    )


def test_referenced_tables_come_first_whatever_their_names_and_circles_end() -> None:
    tables = [
        table(1, "a", 2),
        table(2, "b", 3),
        table(3, "c", 3),
        table(4, "d", 5),
        table(5, "e", 4),
        table(6, "f", 99),
    ]
    names = [one.name for one, _ in in_order(tables)]
    assert sorted(names) == ["a", "b", "c", "d", "e", "f"]
    assert names.index("c") < names.index("b") < names.index("a")
    assert names == [one.name for one, _ in in_order(list(reversed(tables)))]
