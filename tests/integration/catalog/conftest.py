"""The databases and roles of the isolation tests."""

from __future__ import annotations

from tests.integration.isolation.conftest import connection, role

__all__ = ["connection", "role"]
