"""Writes the pages of the reference that are made from the program: `python -m tools.reference`.

`tools/check_docs.py` compares them, so a page that is out of date fails `make check`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tenantry import events

ROOT: Final = Path(__file__).parent.parent
_FUNCTIONS: Final = ROOT / "src" / "tenantry" / "schema" / "functions"
#: A function or procedure, with the comment above it.
_FUNCTION: Final = re.compile(
    r"(?P<comment>(?:^--[^\n]*\n)*)^CREATE OR REPLACE (?P<kind>FUNCTION|PROCEDURE) "
    r"(?P<name>tenantry\.\w+\([^)]*\))(?: RETURNS (?P<returns>[^\n]+))?$",
    re.MULTILINE,
)
_PARTS: Final = (
    ("common", "In every data database"),
    ("plain", "In plain mode"),
    ("hardened", "In hardened mode"),
    ("citus", "On Citus"),
    ("control", "In the control database"),
)
_WRITTEN: Final = "<!-- Written by `python -m tools.reference`; edit what it reads. -->"


def events_page() -> str:
    """docs/reference/events.md, from `tenantry.events`.

    Raises:
        ValueError: there is no event.
    """
    tree = ast.parse(Path(events.__file__).read_text(encoding="utf-8"))
    parts = [
        "# Events\n",
        f"{_WRITTEN}\n",
        "A router tells its sinks what happens, as frozen values of `tenantry.events`. [The router's page]"
        "(router.md#events-sinks) shows how to add a sink. Moves have events of their own: "
        "[the command line](cli.md#moves) has them.\n",
    ]
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(
            isinstance(b, ast.Name) and b.id == "NamedTuple" for b in node.bases
        ):
            parts.append(f"## `{node.name}`\n")
            parts.append(f"{ast.get_docstring(node)}\n")
            parts.append("\n".join(["| field | type | meaning |", "|---|---|---|", *_fields(node)]) + "\n")
    if len(parts) == 3:
        raise ValueError("tenantry.events has no event")
    return "\n".join(parts)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for field, after in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            said = ""
            if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                said = " ".join(str(after.value.value).split())
            kind = ast.unparse(field.annotation).replace("|", "or")
            yield f"| `{field.target.id}` | `{kind}` | {said} |".replace("|  |", "| |")


def sql_page() -> str:
    """docs/reference/sql.md, from the functions that `tenantry init` installs.

    Raises:
        ValueError: a file has no function.
    """
    parts = [
        "# SQL functions\n",
        f"{_WRITTEN}\n",
        "`tenantry init` installs these in the schema `tenantry`. Your own SQL needs two of them: "
        "`tenantry.current_tenant()`, and, in psql and scripts, `tenantry.bind`. The router calls the others. "
        "`:type` stands for the type of your tenant ids: `uuid`, `bigint` or `text`. What they raise is in "
        "[Errors](errors.md#of-the-database). [Kits](../how-to/kits.md) have functions of their own.\n",
    ]
    for name, title in _PARTS:
        found = list(_FUNCTION.finditer((_FUNCTIONS / f"{name}.sql").read_text(encoding="utf-8")))
        if not found:
            raise ValueError(f"{name}.sql has no function")
        parts.append(f"## {title}\n")
        for match in found:
            parts.append(f"### `{match['name']}`\n")
            returns = f"Returns `{match['returns']}`." if match["returns"] else "A procedure: `CALL` it."
            parts.append(f"{returns} {_prose(match['comment'])}".rstrip() + "\n")
    return "\n".join(parts)


def _prose(comment: str) -> str:
    text = "\n".join(line.removeprefix("--").strip() for line in comment.splitlines())
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n")]
    return "\n\n".join(re.sub(r"([*_<|])", r"\\\1", paragraph) for paragraph in paragraphs)


def pages() -> dict[str, str]:
    """What each written page should hold, by its path."""
    return {"docs/reference/events.md": events_page(), "docs/reference/sql.md": sql_page()}


def main() -> None:
    """Write the pages."""
    for path, text in pages().items():
        (ROOT / path).write_text(text, encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
