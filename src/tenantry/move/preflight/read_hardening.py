"""Hardened mode at both ends of a move: each database has a key of its own, which the routers know too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from tenantry.move.errors import Finding
from tenantry.move.session import Connection, Endpoint
from tenantry.proof import pads

if TYPE_CHECKING:
    from tenantry.move.preflight.facts import Facts


class Hardening(NamedTuple):
    """What there is of hardened mode in one database."""

    hardened: bool | None = None
    """None: the tenantry schema is not installed."""
    has_key: bool = False
    """True if the mover was given the database's key."""
    right_key: bool | None = None
    """Whether that is the key that the database has; None: it can't be told."""


async def look(connection: Connection, endpoint: Endpoint) -> Hardening:
    """Read it. The key itself is compared and forgotten."""
    known = endpoint.key is not None
    if not await connection.fetchval("SELECT to_regclass('tenantry.local') IS NOT NULL"):
        return Hardening(has_key=known)
    hardened = await connection.fetchval("SELECT hardened FROM tenantry.local")
    if not known or not await connection.fetchval("SELECT has_table_privilege('tenantry.secret', 'SELECT')"):
        return Hardening(bool(hardened), known)
    pad = await connection.fetchval("SELECT inner_pad FROM tenantry.secret")
    return Hardening(bool(hardened), known, None if pad is None else pad == pads(endpoint.key or b"").inner)


def hardening(facts: Facts) -> Iterator[Finding]:
    """A tenant of a hardened database goes to a hardened database only, whose key the routers have."""
    ends = ((facts.source_name, facts.source_hardening), (facts.target_name, facts.target_hardening))
    source, target = facts.source_hardening, facts.target_hardening
    if source.hardened and not target.has_key:
        yield Finding(
            "no-key",
            f"{facts.source_name} is hardened, and the mover has no key for {facts.target_name}",
            "set tenancy.hardened and tenancy.secret in the mover's configuration, as the routers have them",
        )
    wanted = source.hardened or target.hardened or source.has_key or target.has_key
    for name, end in ends:
        if wanted and end.hardened is False:
            yield Finding(
                "not-hardened",
                f"{name} is not hardened, but the other side or the configuration is",
                "run `tenantry init` with tenancy.hardened, then `tenantry rls apply` there",
            )
        if end.hardened and end.right_key is False:
            yield Finding(
                "wrong-key",
                f"{name} was hardened with another secret than the mover has",
                "give the mover the routers' tenancy.secret, or run `tenantry init` to bring the database to it",
            )
