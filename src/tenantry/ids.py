"""Tenant ids and placements: values, no I/O.

An id has one normal form, the text that PostgreSQL prints of it: a uuid in lower case with four hyphens, a bigint
without leading zeros, a text as it is, byte for byte. The directory, the setting that policies read, and the rows
have that form; `parse` gives it, and `stored` insists on it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple
from uuid import UUID

from tenantry.errors import InvalidTenantId

TenantId = UUID | int | str

#: Prefix of the tag that a scope leaves in `application_name`.
TAG_PREFIX = "tenantry:"

_BIGINT_MIN, _BIGINT_MAX = -(2**63), 2**63 - 1
_TEXT_MAX_BYTES = 255
_TAG_MAX_BYTES = 50
_HEX = r"[0-9a-fA-F]"
_HYPHENATED = rf"{_HEX}{{8}}(-{_HEX}{{4}}){{3}}-{_HEX}{{12}}"
_UUID = re.compile(rf"{_HEX}{{32}}|{_HYPHENATED}|\{{{_HYPHENATED}\}}")
_BIGINT = re.compile(r"0|-?[1-9][0-9]{0,18}", re.ASCII)
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


#: What a tenant's limits may be; each a whole number from 1 to LARGEST.
LIMITS: Final = ("connections", "queue", "statement_timeout")
#: PostgreSQL's largest integer: milliseconds of its longest `statement_timeout`.
LARGEST: Final = 2**31 - 1


def check_terms(weight: float, limits: Mapping[str, int] | None) -> None:
    """See that a tenant's terms can be kept.

    Raises:
        ValueError: the weight is not from 0.01 to 100, or a limit is unknown or not a whole number in its range.
    """
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0.01 <= weight <= 100:
        raise ValueError(f"weight is between 0.01 and 100, not {weight!r}")
    for name, value in (limits or {}).items():
        if name not in LIMITS:
            raise ValueError(f"limits are {', '.join(LIMITS)}; not {name!r}")
        if type(value) is not int or not 1 <= value <= LARGEST:
            raise ValueError(f"limit {name} is a whole number from 1 to {LARGEST}, not {value!r}")


def check_name(name: str, ids: IdType) -> str:
    """A tenant's name, without blanks around it.

    Raises:
        ValueError: it is empty, longer than 100 characters, not printable, or reads as an id or a part of one.
    """
    name = name.strip()
    if not 1 <= len(name) <= 100 or not name.isprintable():
        raise ValueError("a name has 1 to 100 printable characters")
    if ids is not IdType.TEXT:
        try:
            ids.parse(name)
        except InvalidTenantId:
            return name
        raise ValueError(f"{name!r} is an id, so it can't be a name")
    return name


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
        """Read an id as users type it, or as the directory stores it; `str` of the result is its normal form.

        A uuid may be written in capitals, in braces or without hyphens. A bigint has one spelling only: one with
        a plus, a blank or leading zeros is some other system's text. A text is itself: capitals, blanks and
        accents, composed or not, make another id of it, as they do for PostgreSQL.

        Raises:
            InvalidTenantId: when the text is not an id of this type.
        """
        if self is IdType.TEXT:
            return self.validate(text)
        written = _UUID if self is IdType.UUID else _BIGINT
        if type(text) is not str or written.fullmatch(text) is None:
            raise InvalidTenantId(text, self.value, "can't be read as one")
        return UUID(text) if self is IdType.UUID else self.validate(int(text))

    def stored(self, text: str) -> str:
        """`text`, when it is an id in its normal form: for ids in a product's rows, which policies compare.

        Raises:
            InvalidTenantId: it is none, or it is spelt otherwise: its tenant would not see rows that have it.
        """
        normal = str(self.parse(text))
        if normal != text:
            raise InvalidTenantId(text, self.value, "spelt otherwise than PostgreSQL prints it")
        return text


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
