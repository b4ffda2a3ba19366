"""The functions of a database as SQL: files of `functions/` with a few values filled in, each of them checked."""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from tenantry.ids import IdType
from tenantry.runtime.sqltext import literal

_PLACEHOLDER: Final = re.compile(r":'(database|setting|id_type)'|:(setting|type)\b")
#: A function of a file, with the comment above it. Each ends with its closing quote on a line of its own.
_FUNCTION: Final = re.compile(
    r"(?:^--[^\n]*\n)*^CREATE OR REPLACE (?:FUNCTION|PROCEDURE) tenantry\.(\w+)\(([^)]*)\).*?^\$\$;$",
    re.MULTILINE | re.DOTALL,
)
_SETTING: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)+")
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}")
#: pg_catalog knows bigint as int8.
_TYPES: Final = {IdType.UUID: "uuid", IdType.BIGINT: "int8", IdType.TEXT: "text"}


class Form(StrEnum):
    """Which functions a database has."""

    CONTROL = "control"
    PLAIN = "plain"
    HARDENED = "hardened"
    CITUS = "citus"


#: The files of each form; a function that stands in two of them is taken from the later one.
_FILES: Final = {
    Form.CONTROL: ("control",),
    Form.PLAIN: ("common", "plain"),
    Form.HARDENED: ("common", "hardened"),
    Form.CITUS: ("common", "plain", "citus"),
}
#: What is executed after the functions: triggers, and who may call what.
_AFTER: Final = {
    Form.CONTROL: ("control_triggers",),
    Form.PLAIN: ("data_triggers", "private"),
    Form.HARDENED: ("data_triggers", "private"),
    Form.CITUS: ("data_triggers", "private"),
}


class Identity(NamedTuple):
    """What the functions of a data database are filled in with."""

    database: str
    """Its name in the directory."""
    setting: str
    """The setting that policies read."""
    id_type: IdType


def functions(form: Form, identity: Identity | None = None) -> dict[str, str]:
    """Every function's statement by its signature, in the order in which they are applied.

    Raises:
        ValueError: the name or the setting can't stand in SQL; it says which.
    """
    values = {} if identity is None else _values(identity)
    found: dict[str, str] = {}
    for name in _FILES[form]:
        for match in _FUNCTION.finditer(_text(name)):
            found[f"{match[1]}({match[2]})"] = _PLACEHOLDER.sub(lambda m: values[m[0]], match[0])
    return found


def script(form: Form, identity: Identity | None = None) -> str:
    """All that is applied to a database of this form. Raises as `functions`."""
    return "\n\n".join([*functions(form, identity).values(), *(_text(name) for name in _AFTER[form])])


def checksum(form: Form, identity: Identity | None = None) -> str:
    """Of `script`, to tell whether a database has these functions: twelve hexadecimal digits."""
    return hashlib.sha256(script(form, identity).encode()).hexdigest()[:12]


def _values(identity: Identity) -> dict[str, str]:
    # The values stand inside dollar quotes, so a quoted literal alone would not keep one that ends them.
    if not _NAME.fullmatch(identity.database):
        raise ValueError(f"{identity.database!r} can't be a database's name: letters, digits, _ . - only")
    if not _SETTING.fullmatch(identity.setting):
        raise ValueError(f"{identity.setting!r} can't be a setting's name: it is like app.current_tenant")
    return {
        ":'database'": literal(identity.database),
        ":'setting'": literal(identity.setting),
        ":'id_type'": literal(identity.id_type.value),
        ":setting": identity.setting,
        ":type": _TYPES[identity.id_type],
    }


@cache
def _text(name: str) -> str:
    return files("tenantry.schema").joinpath("functions", f"{name}.sql").read_text(encoding="utf-8")
