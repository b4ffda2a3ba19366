"""What a database takes from the server that it is on."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from pydantic import SecretStr

from tenantry.errors import ConfigError

#: Keys of a database that can also be said once for all databases on a server.
DSNS: Final = ("dsn", "operator_dsn", "direct_dsn")
DEFAULTS: Final = ("pool", "statement_timeout", "settings", "autovacuum", "backup", "region", "tier")


def on_server(dsn: str, database: str) -> str:
    """The DSN of another database on the same server."""
    parts = urlsplit(dsn)
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query) if k not in ("dbname", "database")])
    return f"{parts.scheme}://{parts.netloc}/{quote(database, safe='')}" + (f"?{query}" if query else "")


def from_server(name: object, section: Any, servers: dict[Any, Any]) -> Any:
    """A database's section, completed by its server's; as it is if it names none. Neither is checked yet."""
    there = servers.get(section.get("server")) if isinstance(section, dict) else None
    if not isinstance(there, dict):
        return section
    dsns = {key: moved(there[key], str(name)) for key in DSNS if there.get(key) and "dsn" not in section}
    return {**{key: there[key] for key in DEFAULTS if key in there}, **dsns, **section}


def moved(dsn: Any, database: str) -> Any:
    """As `on_server`, for a DSN that may still be anything; a secret stays one."""
    if isinstance(dsn, SecretStr):
        return SecretStr(on_server(dsn.get_secret_value(), database))
    return on_server(dsn, database) if isinstance(dsn, str) else dsn


def check_servers(data: dict[Any, Any], source: str | None) -> None:
    """Before a database is said to lack the DSN that its server was to give."""
    servers, databases = data.get("servers") or {}, data.get("databases")
    for name, section in databases.items() if isinstance(databases, dict) else ():
        server = section.get("server") if isinstance(section, dict) else None
        if server is not None and server not in servers:
            known = ", ".join(map(str, servers)) or "none"
            raise ConfigError(
                f"{server!r} is not among servers: ({known})", source=source, key=f"databases.{name}.server"
            )
