"""The plan as the journal keeps it: JSON with a version, read by releases before and after the one that wrote it.

What is added to a plan gets a default in its class: a row without it is read with the default, and a release that
does not know it leaves it out. So both need no new version. `VERSION` grows only when a release that does not know
of the change would run the move wrongly; such a release refuses the plan by name, instead of running it.
"""

from __future__ import annotations

import dataclasses
import json
import types
from enum import Enum
from typing import Any, Final, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")

#: Of the plans that this release writes. 0 and 1: by 0.1.0's development versions. 0: before plans had one. 2: the
#: directions are called forward and reverse.
VERSION: Final = 2
#: Directions by the first version that calls them so: from the source to the target, and the other way.
_DIRECTIONS: Final = {2: ("forward", "reverse"), 0: ("out", "back")}


class Unreadable(ValueError):
    """A journalled value that this release can't take for what it has to be. The message says why."""


def encode(value: Any) -> str:
    """A dataclass as JSON: every field by its name, so that fields may be added, and in any order."""
    return json.dumps(_plain(value))


def decode(kind: type[T], text: str) -> T:
    """Read a value of the dataclass `kind` back.

    Fields that the class does not know are left out; those that the text lacks get the class's default.

    Raises:
        Unreadable: a field without a default is missing, or the text is something else.
    """
    try:
        return _read(kind, _loaded(text))  # type: ignore[no-any-return]  # `kind` says what it is
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise Unreadable(str(error)) from error


def version_of(text: str) -> int:
    """The version of a journalled plan.

    Raises:
        Unreadable: it is no plan.
    """
    raw = _loaded(text)
    version = raw.get("version", 0) if isinstance(raw, dict) else None
    if not isinstance(version, int):
        raise Unreadable("it has no version that is a number")
    return version


def directions(version: int) -> tuple[str, str]:
    """What gates, markers and replication names call the two directions of a move whose plan has this version."""
    return next(names for first, names in _DIRECTIONS.items() if version >= first)


def every_direction(index: int) -> tuple[str, ...]:
    """All words for the way to the target (0) or the other one (1), the newest first."""
    return tuple(names[index] for names in _DIRECTIONS.values())


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise Unreadable(f"it is no JSON: {error}") from error


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value


def _read(kind: Any, raw: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        if raw is None:
            return None
        (kind,) = (each for each in get_args(kind) if each is not type(None))
    if get_origin(kind) is tuple:
        members = get_args(kind)
        if members[1:] == (...,):
            return tuple(_read(members[0], each) for each in raw)
        return tuple(_read(member, each) for member, each in zip(members, raw, strict=False))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(raw)
    if dataclasses.is_dataclass(kind):
        return _record(kind, [field.name for field in dataclasses.fields(kind)], raw)
    if hasattr(kind, "_fields"):
        return _record(kind, list(kind._fields), raw)
    return raw


def _record(kind: Any, names: list[str], raw: Any) -> Any:
    if isinstance(raw, list):  # version 0 wrote named tuples by position
        raw = dict(zip(names, raw, strict=False))
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], raw[name]) for name in names if name in raw})
