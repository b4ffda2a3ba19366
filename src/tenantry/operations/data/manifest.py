"""What an archive of one tenant's data says of itself: values, and their JSON. Pure.

The text comes from a file that anybody may have written: what is read is checked field by field, and a manifest
that is not exactly of the known form is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from types import GenericAlias, UnionType
from typing import Any, Final, get_args, get_origin, get_type_hints

from tenantry.move.definitions import Definition
from tenantry.residence import Residence
from tenantry.runtime.sqltext import qualified

#: The only form of archives that there is.
FORMAT: Final = "tenantry tenant archive"
VERSION: Final = 1


class ManifestUnusable(ValueError):
    """The manifest is not of the known form; says what is wrong."""


@dataclass(frozen=True, slots=True)
class ArchivedPart:
    """A stream of the archive: rows as COPY's text."""

    member: str
    """Its name in the file."""
    rows: int
    bytes: int
    sha256: str
    """Of its bytes, in hexadecimal digits."""


@dataclass(frozen=True, slots=True)
class ArchivedTable:
    """The tenant's rows of one table."""

    schema: str
    name: str
    column: str
    """The tenant column. No row in the archive has it: an import writes its own tenant's id there."""
    columns: tuple[str, ...]
    """The others that are stored, in the order of the stream."""
    digest: str
    """Sum of the rows' 64-bit hashes over `columns`, in decimal digits: see `move.steps.digest`."""
    part: ArchivedPart

    @property
    def quoted(self) -> str:
        """Its name, schema-qualified and quoted."""
        return qualified(self.schema, self.name)


@dataclass(frozen=True, slots=True)
class ArchivedReference:
    """The keys of a table of no tenant that the rows need, by one foreign key. Its rows are not in the archive."""

    constraint: str
    table: str
    """That has the foreign key; quoted, as the next."""
    references: str
    columns: tuple[str, ...]
    """The referenced ones, in the order of the stream."""
    part: ArchivedPart


@dataclass(frozen=True, slots=True)
class ArchivedSequence:
    """A sequence that feeds columns of the tenant's tables."""

    name: str
    """Schema-qualified and quoted."""
    last: int
    """The last value given out where the rows were; 0: none."""


@dataclass(frozen=True, slots=True)
class ArchivedAudit:
    """The tenant's entries of the audit log."""

    last: tuple[tuple[str, int], ...]
    """The largest number of each database's entries."""
    part: ArchivedPart


@dataclass(frozen=True, slots=True)
class ArchivedKits:
    """What kits kept of the tenant."""

    quota_plan: str | None
    quota_exceptions: tuple[tuple[str, int | None], ...]
    """Resource, and how many rows; None: no limit."""
    audit: ArchivedAudit | None
    """None: there was no such kit."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stands in `manifest.json`."""

    format: str
    version: int
    tenantry: str
    """The release that wrote it."""
    server: str
    """PostgreSQL's version there."""
    created: str
    """ISO 8601, UTC: when the snapshot was taken."""
    tenant: str
    id_type: str
    database: str
    """Where the tenant lived."""
    name: str | None
    """What people called it."""
    plan: str | None
    weight: float
    limits: dict[str, int]
    fingerprint: str
    """Of `definitions`."""
    definitions: tuple[tuple[str, str, str], ...]
    """What the tables were made of: kind, name, definition."""
    tables: tuple[ArchivedTable, ...]
    """Referenced ones before those that reference them."""
    references: tuple[ArchivedReference, ...]
    sequences: tuple[ArchivedSequence, ...]
    kits: ArchivedKits
    region: str | None = None
    """What the tenant asks of its home; files of before there was this have none."""
    tier: str | None = None

    @property
    def residence(self) -> Residence:
        """Both."""
        return Residence(self.region, self.tier)

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.part.rows for table in self.tables)

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(part.bytes for part in self.parts)

    @property
    def parts(self) -> tuple[ArchivedPart, ...]:
        """Every stream of the file."""
        audit = [] if self.kits.audit is None else [self.kits.audit.part]
        return (*(one.part for one in self.tables), *(one.part for one in self.references), *audit)

    @property
    def defined(self) -> tuple[Definition, ...]:
        """`definitions`, to be compared."""
        return tuple(Definition(*line) for line in self.definitions)

    def to_json(self) -> str:
        """For the file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """From a file.

        Raises:
            ManifestUnusable: it is of another format or version, or none at all.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ManifestUnusable(f"its manifest is no JSON ({type(error).__name__})") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise ManifestUnusable("it is no archive of a tenant")
        if data.get("version") != VERSION:
            raise ManifestUnusable(
                f"it has format version {str(data.get('version'))[:20]}, and this release reads version {VERSION}"
            )
        manifest: Manifest = _value(cls, data, "manifest")
        _check(manifest)
        return manifest


