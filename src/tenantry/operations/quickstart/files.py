"""The files of a quickstart as text, and what to do with them. Pure, but for the dice."""

from __future__ import annotations

import json
import re
import secrets
import shlex
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.parse import quote, urlsplit, urlunsplit

from tenantry.errors import OperationRefused
from tenantry.ids import IdType
from tenantry.operations.quickstart.proposal import Proposal
from tenantry.runtime.sqltext import identifier, literal

#: What `tenantry` commands and the endpoint read.
ENVIRONMENT: Final = "tenantry.env"
ROLES: Final = "roles.sql"
CONFIG: Final = "config/tenantry.yaml"
#: Where roles.sql is run: by the owner, or by somebody who may do more. Unset, psql would run it somewhere else.
ADDRESS: Final = "${TENANTRY_SHARED_OPERATOR_DSN:?}"
OTHER_ADDRESS: Final = "${SUPERUSER_DSN:?}"
ENDPOINT: Final = "app.py"
TEST: Final = "test_tenants.py"

#: Bytes of an identifier.
_NAME_BYTES: Final = 63
#: What YAML takes for something else than text.
_NO_NAMES: Final = frozenset({"yes", "no", "on", "off", "true", "false", "null", "y", "n"})
_BYPASS: Final = (
    "-- Once the tables are protected, their owner sees rows only because it bypasses row-level security: your\n"
    "-- migrations, and code that is not on the router yet.\nALTER ROLE {owner} BYPASSRLS;\n"
)
_CLOSED: Final = (
    "-- Names in public could shadow your tables' and functions'.\n"
    "GRANT CREATE ON SCHEMA public TO {owner};\nREVOKE CREATE ON SCHEMA public FROM PUBLIC;\n"
)
_PARSE: Final = {IdType.UUID: "uuid.UUID", IdType.BIGINT: "int", IdType.TEXT: "str"}


class File(NamedTuple):
    """One file."""

    path: str
    """Below the folder."""
    what: str
    text: str
    private: bool = False
    """Holds secrets: for its owner's eyes."""


class NextStep(NamedTuple):
    """What to do next."""

    command: str
    """For a POSIX shell in the folder."""
    why: str


class Roles(NamedTuple):
    """Names of the roles that roles.sql makes."""

    app: str
    control: str


class Owner(NamedTuple):
    """The role that owns the tables, which becomes the operators'."""

    name: str
    bypasses: bool
    """Row-level security does not hold it. Else it would see no rows of tenant tables once they are protected."""
    makes_roles: bool
    """It may run roles.sql itself."""

    @property
    def able(self) -> bool:
        """Nobody else is needed."""
        return self.bypasses and self.makes_roles


def roles_named(prefix: str) -> Roles:
    """The names of a product's roles.

    Raises:
        OperationRefused: PostgreSQL would cut them short.
    """
    roles = Roles(f"{prefix}_app", f"{prefix}_control")
    if not prefix or any(len(name.encode()) > _NAME_BYTES for name in roles):
        raise OperationRefused(f"{roles.control!r} is no role's name: choose a shorter one by --prefix")
    return roles


def files_of(
    proposal: Proposal, *, database: str, dsn: str, owner: Owner, roles: Roles, open_schema: bool
) -> tuple[File, ...]:
    """Every file.

    Args:
        database: its name on the server.
        dsn: of the owner.
        open_schema: everybody may make tables in the schema public.
    """
    words = {
        "database": "".join(c if c.isprintable() else "?" for c in database),
        "database_sql": identifier(database),
        "owner_sql": identifier(owner.name),
        "by": ADDRESS if owner.able else OTHER_ADDRESS,
        "bypass_sql": "" if owner.bypasses else _BYPASS.format(owner=identifier(owner.name)),
        "app_sql": identifier(roles.app),
        "app_text": literal(roles.app),
        "create_app": literal(f"CREATE ROLE {identifier(roles.app)} LOGIN"),
        "control_sql": identifier(roles.control),
        "control_text": literal(roles.control),
        "create_control": literal(f"CREATE ROLE {identifier(roles.control)} LOGIN"),
        "schema_sql": (_CLOSED.format(owner=identifier(owner.name)) if open_schema else "")
        + "".join(
            f"GRANT SELECT ON {one.sql} TO {identifier(roles.app)};  -- every tenant reads it\n"
            for one in proposal.reference
        ),
        "column_yaml": _yaml(proposal.tenancy.column),
        "type": proposal.tenancy.id_type.value,
        "setting": proposal.tenancy.setting,
        "overrides": _overrides(proposal),
        "path": path_of(proposal),
        "function": re.sub(r"\W", "_", f"read_{proposal.shown.name}"),
        "table": _python(proposal.shown.sql),
        "shown": _python(proposal.shown.key),
        "tenant_column": _python(identifier(proposal.shown_column)),
        "tenant_key": repr(proposal.shown_column),
        "parse": _PARSE[proposal.tenancy.id_type],
        "imports": "import uuid\n" if proposal.tenancy.id_type is IdType.UUID else "",
    }
    return (
        File(
            ENVIRONMENT, "addresses, passwords and the key of the tokens", _environment(dsn, roles), private=True
        ),
        File(ROLES, "the roles of the scopes and of the directory", _filled("roles.sql", words)),
        File(CONFIG, "tenantry's configuration", _filled("tenantry.yaml", words)),
        File(ENDPOINT, f"an endpoint that reads {proposal.shown.key}", _filled("app.py.txt", words)),
        File(TEST, "the first test", _filled("test_tenants.py.txt", words)),
    )


