"""The configuration file of an operator who moves tenants of an estate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.estate import Estate

_FILE = """
control: {{dsn: {control}}}
databases:
  shared: {{kind: shared, dsn: {shared}, operator_dsn: {shared}}}
  acme: {{kind: dedicated, dsn: {acme}, operator_dsn: {acme}}}
"""


def operator_file(estate: Estate, folder: Path, tenancy: str = "") -> Path:
    """Write it into `folder`, with more under `tenancy:` if there is any."""
    ends = estate.endpoints
    text = _FILE.format(control=estate.control_dsn, shared=ends["shared"].dsn, acme=ends["acme"].dsn)
    path = folder / "tenantry.yaml"
    path.write_text(text + tenancy, encoding="utf-8")
    return path


@contextmanager
def having(estate: Estate, schema: str, drop: str) -> Iterator[None]:
    """The shared database with more in its schema for a while."""
    estate.near.psql(schema, estate.shared)
    try:
        yield
    finally:
        estate.near.psql(drop, estate.shared)
