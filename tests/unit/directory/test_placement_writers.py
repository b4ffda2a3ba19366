"""Who writes placements: one module, and the function that the application role calls at sign-up."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import tenantry

SOURCE: Final = Path(tenantry.__file__).parent
OWNERS: Final = {
    "directory/placements.py",
    "schema/functions/common.sql",
    "testing/product.py",  # empties a database of its own between two tests
}
#: Statements that write one of the two tables, however they are spelt.
WRITES: Final = re.compile(
    r"\b(insert\s+into|update|delete\s+from|merge\s+into|truncate(\s+table)?|copy)\s+(only\s+)?"
    r"\"?tenantry\"?\s*\.\s*\"?(placement|tenant)\"?(?![\w\"])",
    re.IGNORECASE,
)
#: asyncpg's bulk load names the table and its schema apart.
LOADS: Final = re.compile(r"copy(_records)?_to_table\(\s*[\"'](placement|tenant)[\"']")


def texts(path: Path) -> Iterator[str]:
    """What a file sends to PostgreSQL: its strings, joined as Python joins them; SQL without its comments."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sql":
        yield re.sub(r"--.*", "", text)
        return
    yield from LOADS.findall(text) and [text]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "$0" for part in node.values)


def writes(path: Path) -> bool:
    return any(WRITES.search(text) or LOADS.search(text) for text in texts(path))


def test_placements_are_written_by_their_module_and_by_enroll_only() -> None:
    files = [path for path in SOURCE.rglob("*") if path.suffix in (".py", ".sql")]
    assert len(files) > 100, "the search saw no files"
    assert {path.relative_to(SOURCE).as_posix() for path in files if writes(path)} == OWNERS


@pytest.mark.parametrize(
    "statement",
    [
        '"UPDATE tenantry.placement SET database = $2"',
        '"update  only\\n tenantry . placement set epoch = 1"',
        '"WITH x AS (DELETE FROM " "tenantry.tenant RETURNING 1) SELECT 1"',
        'f"INSERT INTO tenantry.tenant ({columns}) VALUES ({values})"',
        '\'MERGE INTO "tenantry"."placement" AS p USING x ON true\'',
        'await c.copy_records_to_table("placement", schema_name="tenantry", records=rows)',
    ],
)
def test_a_new_writer_of_placements_would_be_found(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "new.py"
    path.write_text(f"async def work(c):\n    return {statement}\n")
    assert writes(path)


@pytest.mark.parametrize("statement", ["SELECT 1 FROM tenantry.tenant", "UPDATE tenantry.tenant_note SET a = 1"])
def test_reading_a_placement_is_no_write(statement: str, tmp_path: Path) -> None:
    path = tmp_path / "new.sql"
    path.write_text(f"-- UPDATE tenantry.tenant is what this does not do\n{statement}")
    assert not writes(path)
