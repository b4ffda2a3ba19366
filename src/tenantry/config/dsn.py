"""DSNs: where a reference to one leads, whether a text is one, and which role it logs in as."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urlsplit

from tenantry.errors import ConfigError, DsnUnreadable

#: Bytes of a DSN file that are read; more is no DSN.
LONGEST: Final = 65_536
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(:\d{1,5})?")


class _Parameter(NamedTuple):
    values: str
    """A regular expression of those that can be had."""
    otherwise: str
    """What is said of any other."""


def _one_of(*values: str) -> _Parameter:
    return _Parameter("|".join(map(re.escape, values)), f"it is one of {', '.join(values)}")


def _only(values: str, why: str) -> _Parameter:
    return _Parameter(values, f"the driver {why}; take it out")


_ANY: Final = _Parameter("(?s).*", "")
_TLS: Final = _one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")
#: Parameters of libpq's that the driver understands, or that are settings which any server takes at the start.
_PASSED: Final = {
    **dict.fromkeys(("host", "dbname", "database", "user", "password", "passfile", "service", "krbsrvname"), _ANY),
    **dict.fromkeys(("sslcert", "sslkey", "sslrootcert", "sslcrl", "sslpassword"), _ANY),
    **dict.fromkeys(("application_name", "options"), _ANY),
    "port": _Parameter(r"\d{1,5}(,\d{1,5})*", "it is a number, or one for each host"),
    "sslmode": _one_of("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": _one_of("postgres", "direct"),
    "ssl_min_protocol_version": _TLS,
    "ssl_max_protocol_version": _TLS,
    "target_session_attrs": _one_of("any", "primary", "standby", "prefer-standby", "read-write", "read-only"),
    "gsslib": _one_of("gssapi", "sspi"),
}
_COUNT: Final = _Parameter(r"-?\d{1,9}", "it is a whole number")
#: Parameters of libpq's that change nothing here, in the values that ask for nothing the driver lacks. Any other
#: value is refused: who demands channel binding must not believe that there is some.
_DROPPED: Final = {
    **dict.fromkeys(("connect_timeout", "keepalives", "keepalives_idle", "keepalives_interval"), _COUNT),
    **dict.fromkeys(("keepalives_count", "tcp_user_timeout", "sslcompression", "sslsni"), _COUNT),
    "fallback_application_name": _ANY,
    "client_encoding": _only("(?i)auto|utf-?8|unicode", "speaks UTF-8 only"),
    "channel_binding": _Parameter(
        "disable|prefer",
        "the driver has no channel binding; take it out, and use sslmode=verify-full against a server in between",
    ),
    "gssencmode": _only("disable|prefer", "has no GSS encryption"),
    "sslcertmode": _only("disable|allow", "can't demand a certificate to be asked for"),
    "load_balance_hosts": _only("disable", "tries hosts in their order"),
    "replication": _only("false|off|no|0", "makes connections for statements only"),
    "requiressl": _Parameter("0", "write sslmode=require"),
}
_FIX: Final = (
    "write postgresql://user:password@host:5432/database, reserved characters in a password as %40 and so on"
)


def read_reference(reference: str, *, database: str, environment: Mapping[str, str] | None = None) -> str:
    """The DSN that "env:NAME" or "file:PATH" leads to now, on this machine.

    Args:
        reference: as the directory has it. Of "server:NAME" and "config" the configuration knows the DSN.
        database: its name, for the error.
        environment: what "env:" reads; None: the process's.

    Raises:
        DsnUnreadable: it leads nowhere here, or to something that is not a DSN.
    """
    scheme, _, target = reference.partition(":")
    if scheme == "env":
        dsn = (os.environ if environment is None else environment).get(target, "")
        if not dsn:
            raise DsnUnreadable(database, reference, "the environment variable is not set on this machine")
    elif scheme == "file":
        dsn = _read_file(database, reference, Path(target))
    elif scheme == "server":
        raise DsnUnreadable(database, reference, "this configuration has no such server")
    else:
        raise DsnUnreadable(database, reference, "only another process's configuration knows its DSN")
    try:
        return driver_dsn(dsn)
    except ValueError as error:
        raise DsnUnreadable(database, reference, str(error)) from None


def _read_file(database: str, reference: str, path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would hold the event loop up
            raise DsnUnreadable(database, reference, "not a regular file")
        with path.open("rb") as file:
            written = file.read(LONGEST + 1)
        text = written.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise DsnUnreadable(database, reference, "the file is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        raise DsnUnreadable(database, reference, f"the file can't be read: {why}") from None
    if not text or len(written) > LONGEST:
        raise DsnUnreadable(database, reference, f"the file is {'too long' if text else 'empty'}")
    return text


def check_dsn(dsn: str, *, key: str, source: str | None = None) -> str:
    """The DSN as the driver gets it, when it is one that the driver will read as it was meant: see `driver_dsn`.

    Raises:
        ConfigError: it isn't; no part of the DSN is repeated that may be a secret.
    """
    try:
        return driver_dsn(dsn)
    except ValueError as error:
        raise ConfigError(str(error), source=source, key=key) from None


def driver_dsn(dsn: str) -> str:
    """A checked connection URL, without libpq's parameters that the driver has no use for.

    Raises:
        ValueError: the driver would read it otherwise than it is meant, or take a parameter for a setting of the
            server's; in words that hold nothing of the DSN but a parameter's name.
    """
    dsn = dsn.strip(" ")
    parts = _split(dsn)
    kept = []
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        # Without an @, what looks like host, port and parameters may be a role and pieces of its password.
        _check_parameter(name, value, told="@" in parts.netloc or ":" not in parts.netloc)
        if name in _PASSED and value:
            kept.append((name, value))
    query = urlencode(kept, quote_via=quote)
    return parts._replace(query=query).geturl() if query != parts.query else dsn


def _split(dsn: str) -> SplitResult:
    no_url = f"not a connection URL; {_FIX}"
    try:
        parts = urlsplit(dsn)
    except ValueError:
        raise ValueError(no_url) from None
    hosts = parts.netloc.rpartition("@")[2].split(",")
    if parts.scheme not in ("postgresql", "postgres") or not all(_is_host(host) for host in hosts):
        raise ValueError(no_url)
    # An @, a slash or a question mark in the password has cut it in two: the driver takes its rest for the host,
    # the database or a parameter, and errors would show it.
    if parts.netloc.count("@") > 1 or "@" in parts.path or "@" in parts.query:
        raise ValueError(no_url)
    if "#" in dsn:
        raise ValueError(f"a # cuts the connection URL short; {_FIX}")
    if not dsn.isprintable():  # urlsplit drops line ends and tabs without a word
        raise ValueError(f"it has a line end, a tab or a control character in it; {_FIX}")
    if parts.query and not all(
        name and found for name, found, _ in (one.partition("=") for one in parts.query.split("&"))
    ):
        raise ValueError("what stands after ? is a list name=value&name=value")
    return parts


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text)
    return found is not None and (found[2] is None or 0 < int(found[2][1:]) <= 65_535)


def _check_parameter(name: str, value: str, *, told: bool) -> None:
    known = _PASSED.get(name) or _DROPPED.get(name)
    if known is None:
        near = get_close_matches(name, [*_PASSED, *_DROPPED], n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        plain = told and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]{0,40}", name)
        what = f"the parameter {name}" if plain else "a parameter"
        raise ValueError(f"{what} is none of a connection URL{hint}. Settings of the server's go into `settings`")
    if value and re.fullmatch(known.values, value) is None:
        raise ValueError(f"{name}: {known.otherwise}")


def role_of(dsn: str) -> str:
    """The role that a DSN logs in as, by libpq's rules."""
    parts = urlsplit(dsn)
    name = unquote(parts.netloc.rpartition("@")[0].partition(":")[0])
    return name or dict(parse_qsl(parts.query)).get("user") or os.environ.get("PGUSER") or getpass.getuser()
