"""What a database has beside its tables, at both ends: what a product finds there besides its rows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from tenantry.runtime.sqltext import identifier, literal

#: Settings that are lists of names: their stored value is quoted already (pg_dump, variable_is_guc_list_quote).
_LISTS: Final = ("search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries")
#: Settings under which the same statement means something else; a product's own, which have a dot, do too.
_MEANING: Final = frozenset(
    [
        "search_path",
        "default_transaction_isolation",
        "default_transaction_read_only",
        "default_transaction_deferrable",
        "standard_conforming_strings",
        "datestyle",
        "intervalstyle",
        "timezone",
        "lc_messages",
        "lc_monetary",
        "lc_numeric",
        "lc_time",
        "bytea_output",
        "xmlbinary",
        "xmloption",
        "backslash_quote",
        "transform_null_equals",
        "array_nulls",
        "row_security",
        "role",
        "session_replication_role",
        "default_text_search_config",
        "default_tablespace",
        "client_encoding",
        "extra_float_digits",
    ]
)


class Surrounding(NamedTuple):
    """One thing beside the tables: a line of sql/move/surroundings.sql."""

    kind: str
    name: str
    value: str
    make: str
    """The statement that makes it; "": there is none, or a dump of the schema has it."""


class RoleSetting(NamedTuple):
    """A setting that sessions of a role begin with."""

    role: str
    """"": every role's."""
    name: str
    value: str

    @property
    def changes_meaning(self) -> bool:
        """True if statements may mean something else, or fail, without it; others cost time at most."""
        return self.name.lower() in _MEANING or "." in self.name

    def statement(self, database: str) -> str:
        """Makes it, for this role in this database."""
        return setting_sql(database, self.role, self.name, self.value)


def setting_sql(database: str, role: str, name: str, value: str) -> str:
    """`ALTER ROLE … IN DATABASE … SET`; without a role, `ALTER DATABASE … SET`."""
    who = (
        f"ROLE {identifier(role)} IN DATABASE {identifier(database)}"
        if role
        else f"DATABASE {identifier(database)}"
    )
    key = ".".join(part if part.isidentifier() else identifier(part) for part in name.split("."))
    return f"ALTER {who} SET {key} TO {value if name.lower() in _LISTS and value else literal(value)}"


def settings(lines: Iterable[Surrounding], roles: Iterable[str]) -> dict[str, dict[str, str]]:
    """What sessions of each role begin with, by setting ("" for a role without settings of its own).

    A role's in the database goes before the role's, that before the database's, that before everybody's
    (PostgreSQL, process_settings).
    """
    told: dict[str, dict[str, str]] = {}
    for line in lines:
        if line.kind == "setting":
            name, _, value = line.value.partition("=")
            told.setdefault(line.name, {})[name] = value
    return {
        role: {
            **told.get(" ", {}),
            **told.get("here ", {}),
            **told.get(f" {role}", {}),
            **told.get(f"here {role}", {}),
        }
        for role in roles
    }


def roles_with_settings(lines: Iterable[Surrounding]) -> set[str]:
    """Roles that have settings of their own here."""
    return {line.name.partition(" ")[2] for line in lines if line.kind == "setting"} - {""}


def missing_settings(
    ours: Sequence[Surrounding], theirs: Sequence[Surrounding], roles: Iterable[str], *, but: str
) -> Iterator[RoleSetting]:
    """Settings of these roles' sessions that they lack at the target. `but`: the tenant's, which is nobody's."""
    asked = sorted(roles)
    here, there = settings(ours, asked), settings(theirs, asked)
    for role in asked:
        for name, value in sorted(here[role].items()):
            if name != but and there[role].get(name) != value:
                yield RoleSetting(role, name, value)


def of_kind(lines: Iterable[Surrounding], kind: str) -> Mapping[str, Surrounding]:
    """The lines of one kind, by name."""
    return {line.name: line for line in lines if line.kind == kind}
