"""Sync tokens in the control database: `tns_ID_SECRET` at the device, the SHA-256 of the secret here.

The secret is 32 random bytes, so one round of a fast hash is all that it needs: nobody guesses it, and who reads
the table can't make a token of what stands there.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Any, Final, NamedTuple

import asyncpg

from tenantry.errors import ConfigError, OperationRefused
from tenantry.sql import query

#: Runs one query of the control database.
Fetch = Callable[..., Awaitable[list[asyncpg.Record]]]

#: How every token begins; for scanners of leaked secrets, and to tell it from a JWT.
PREFIX: Final = "tns_"

#: Days for which a token is good where nobody says otherwise.
USUAL_DAYS: Final = 90

#: Tokens of one tenant that are good at once, at most: a device that takes a new one each time is a bug.
MOST: Final = 10_000

_TOKEN: Final = re.compile(r"tns_([0-9a-f]{20})_([A-Za-z0-9_-]{43})")
_ID: Final = re.compile(r"[0-9a-f]{20}")
_SCOPE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,63}")
_SCOPES: Final = 32
_LABEL: Final = 200


class SyncToken(NamedTuple):
    """One token, without its secret."""

    id: str
    """20 hexadecimal digits; no secret."""
    tenant: str
    scopes: tuple[str, ...]
    label: str | None
    issued_at: datetime
    issued_by: str
    expires_at: datetime | None
    """None: never."""
    revoked_at: datetime | None
    revoked_by: str | None
    last_used_at: datetime | None
    """To the minute."""

    def state(self, now: datetime) -> str:
        """ "active", "expired" or "revoked"."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token that was just made. Its text is shown once: nobody can read it again."""

    text: str = field(repr=False)
    """What the device sends, as a bearer token."""
    token: SyncToken


class StoredToken(NamedTuple):
    """What a router needs to judge a token."""

    token: SyncToken
    hash: bytes
    seconds_left: float | None
    """By the control database's clock, when it was read; None: it never expires."""

    def fits(self, secret: str) -> bool:
        """Whether this is the token's secret. Takes as long for a wrong one as for the right one."""
        return compare_digest(sha256(secret.encode()).digest(), self.hash)


def split(text: object) -> tuple[str, str] | None:
    """A token's id and secret; None: it is no token."""
    found = _TOKEN.fullmatch(text) if isinstance(text, str) else None
    return None if found is None else (found[1], found[2])


def id_of(text: str) -> str:
    """A token's id, of the id itself or of the whole token.

    Raises:
        ConfigError: it is neither. The message does not hold the text, which may be a secret.
    """
    found = split(text)
    if found is not None:
        return found[0]
    if not isinstance(text, str) or not _ID.fullmatch(text):
        raise ConfigError(
            "neither a token's id (20 hexadecimal digits) nor a token; `tenantry tokens list` has the ids"
        )
    return text


