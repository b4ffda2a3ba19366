"""The ways past row-level security, in words, with the SQL that closes each. Pure.

The router refuses a role for them, and the audit finds them: both say the same of the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from tenantry.catalog.values import PUBLIC, Way
from tenantry.runtime.sqltext import identifier, literal

#: Ways that step past the policies at once. The others are the audit's matter: `shadow` and
#: `database` prepare it, `directory` reaches the control tables (see docs/how-to/roles.md), not the rows.
PAST: Final = frozenset(
    {
        "superuser",
        "bypassrls",
        "replication",
        "createrole",
        "files",
        "everything",
        "secret",
        "placement",
        "ours",
        "statistics",
        "function",
        "preset",
    }
)
_HAS: Final = {
    "superuser": ("is a superuser", "NOSUPERUSER", "bypasses"),
    "bypassrls": ("has BYPASSRLS", "NOBYPASSRLS", "bypasses"),
    "replication": ("has REPLICATION, which streams whole databases", "NOREPLICATION", "has REPLICATION"),
    "createrole": ("has CREATEROLE, which grants other roles", "NOCREATEROLE", "has CREATEROLE"),
    "files": ("", "", "reads or writes the server's files, or runs programs"),
    "everything": ("", "", "reads or writes every table, those of tenantry and of the server too"),
}
_WHY: Final = {
    "secret": "from which proofs are made",
    "placement": "which says who is let in",
    "statistics": "which no policy guards",
    "function": "which reaches past every policy",
    "directory": "from where every tenant is listed, moved and suspended",
    "ours": "on which the policies lean",
    "shadow": "where names are looked up: what it makes there runs in the place of others",
    "database": "so schemas of its own may come to stand before others",
}


def counts(way: Way, setting: str) -> bool:
    """False for a preset of a setting that is not the tenants', nor tenantry's own."""
    name = way.object.lower()
    return way.way != "preset" or name == setting.lower() or name.startswith("tenantry.")


def problem(way: Way) -> str:
    """What is wrong, as the rest of a sentence about the role."""
    if way.way in _HAS:
        has, _, group = _HAS[way.way]
        return has if way.through is None else f"is a member of {way.object}, which {group}"
    if way.way == "preset":
        return f"has connections that begin with {way.object} set, without any tenant bound"
    by = "" if way.holder == way.role else f", as {'everybody' if way.holder == PUBLIC else way.holder}"
    if way.way == "directory":
        first, *others = way.object.split(", ")
        rest = f" and {len(others)} more control tables" if others else ""
        return f"may {way.privilege} {first}{rest}{by}, {_WHY[way.way]}"
    where = {"CREATE": f"in {_on(way).lower()}", "EXECUTE": ""}.get(way.privilege, "")
    verb = "owns" if _owned(way) else f"may {way.privilege}"
    return f"{verb} {where}{way.object}{by}, {_WHY[way.way]}"


def fix(way: Way) -> str:
    """The statement that closes the way, for whoever administers the database."""
    role = identifier(way.role)
    if way.way in _HAS:
        if way.through is None:
            return f"ALTER ROLE {role} {_HAS[way.way][1]}"
        return f"REVOKE {identifier(way.through)} FROM {role}"
    if (
        way.way == "directory" and way.through is not None
    ):  # the holder may be the routers' control role: it keeps them
        return f"REVOKE {identifier(way.through)} FROM {role}"
    if way.way == "preset":
        name = ".".join(identifier(part) for part in way.object.split("."))
        return _RESET[way.privilege](role, identifier(way.database)) + f" RESET {name}"
    if _owned(way):
        # An owner's own grants go with the ownership.
        again = {
            "SCHEMA": f"; GRANT USAGE ON SCHEMA {way.object} TO {role}",
            "FUNCTION": f"; SELECT tenantry.grant_application({literal(way.role)})",
            "PROCEDURE": f"; SELECT tenantry.grant_application({literal(way.role)})",
        }
        return f"ALTER {way.privilege} {way.object} OWNER TO CURRENT_USER" + again.get(way.privilege, "")
    holder = "PUBLIC" if way.holder == PUBLIC else identifier(way.holder)
    return f"REVOKE {way.privilege} ON {_on(way)}{way.object} FROM {holder}"


def of_kinds(ways: Iterable[Way], *kinds: str) -> dict[str, Way]:
    """Those of some kinds, by the statement that closes each: what one statement closes is said once."""
    found: dict[str, Way] = {}
    for way in ways:
        if way.way in kinds:
            found.setdefault(fix(way), way)
    return found


_RESET: Final[dict[str, Callable[[str, str], str]]] = {
    "ALL": lambda role, database: "ALTER ROLE ALL",
    "DATABASE": lambda role, database: f"ALTER DATABASE {database}",
    "ROLE": lambda role, database: f"ALTER ROLE {role}",
    "ROLE IN DATABASE": lambda role, database: f"ALTER ROLE {role} IN DATABASE {database}",
}
_KINDS: Final = ("SCHEMA", "TABLE", "FUNCTION", "PROCEDURE", "DATABASE")


def _owned(way: Way) -> bool:
    return way.privilege in _KINDS


def _on(way: Way) -> str:
    """The kind of object, as GRANT wants to be told."""
    if way.privilege == "EXECUTE":
        return "FUNCTION "
    if way.privilege == "CREATE":
        return "DATABASE " if way.way == "database" else "SCHEMA "
    return ""
