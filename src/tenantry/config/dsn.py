"""DSNs: where a reference to one leads, whether a text is one, and which role it logs in as."""

from __future__ import annotations

import getpass
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from tenantry.errors import ConfigError, DsnUnreadable

#: Bytes of a DSN file that are read; more is no DSN.
LONGEST: Final = 65_536
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]*\]|[^:\[\]]*)(:\d{1,5})?")
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
        check_dsn(dsn, key=reference)
    except ConfigError as error:
        raise DsnUnreadable(database, reference, str(error).removeprefix(f"{reference}: ")) from None
    return dsn


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


def check_dsn(dsn: str, *, key: str, source: str | None = None) -> None:
    """See that a DSN is a connection URL that the driver will read as it was meant.

    Raises:
        ConfigError: it isn't; the DSN is not repeated.
    """
    try:
        parts = urlsplit(dsn)
        hosts = parts.netloc.rpartition("@")[2].split(",")
    except ValueError:
        raise ConfigError(f"not a connection URL; {_FIX}", source=source, key=key) from None
    if parts.scheme not in ("postgresql", "postgres") or not all(_HOST.fullmatch(host) for host in hosts):
        raise ConfigError(f"not a connection URL; {_FIX}", source=source, key=key)
    if "@" in parts.path:  # a slash in the password has cut it in two
        raise ConfigError(f"not a connection URL; {_FIX}", source=source, key=key)
    if parts.fragment:
        raise ConfigError(f"a # cuts the connection URL short; {_FIX}", source=source, key=key)


def role_of(dsn: str) -> str:
    """The role that a DSN logs in as, by libpq's rules."""
    parts = urlsplit(dsn)
    name = unquote(parts.netloc.rpartition("@")[0].partition(":")[0])
    return name or dict(parse_qsl(parts.query)).get("user") or os.environ.get("PGUSER") or getpass.getuser()
