"""The runbook lists what preflight can say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
#: Made with a name in it.
MADE = {"no-slots", "no-senders", "no-workers"}


def test_every_code_of_preflight_is_in_the_runbook_and_no_other() -> None:
    said = set(MADE)
    for path in (ROOT / "src/tenantry/move").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == "PreflightFinding"
            ):
                code = node.args[0]
                if isinstance(code, ast.Constant) and isinstance(code.value, str):
                    said.add(code.value)
    page = (ROOT / "docs/how-to/promotion.md").read_text(encoding="utf-8")
    section = page.partition("## What preflight says")[2].partition("\n## ")[0]
    cells = "".join(line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    listed = set(re.findall(r"`([a-z-]+)`", cells + section.partition("Only warns:")[2]))
    assert len(said) > 40
    assert listed == said
