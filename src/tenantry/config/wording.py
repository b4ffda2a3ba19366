"""The mistakes of a configuration in words: which key, and what to write. What was written may be a secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

#: pydantic's kinds of mistakes, with what to write instead.
_WORDS: Final = {
    "missing": "is missing; it has no default",
    "invalid_key": "a name must be text; put it in quotes",
    "model_type": "must be a mapping: its keys stand below it, indented",
    "model_attributes_type": "must be a mapping: its keys stand below it, indented",
    "dict_type": "must be a mapping: its keys stand below it, indented",
    "string_type": "must be text; put a number, a date, on and off into quotes",
    "string_too_short": "must not be empty",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number; a share is written 0.40",
    "float_parsing": "must be a number; a share is written 0.40",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}; a share is written 0.40",
    "less_than_equal": "must be {le} or less",
    "string_too_long": "must have {max_length} characters at most",
}


def first_mistake(findings: list[Any]) -> Any:
    """The finding to tell: a key that there is not often is the one that is missing, misspelt."""
    return next((finding for finding in findings if finding["type"] == "extra_forbidden"), findings[0])


def words(finding: Mapping[str, Any], *, empty: bool) -> str:
    """What is wrong with a value, and what to write. `empty`: nothing is written there."""
    if empty and finding["type"] != "missing":
        return "is empty; write its value, or take it out"
    template = _WORDS.get(finding["type"])
    if template is None:
        return str(finding["msg"]).removeprefix("Value error, ")
    return template.format_map({key: _plain(value) for key, value in finding.get("ctx", {}).items()})


def _plain(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value