class TokenRows:
    """The table of tokens. Every method is one transaction, and raises what `Store`'s methods do."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch

    async def issue(
        self,
        tenant: str,
        *,
        scopes: Sequence[str],
        expires: timedelta | datetime | None,
        label: str | None,
        actor: str,
    ) -> IssuedToken | None:
        """Make a token. None: there is no such tenant, or it was removed.

        Args:
            expires: after so long, or when; None: never.
            actor: who does it, for the record.

        Raises:
            ConfigError: a scope, the label or the expiry can't be used.
            OperationRefused: the tenant has too many.
        """
        wanted = checked_scopes(scopes)
        _check_label(label)
        at, after = _expiry(expires)
        name, secret = secrets.token_hex(10), secrets.token_urlsafe(32)
        try:
            rows = await self._fetch(
                query("tokens/issue"),
                name,
                tenant,
                sha256(secret.encode()).digest(),
                list(wanted),
                label,
                at,
                after,
                actor,
                MOST,
            )
        except (asyncpg.CheckViolationError, asyncpg.DatetimeFieldOverflowError):
            raise ConfigError("lies in the past, or too far ahead", key="expires") from None
        if rows:
            return IssuedToken(f"{PREFIX}{name}_{secret}", _stored(rows[0]).token)
        if await self._fetch("SELECT FROM tenantry.tenant WHERE id = $1 AND state <> 'removed'", tenant):
            raise OperationRefused(
                f"tenant {tenant} has {MOST} sync tokens that are good; revoke those that are not in use: "
                f"`tenantry tokens list {tenant}`"
            )
        return None

    async def find(self, ids: Sequence[str]) -> dict[str, StoredToken]:
        """Those of `ids` that are there, by id; of whatever state."""
        rows = await self._fetch(query("tokens/find"), list(ids))
        return {row["id"]: _stored(row) for row in rows}

    async def rows(
        self, tenant: str | None = None, *, past: bool = False, page: int = 1000
    ) -> AsyncIterator[SyncToken]:
        """Tokens by tenant, the oldest first, read in pages.

        Args:
            tenant: of this one only.
            past: expired and revoked ones too, for 90 days.
        """
        after: tuple[Any, ...] = (None, None, None)
        while True:
            rows = await self._fetch(query("tokens/list"), tenant, *after, past, page)
            for row in rows:
                yield _stored(row).token
            if len(rows) < page:
                return
            after = tuple(rows[-1][name] for name in ("tenant", "issued_at", "id"))

    async def revoke(
        self, ids: Sequence[str] | None, tenant: str | None, *, actor: str, reason: str | None
    ) -> list[str]:
        """Revoke tokens; returns the ids of those that were not revoked before.

        Args:
            ids: these; None: all of the tenant.
            tenant: only if they are this tenant's; None: whoever's.
        """
        given = None if ids is None else list(ids)
        rows = await self._fetch(query("tokens/revoke"), given, tenant, actor, reason)
        return [row["id"] for row in rows]

    async def touch(self, ids: Sequence[str]) -> None:
        """These are in use now."""
        await self._fetch(query("tokens/touch"), list(ids))


def checked_scopes(scopes: object) -> tuple[str, ...]:
    """Scopes in order, each once; a single text is one scope.

    Raises:
        ConfigError: one of them can't be a scope, or there are too many.
    """
    if not isinstance(scopes, Iterable):
        raise ConfigError(f"a text or a list of texts, not a {type(scopes).__name__}", key="scope")
    given = [scopes] if isinstance(scopes, str) else list(scopes)
    for one in given:
        if not isinstance(one, str) or not _SCOPE.fullmatch(one):
            raise ConfigError(
                f"{one!r:.80} is no scope: up to 64 letters, digits and : . _ -, as orders:read", key="scope"
            )
    found = tuple(sorted(set(given)))
    if len(found) > _SCOPES:
        raise ConfigError(f"{len(found)} scopes; a token has {_SCOPES} at most", key="scope")
    return found


def _check_label(label: str | None) -> None:
    if label is None:
        return
    if not isinstance(label, str) or not label.isprintable() or len(label) > _LABEL:
        raise ConfigError(f"a label is one line of up to {_LABEL} printable characters", key="label")


def _expiry(expires: timedelta | datetime | None) -> tuple[datetime | None, timedelta | None]:
    """When, and after how long: one of them, or neither."""
    if isinstance(expires, datetime):
        if expires.tzinfo is None:
            raise ConfigError("a time without a zone: write datetime(…, tzinfo=UTC)", key="expires")
        return expires, None
    if expires is None:
        return None, None
    if not isinstance(expires, timedelta):
        raise ConfigError(
            f"a timedelta, a datetime, or None for never; not a {type(expires).__name__}", key="expires"
        )
    return None, expires


def _stored(row: asyncpg.Record) -> StoredToken:
    token = SyncToken(**{name: row[name] for name in SyncToken._fields})
    return StoredToken(token._replace(scopes=tuple(row["scopes"])), row["hash"], row["seconds_left"])
