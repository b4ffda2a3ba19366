"""Finds class names, and numbers of migrations, that stand for more than one thing: `python -m tools.check_names`.

A reader who searches for a name finds one class. So no two modules of the package define a class of the same name,
but for those in `ALLOWED`, each with its reason; one that is defined once only has no place there.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tenantry.schema import migrations

PACKAGE: Final = Path(__file__).parent.parent / "src" / "tenantry"
#: Names that several classes may share -> why.
ALLOWED: Final[Mapping[str, str]] = {}


def classes(package: Path) -> dict[str, list[str]]:
    """Where each class name is defined, nested ones too, as `path:line`.

    Raises:
        SystemExit: there is no class at all: the wrong place was looked at.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{path.relative_to(package)}:{node.lineno}")
    if not found:
        raise SystemExit(f"no class in {package}")
    return found


def problems(found: Mapping[str, list[str]], allowed: Mapping[str, str]) -> Iterator[str]:
    """What is wrong, a line each."""
    for name, places in sorted(found.items()):
        if len(places) > 1 and name not in allowed:
            yield f"class {name} is defined {len(places)} times: {', '.join(places)}; name each for what it is"
    for name in sorted(allowed):
        if len(found.get(name, ())) < 2:
            yield f"class {name} is allowed to be defined twice and is not: remove it from ALLOWED"


def misnumbered() -> Iterator[str]:
    """Which migrations are not numbered 1, 2, 3: two branches have each made the next one."""
    for side in ("control", "data"):
        try:
            migrations(side)
        except ValueError as error:
            yield f"{error}; the one that came to main last takes the next number"


def main() -> int:
    """0: every name stands for one class, and every number for one migration."""
    found = classes(PACKAGE)
    wrong = [*problems(found, ALLOWED), *misnumbered()]
    for line in wrong:
        print(line)
    print(f"class names: {len(found)} looked at, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
