"""Tenant ids and placements: values, no I/O."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from tenantry.errors import InvalidTenantId

TenantId = UUID | int | str

#: Prefix of the tag that a scope leaves in `application_name`.
TAG_PREFIX = "tenantry:"

_BIGINT_MIN, _BIGINT_MAX = -(2**63), 2**63 - 1
_TEXT_MAX_BYTES = 255
_TAG_MAX_BYTES = 50
_PLAIN = re.compile(r"[ -~]+", re.ASCII)


class Kind(StrEnum):
    """What a database holds: many tenants kept apart by RLS, or one."""

    SHARED = "shared"
    DEDICATED = "dedicated"


class Placement(NamedTuple):
    """Where a tenant lives now."""

    database: str
    """Name of the database in the directory."""
    kind: Kind
    """Shared or dedicated."""
    epoch: int
    """Grows by one at each change of placement; starts at 1."""


class Terms(NamedTuple):
    """What a tenant is entitled to on its database."""

    weight: float = 1.0
    """Its part relative to others, when all are waiting; 0.01 to 100."""
    connections: int | None = None
    """At most so many connections of a pool at once; None: only the pool's share counts."""
    queue: int | None = None
    """At most so many waiting checkouts; None: the router's setting."""
    statement_timeout: int | None = None
    """Milliseconds that one statement may run; None: the database's setting."""


class IdType(StrEnum):
    """The configured type of tenant ids, and what follows from it."""

    UUID = "uuid"
    BIGINT = "bigint"
    TEXT = "text"

    def validate(self, value: object) -> TenantId:
        """Return `value` as a tenant id of this type.

        Raises:
            InvalidTenantId: for anything else, subclasses that could lie about themselves included.
        """
        kind = type(value)
        if self is IdType.UUID:
            if kind is UUID:
                return value  # type: ignore[return-value]
            raise InvalidTenantId(value, self.value, "wrong type")
        if self is IdType.BIGINT:
            if kind is not int:
                raise InvalidTenantId(value, self.value, "wrong type")
            if not _BIGINT_MIN <= value <= _BIGINT_MAX:  # type: ignore[operator]
                raise InvalidTenantId(value, self.value, "out of range")
            return value  # type: ignore[return-value]
        if kind is not str:
            raise InvalidTenantId(value, self.value, "wrong type")
        return _text_id(value)  # type: ignore[arg-type]

    def parse(self, text: str) -> TenantId:
        """Read an id as users type it, or as the directory stores it.

        Raises:
            InvalidTenantId: when the text is not an id of this type.
        """
        try:
            if self is IdType.UUID:
                return UUID(text)
            if self is IdType.BIGINT:
                return self.validate(int(text))
        except ValueError as error:
            if isinstance(error, InvalidTenantId):
                raise
            raise InvalidTenantId(text, self.value, "can't be read as one") from None
        return _text_id(text)


def _text_id(value: str) -> str:
    if not value:
        raise InvalidTenantId(value, "text", "empty")
    if "\0" in value:
        raise InvalidTenantId(value, "text", "NUL character")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidTenantId(value, "text", "lone surrogate") from None
    if size > _TEXT_MAX_BYTES:
        raise InvalidTenantId(value, "text", f"{size} bytes long")
    return value


def tag(text: str) -> str:
    """What a scope puts into `application_name`: the id itself, or a hash of one that would not fit.

    The same rule stands in `tenantry.bind`: printable ASCII of at most 50 bytes stands as it is, since
    PostgreSQL cuts `application_name` at 63 bytes and replaces what is not ASCII.
    """
    if len(text) <= _TAG_MAX_BYTES and _PLAIN.fullmatch(text):
        return TAG_PREFIX + text
    return f"{TAG_PREFIX}#{hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()}"