def _check(manifest: Manifest) -> None:
    members = [part.member for part in manifest.parts]
    if len({*members}) != len(members):
        raise ManifestUnusable("its manifest names a member twice")
    names = [table.quoted for table in manifest.tables]
    if len({*names}) != len(names):
        raise ManifestUnusable("its manifest names a table twice")
    for table in manifest.tables:
        if len({*table.columns, table.column}) != len(table.columns) + 1:
            raise ManifestUnusable(f"its manifest names a column of {table.quoted} twice")
        if not table.digest.isascii() or not table.digest.removeprefix("-").isdigit():
            raise ManifestUnusable(f"its manifest has no digest of {table.quoted}")
    for part in manifest.parts:
        if part.rows < 0 or part.bytes < 0:
            raise ManifestUnusable(f"its manifest has a negative number for {part.member}")


def _value(kind: Any, given: Any, where: str) -> Any:
    """`given` as a value of the type `kind`: of the types that the fields above have."""
    origin = get_origin(kind)
    if isinstance(kind, UnionType):
        return None if given is None else _value(get_args(kind)[0], given, where)
    if origin is tuple:
        return _tuple(kind, given, where)
    if origin is dict:
        if not isinstance(given, dict):
            raise ManifestUnusable(f"its {where} is no object")
        return {str(key): _value(get_args(kind)[1], value, f"{where}.{key}"[:80]) for key, value in given.items()}
    if hasattr(kind, "__dataclass_fields__"):
        return _record(kind, given, where)
    if kind is float and type(given) is int:
        return float(given)
    if type(given) is not kind:
        raise ManifestUnusable(f"its {where} is no {kind.__name__}")
    if kind is int and not -(2**63) <= given < 2**63:
        raise ManifestUnusable(f"its {where} is too large")
    if kind is str and ("\0" in given or any("\ud800" <= c <= "\udfff" for c in given)):
        raise ManifestUnusable(f"its {where} has characters that PostgreSQL has not")
    return given


def _tuple(kind: GenericAlias, given: Any, where: str) -> tuple[Any, ...]:
    inner = get_args(kind)
    if not isinstance(given, list) or (inner[-1] is not Ellipsis and len(given) != len(inner)):
        raise ManifestUnusable(f"its {where} is no list as it should be")
    each: Sequence[Any] = inner[:1] * len(given) if inner[-1] is Ellipsis else inner
    return tuple(
        _value(one, value, f"{where}[{n}]") for n, (one, value) in enumerate(zip(each, given, strict=True))
    )


def _record(kind: Any, given: Any, where: str) -> Any:
    if not isinstance(given, dict):
        raise ManifestUnusable(f"its {where} is no object")
    names = {field.name for field in fields(kind)}
    may_lack = {field.name for field in fields(kind) if field.default is not MISSING}
    if odd_names := ({*given} ^ names) - (may_lack - {*given}):
        odd = min(odd_names)
        raise ManifestUnusable(f"its {where} {'lacks' if odd in names else 'has a strange'} {odd[:40]!r}")
    hints: Mapping[str, Any] = get_type_hints(kind)
    return kind(**{name: _value(hints[name], given[name], f"{where}.{name}") for name in names & {*given}})
