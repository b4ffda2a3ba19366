"""Named .sql files: single queries, runnable in psql. The schema's own SQL stands in `tenantry.schema`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def query(name: str) -> str:
    """Return the text of `name`.sql. Raises FileNotFoundError for a name that isn't there."""
    return files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
