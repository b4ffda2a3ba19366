"""The tenant that the current task works for, on every log record: `handler.addFilter(TenantOnRecords())`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_tenant: ContextVar[str] = ContextVar("tenantry_tenant", default="-")


@contextmanager
def logged_as(tenant: object) -> Iterator[None]:
    """Log records of this task, and of tasks that it starts, carry the tenant."""
    token = _tenant.set(str(tenant))
    try:
        yield
    finally:
        _tenant.reset(token)


class TenantOnRecords(logging.Filter):
    """Gives each record an attribute `tenant`: the id, or "-" outside of any tenant's work."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.tenant = _tenant.get()
        return True
