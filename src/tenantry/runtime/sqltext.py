"""Names and values as SQL text."""

from __future__ import annotations

import re

_NEEDS_ESCAPE = re.compile(r"[^ -&(-\[\]-~]")


def identifier(name: str) -> str:
    """Quote `name` as an SQL identifier, always."""
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """Quote a schema-qualified name."""
    return f"{identifier(schema)}.{identifier(name)}"


def literal(text: str) -> str:
    """Quote `text` as an SQL string literal: the only way a value gets into a statement's text.

    The result is pure ASCII and means the same under every `standard_conforming_strings`,
    `backslash_quote` and `client_encoding`: whatever is not a plain printable ASCII character is written
    as an escape of an E'' string (PostgreSQL documentation, "String Constants with C-Style Escapes").
    `text` must be free of NUL and lone surrogates, as validated ids are.
    """
    if _NEEDS_ESCAPE.search(text) is None:
        return f"'{text}'"
    return "E'" + _NEEDS_ESCAPE.sub(_escape, text) + "'"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
