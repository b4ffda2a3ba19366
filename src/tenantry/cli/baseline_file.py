"""Files that say which findings are accepted: `--baseline` and `--write-baseline` of `check` and `rls audit`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from tenantry.errors import ConfigError
from tenantry.isolation.audit import baseline

BaselineOption = Annotated[
    Path | None, typer.Option("--baseline", help="A file with the keys of findings that are accepted.")
]
WriteOption = Annotated[
    Path | None, typer.Option("--write-baseline", help="Accept what is found now: write its keys to this file.")
]


def read(path: Path | None) -> tuple[str, ...]:
    """The keys that a file accepts; none without a file.

    Raises:
        ConfigError: the file is no text.
        OSError: it can't be read.
    """
    if path is None:
        return ()
    try:
        return baseline.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise ConfigError(
            "not UTF-8 text; it holds one key of a finding a line, as --write-baseline writes it", source=str(path)
        ) from None


def write(path: Path, keys: Iterable[str]) -> int:
    """A file that accepts these; returns how many."""
    kept = sorted(set(keys))
    path.write_text(baseline.render(kept), encoding="utf-8")
    return len(kept)
