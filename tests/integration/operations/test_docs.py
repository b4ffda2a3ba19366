"""The code of docs/reference/operations.md, run as it stands against a fleet."""

from __future__ import annotations

import ast
import re
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from tenantry import Kind, Operations
from tests.support.estate import Estate

DOCS = Path(__file__).parents[3] / "docs" / "reference" / "operations.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def compiled(number: int) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(BLOCKS[number], f"{DOCS}, block {number}", "exec", flags)
    return code


@pytest.fixture
async def names(
    estate18: Estate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[dict[str, Any]]:
    """What the page takes for granted: the file, an open `ops`, and ids."""
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "config" / "tenantry.yaml"
    config.parent.mkdir()
    near, far = estate18.near, estate18.far
    config.write_text(
        f"control: {{dsn: {estate18.control_dsn}}}\n"
        "databases:\n"
        f"  shared: {{kind: shared, dsn: {near.dsn(estate18.shared, user='app')},"
        f" operator_dsn: {near.dsn(estate18.shared)}}}\n"
        f"  acme: {{kind: dedicated, dsn: {far.dsn(estate18.dedicated, user='app')},"
        f" operator_dsn: {far.dsn(estate18.dedicated)}, backup: {{every: 6h, command: 'true'}}}}\n"
    )
    async with Operations.open(config) as ops:
        yield {
            "ops": ops,
            "Kind": Kind,
            "tenant_id": estate18.tenant,
            "new_id": uuid.uuid4(),
            "ids_of_another_system": [str(uuid.uuid4()) for _ in range(3)],
        }


async def test_every_block_of_the_page_runs_in_its_order(
    names: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) > 8
    for number in range(len(BLOCKS)):
        try:
            # The first block opens an `ops` of its own.
            running = eval(compiled(number), names if number else {**names})
            if running is not None:
                await running
        except Exception as error:
            error.add_note(f"in block {number} of {DOCS}:\n{BLOCKS[number]}")
            raise
    said = capsys.readouterr().out
    assert "step.ended" in said
    assert "acme 0 " in said  # the backup
