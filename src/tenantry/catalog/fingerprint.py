"""The fingerprint of a product's schema: whether two databases have the same one, and in what they differ."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

#: Kinds whose text other major versions of PostgreSQL print in other words.
_REWORDED = frozenset({"view text"})


@dataclass(frozen=True, slots=False)
class Fingerprint:
    """What a database has of the product's schema. Made by `read.read_fingerprint`."""

    major: int
    """Of PostgreSQL: 18."""
    objects: Mapping[tuple[str, str], str]
    """Kind and quoted name of each object -> the hash of its definition."""

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits. Equal for equal schemas, on every major version: views' words don't count."""
        known = hashlib.sha256()
        for (kind, name), found in sorted(self.objects.items()):
            known.update(f"{kind}\0{name}\0{'' if kind in _REWORDED else found}\n".encode())
        return known.hexdigest()[:16]

    def differences(self, other: Fingerprint) -> tuple[str, ...]:
        """In what this one differs from the other, an object each: "lacks table public.orders"."""
        return tuple(self._differences(other))

    def _differences(self, other: Fingerprint) -> Iterator[str]:
        for key in sorted({*self.objects, *other.objects}):
            ours, theirs = self.objects.get(key), other.objects.get(key)
            what = " ".join(key)
            if ours is None:
                yield f"lacks {what}"
            elif theirs is None:
                yield f"has {what} besides"
            elif ours != theirs and (self.major == other.major or key[0] not in _REWORDED):
                yield f"has another {what}"


class Drift(NamedTuple):
    """A database whose schema is another one than that of the others."""

    database: str
    reference: str
    """A database that has what most have."""
    differences: tuple[str, ...]


def drifts(fingerprints: Iterable[tuple[str, Fingerprint]]) -> tuple[Drift, ...]:
    """Which databases differ from what most have. One without any object waits for its product and is left out.

    Args:
        fingerprints: by the databases' names; among equally common schemas the first one is the measure.
    """
    known = [(name, found) for name, found in fingerprints if found.objects]
    counts: dict[str, int] = {}
    for _, found in known:
        counts[found.digest] = counts.get(found.digest, 0) + 1
    if not counts:
        return ()
    usual = max(counts, key=lambda digest: counts[digest])  # the first one of several
    reference, measure = next((name, found) for name, found in known if found.digest == usual)
    compared = ((name, found.differences(measure)) for name, found in known)
    return tuple(Drift(name, reference, found) for name, found in compared if found)
