"""The golden files: each function of a data database in each form, filled in, so that a change is reviewed as SQL.

`python -m tests.unit.schema.golden` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tenantry.ids import IdType
from tenantry.schema import Form, Identity
from tenantry.schema.rendering import functions

FOLDER: Final = Path(__file__).parent / "golden"
IDENTITY: Final = Identity("shared", "app.current_tenant", IdType.UUID)


def rendered() -> dict[str, str]:
    """What the files should hold, by their path under `FOLDER`."""
    return {
        f"{form.value}/{re.sub(r'[^a-z_]+', '-', signature).strip('-')}.sql": text + "\n"
        for form in Form
        for signature, text in functions(form, None if form is Form.CONTROL else IDENTITY).items()
    }


def found() -> dict[str, str]:
    """What they hold."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_text(encoding="utf-8") for path in FOLDER.rglob("*.sql")
    }


if __name__ == "__main__":
    for name in found().keys() - rendered().keys():
        (FOLDER / name).unlink()
    for name, text in rendered().items():
        (FOLDER / name).parent.mkdir(parents=True, exist_ok=True)
        (FOLDER / name).write_text(text, encoding="utf-8")
