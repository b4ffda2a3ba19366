"""Claims: who asks within the tenant, for policies that read `request.jwt.claims`. Pure.

They narrow what a scope sees, and can't widen it: the tenant policy and the guard don't read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from tenantry.errors import InvalidClaims

#: The setting that gets them: where PostgREST and Supabase put them, so that `auth.jwt()` works as it is.
SETTING: Final = "request.jwt.claims"

#: Bytes of the JSON at most. It is sent with every opening of such a scope.
MOST_BYTES: Final = 8192

#: How deep objects and lists may stand in each other.
DEEPEST: Final = 16


def encoded(claims: Mapping[str, Any]) -> str:
    """The claims as JSON that `::jsonb` accepts.

    Raises:
        InvalidClaims: they are no JSON object of texts, numbers, truth values, lists and objects, or too large.
    """
    if not isinstance(claims, Mapping):
        raise InvalidClaims(f'claims are a mapping, such as {{"sub": …}}; got a {type(claims).__name__}')
    plain = _plain(claims, "claims", 0)
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidClaims("claims hold a text that is no Unicode (half of a surrogate pair)") from None
    except ValueError:  # NaN and the infinities, and whole numbers that Python does not print
        raise InvalidClaims(
            "claims hold a number that JSON can't write (NaN, an infinity, too many digits)"
        ) from None
    if size > MOST_BYTES:
        raise InvalidClaims(
            f"claims take {size} bytes as JSON, and may take {MOST_BYTES}: pass those that policies read"
        )
    return text


def _plain(value: Any, path: str, depth: int) -> Any:
    """The value, of types that JSON knows. `path` says where it stands."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        if "\0" in value:
            raise InvalidClaims(f"{path} holds a NUL character, which PostgreSQL's texts can't")
        return value
    if depth >= DEEPEST:
        raise InvalidClaims(f"claims are nested more than {DEEPEST} deep")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise InvalidClaims(f"{path} has a key that is a {type(key).__name__}: keys are texts")
            _plain(key, f"a key of {path}", depth)
        return {key: _plain(each, f"{path}.{key[:40]}", depth + 1) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each, f"{path}[{number}]", depth + 1) for number, each in enumerate(value)]
    raise InvalidClaims(f"{path} is a {type(value).__name__}, which JSON doesn't have: pass its text")
