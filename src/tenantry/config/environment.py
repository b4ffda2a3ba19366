"""`${NAME}` and `${NAME:-default}`: what the environment says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from tenantry.errors import ConfigError

#: A shell's way, which would be taken for the value.
_BARE: Final = re.compile(r"\$[A-Za-z_][A-Za-z0-9_]*")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


def references(data: dict[Any, Any]) -> dict[str, str]:
    """Which environment variable each database's DSN is, where it is one and nothing else; or which server's."""
    found = {}
    databases = data.get("databases")
    for name, section in databases.items() if isinstance(databases, dict) else ():
        written = section.get("dsn") if isinstance(section, dict) else None
        match = _VARIABLE.fullmatch(written) if isinstance(written, str) else None
        server = section.get("server") if isinstance(section, dict) and written is None else None
        found[str(name)] = f"server:{server}" if server else f"env:{match[1]}" if match else "config"
    return found


def fill(value: Any, env: Mapping[str, str], key: str, source: str | None) -> Any:
    """The value with every variable in it replaced, however deep.

    Args:
        key: where in the configuration the value stands, for the error.

    Raises:
        ConfigError: a variable is not set and has no default.
    """
    if isinstance(value, dict):
        return {
            name: fill(inner, env, f"{key}.{name}" if key else str(name), source) for name, inner in value.items()
        }
    if isinstance(value, list):
        return [fill(inner, env, f"{key}[{n}]", source) for n, inner in enumerate(value)]
    if not isinstance(value, str):
        return value

    def read(match: re.Match[str]) -> str:
        found = env.get(match[1])
        if found:
            return found
        if match[2] is not None:
            return match[2]
        raise ConfigError(
            f"the environment variable {match[1]} is not set; set it, or write ${{{match[1]}:-default}}",
            source=source,
            key=key,
        )

    filled = _VARIABLE.sub(read, value)
    plain = "${" in _VARIABLE.sub("", value) and not key.endswith(".command")  # which has the shell's own
    if plain or (key.endswith(("dsn", ".secret")) and _BARE.fullmatch(value)):
        raise ConfigError(
            "a variable is written ${NAME}, or ${NAME:-default}; a plain ${ is not to be had",
            source=source,
            key=key,
        )
    return filled
