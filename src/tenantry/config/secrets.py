"""Takes passwords out of whatever is about to be shown.

Our own errors never carry a DSN. This is for what others write: drivers, the operating system, PostgreSQL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

HIDDEN: Final = "***"
#: `scheme://user:password@` and `password=…`, wherever they stand: the net under the list of known secrets.
_USERINFO: Final = re.compile(r"\b(\w+://[^\s:/@]*):[^\s/]*@")
_KEYWORD: Final = re.compile(r"(?i)\b((?:ssl)?password\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&'\"]+)")
#: A shorter word would be hidden inside other words; the patterns above find it where it matters.
_SHORTEST: Final = 4


def of_dsn(dsn: str) -> set[str]:
    """Every form in which a DSN's secrets may turn up in a text, the DSN itself included."""
    found = {dsn}
    _, _, rest = dsn.partition("://")
    userinfo, at, _ = rest.rpartition("@")
    if at:
        found.add(userinfo.partition(":")[2])
    try:
        parts = urlsplit(dsn)
        found.update({parts.password or ""})
        found.update(value for key, value in parse_qsl(parts.query) if "password" in key)
    except ValueError:  # not a URL that can be read; what stands before the @ is known already
        pass
    found.update(match[2].strip("'") for match in _KEYWORD.finditer(dsn))
    # A password with a reserved character that was not encoded is torn apart by whoever parses the URL.
    torn = {piece for secret in tuple(found) if secret != dsn for piece in re.split(r"[/?#@:\[\]]", secret)}
    forms = {unquote(secret) for secret in found} | {quote(unquote(secret), safe="") for secret in found}
    return found | torn | forms | {quote_plus(unquote(secret)) for secret in found}


def scrub(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without the secrets, and without anything that looks like a password in a DSN."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, HIDDEN)
    return _KEYWORD.sub(rf"\g<1>{HIDDEN}", _USERINFO.sub(rf"\g<1>:{HIDDEN}@", text))
