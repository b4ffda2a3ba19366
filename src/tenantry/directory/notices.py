"""What the control database notifies, read with suspicion: any role may NOTIFY, and a payload may say anything.

A notice is a hint to read the directory again, never a fact about a tenant. What is not of the form that the
directory's triggers write is no notice. However many come, `NoticeThrottle` lets them through at a rate that costs
the routers and the control database little.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple

#: Bytes of an id at most, as `tenant.IdType` has it.
_ID_BYTES: Final = 255
_XID_DIGITS: Final = 20
#: Ids that wait at most; when there are more, everything is in doubt.
_WAITING_IDS: Final = 10_000


class Notice(NamedTuple):
    """What may have changed."""

    tenants: dict[str, int | None]
    """By id: the transaction that wrote the row's newest version, None where it is not known."""
    everything: bool = False
    """Any tenant may have."""
    databases: bool = False
    """The table of databases has."""


def read_notice(payload: object) -> Notice | None:
    """What a payload says; None: the directory does not write such. Never raises."""
    try:
        message = json.loads(str(payload))
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or not message or not message.keys() <= {"tenants", "changed", "databases"}:
        return None
    if message.get("databases", "*") != "*":
        return None
    changed = _xid(message.get("changed"))
    tenants = message.get("tenants", [])
    if tenants == "*":
        return Notice({}, everything=True, databases="databases" in message)
    if not isinstance(tenants, list) or not all(_is_id(each) for each in tenants):
        return None
    return Notice(dict.fromkeys(tenants, changed), databases="databases" in message)


def _is_id(value: Any) -> bool:
    # A lone surrogate can't be encoded, and is no id either.
    return isinstance(value, str) and 0 < len(value.encode(errors="surrogatepass")) <= _ID_BYTES


def _xid(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= _XID_DIGITS:
        return int(value)
    return None


class NoticeThrottle:
    """Collects notices and says when the next of them is due: the first at once, those that follow by and by.

    Args:
        every: seconds between two notices that are let through.
        everything: seconds between two of them that put everything in doubt, or the databases.
    """

    # Mutable state: _tenants, _everything and _databases (what waits), and when each may go next (loop time).

    def __init__(self, every: float = 0.01, everything: float = 1.0) -> None:
        self._every = every
        self._everything_every = everything
        self._tenants: dict[str, int | None] = {}
        self._everything = False
        self._databases = False
        self._next = float("-inf")
        self._next_everything = float("-inf")

    def add(self, notice: Notice) -> None:
        """Let a notice wait for its turn. The last word on a tenant counts."""
        self._tenants.update(notice.tenants)
        self._everything = self._everything or notice.everything or len(self._tenants) > _WAITING_IDS
        self._databases = self._databases or notice.databases
        if self._everything:
            self._tenants.clear()

    def due(self) -> float | None:
        """When to call `take`, in loop time; None: nothing waits."""
        if self._tenants:
            return self._next
        return self._next_everything if self._everything or self._databases else None

    def take(self, now: float) -> Notice:
        """What may go now; the rest stays."""
        tenants: dict[str, int | None] = {}
        if self._tenants and now >= self._next:
            tenants, self._tenants = self._tenants, tenants
        everything = databases = False
        if (self._everything or self._databases) and now >= self._next_everything:
            everything, self._everything = self._everything, False
            databases, self._databases = self._databases, False
            self._next_everything = now + self._everything_every
        if tenants or everything or databases:
            self._next = now + self._every
        return Notice(tenants, everything, databases)
