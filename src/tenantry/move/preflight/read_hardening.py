"""Hardened mode at both ends of a move: each database has a key of its own, which the routers know too."""

from __future__ import annotations

from tenantry.move.preflight.facts import Hardening
from tenantry.move.session import Connection, Endpoint
from tenantry.proof import pads


async def read(connection: Connection, endpoint: Endpoint) -> Hardening:
    """Read it. The key itself is compared and forgotten."""
    known = endpoint.key is not None
    if not await connection.fetchval("SELECT to_regclass('tenantry.database_identity') IS NOT NULL"):
        return Hardening(has_key=known)
    hardened = await connection.fetchval("SELECT hardened FROM tenantry.database_identity")
    if not known or not await connection.fetchval("SELECT has_table_privilege('tenantry.secret', 'SELECT')"):
        return Hardening(bool(hardened), known)
    pad = await connection.fetchval("SELECT inner_pad FROM tenantry.secret")
    return Hardening(bool(hardened), known, None if pad is None else pad == pads(endpoint.key or b"").inner)
