"""The README's table of guarantees names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`([a-z_0-9/]+\.py)(?:::([a-z_0-9]+))?`")


def rows() -> dict[str, list[tuple[str, str]]]:
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    cells = [line.split("|") for line in lines if re.match(r"\| G\d+ \|", line)]
    return {row[1].strip(): NAMED.findall(row[3]) for row in cells}


def test_every_guarantee_has_a_row_with_tests() -> None:
    found = rows()
    assert sorted(found, key=lambda name: int(name[1:])) == [f"G{n}" for n in range(1, 22)]
    assert all(found.values())


def test_every_named_test_exists() -> None:
    named = [pair for pairs in rows().values() for pair in pairs]
    assert len(named) >= 21
    for path, name in named:
        text = (ROOT / "tests" / path).read_text(encoding="utf-8")
        assert not name or re.search(rf"^(async )?def {name}\(", text, re.MULTILINE), f"{path}::{name}"
