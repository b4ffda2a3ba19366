"""Hardened mode's proofs: who may bind a tenant. Values, no I/O.

A proof is HMAC-SHA256 (RFC 2104) under a key that the application role can't read: the router has it from its
configuration, each data database has one of its own in `tenantry.secret`, derived from the same secret. What
is signed names the server process, so a proof seen on one connection is of no use on another.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, NamedTuple

_BLOCK: Final = 64  # bytes of a SHA-256 block, as RFC 2104 wants it
#: Bytes that a secret must have at least.
SHORTEST: Final = 32
#: Why hardened mode and Citus don't go together, and what to do.
HARDENED_ON_CITUS: Final = (
    "hardened mode is not to be had on Citus, whose policies can't check the router's proof; "
    "take hardened out of the configuration, or use a database without Citus"
)


class Pads(NamedTuple):
    """A key as the database stores it: HMAC's inner and outer block, so that SQL needs sha256 only."""

    inner: bytes
    outer: bytes


def database_key(secret: str, database: str) -> bytes:
    """The key of one database: one that leaks opens no other.

    Raises:
        ValueError: the secret is shorter than SHORTEST bytes.
    """
    raw = secret.encode()
    if len(raw) < SHORTEST:
        raise ValueError(f"the secret has {len(raw)} bytes; give it at least {SHORTEST} random ones")
    return hmac.digest(raw, b"tenantry database " + database.encode(), hashlib.sha256)


def pads(key: bytes) -> Pads:
    """The two blocks of RFC 2104 for a key of at most one block."""
    block = key.ljust(_BLOCK, b"\0")
    return Pads(bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block))


def bind_proof(key: bytes, backend: int, tenant: str) -> str:
    """What `tenantry.bind` wants: hexadecimal. `backend` 0 stands for any, behind a pooler."""
    return hmac.digest(key, f"bind {backend} {tenant}".encode(), "sha256").hex()


def enroll_proof(key: bytes, backend: int, tenant: str, epoch: int) -> str:
    """What `tenantry.enroll` wants: hexadecimal."""
    return hmac.digest(key, f"enroll {backend} {epoch} {tenant}".encode(), "sha256").hex()