def steps_of(proposal: Proposal, owner: Owner) -> tuple[NextStep, ...]:
    """What to do next, in order."""
    pending = ", ".join(item.object for item in proposal.pending)
    plan = "look at what will be changed in your schema (it exits with 1: there is something to do)"
    if pending:
        plan += f"; {pending} lack the tenant column, and its decisions print the SQL"
    return (
        NextStep(f"set -a; . ./{ENVIRONMENT}; set +a", "the files read the environment"),
        NextStep(
            f'psql "{ADDRESS if owner.able else OTHER_ADDRESS}" -v ON_ERROR_STOP=1 -f {ROLES}',
            "make the roles; as a role that may make roles"
            if owner.able
            else f"make the roles; SUPERUSER_DSN is this database's address as a superuser, because {owner.name} "
            "may not make roles that bypass row-level security",
        ),
        NextStep("tenantry init", "install the schema tenantry"),
        NextStep("tenantry rls plan --foreign-keys", plan),
        NextStep("tenantry rls apply --foreign-keys --yes", "change it, in steps that do not block"),
        NextStep(
            f"tenantry tenants import --from {shlex.quote(proposal.ids_from)}", "adopt the tenants that you have"
        ),
        NextStep(f"python -m pytest {TEST}", "attack your tables, and ask the endpoint as two tenants"),
        NextStep("uvicorn app:app --port 8000 &", "start the endpoint"),
        NextStep(
            "TENANT=$(tenantry tenants list --json | python -c "
            "'import json, sys; print(json.load(sys.stdin)[0][\"id\"])')",
            "one of your tenants",
        ),
        NextStep(
            f'curl -s -H "Authorization: Bearer $(python {ENDPOINT} "$TENANT")" '
            f"--retry 20 --retry-delay 1 --retry-connrefused http://127.0.0.1:8000{path_of(proposal)}",
            "the first request: its rows, though the query has no WHERE",
        ),
    )


def path_of(proposal: Proposal) -> str:
    """The endpoint's path."""
    return "/" + (re.sub(r"[^a-z0-9]+", "-", proposal.shown.name.lower()).strip("-") or "rows")


def with_role(dsn: str, role: str, password: str) -> str:
    """The DSN of another role on the same database."""
    parts = urlsplit(dsn)
    place = f"{quote(role, safe='')}:{quote(password, safe='')}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=place))


def _environment(dsn: str, roles: Roles) -> str:
    app, control, key = (secrets.token_urlsafe(32) for _ in range(3))
    values = {
        "TENANTRY_SHARED_DSN": with_role(dsn, roles.app, app),
        "TENANTRY_CONTROL_DSN": with_role(dsn, roles.control, control),
        "TENANTRY_SHARED_OPERATOR_DSN": dsn,
        "APP_PASSWORD": app,
        "CONTROL_PASSWORD": control,
        "JWT_KEY": key,
    }
    lines = "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items())
    return f"# Secrets: keep this file out of version control. Read by: set -a; . ./{ENVIRONMENT}; set +a\n{lines}"


def _overrides(proposal: Proposal) -> str:
    said = proposal.tenancy.tables
    lines = "".join(f"    {_yaml(table)}: {_yaml(what)}\n" for table, what in sorted(said.items()))
    return f"  tables:                         # exceptions, by schema.table\n{lines}" if said else ""


def _yaml(text: str) -> str:
    """A scalar; quoted unless it is a plain name."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", text) and text.lower() not in _NO_NAMES:
        return text
    return json.dumps(text, ensure_ascii=False)


def _python(sql: str) -> str:
    """SQL as part of a Python string in double quotes."""
    return json.dumps(sql, ensure_ascii=False)[1:-1]


def _filled(template: str, words: dict[str, str]) -> str:
    text = files("tenantry.operations.quickstart").joinpath("templates", template).read_text(encoding="utf-8")
    return re.sub(r"@(\w+)@", lambda found: words[found[1]], text)
