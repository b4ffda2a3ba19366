"""The operator's command line: parse, call the library, render.

How to add a command group, say `tenantry moves …`:

1. Write `src/tenantry/cli/moves.py` with a function `register(root: typer.Typer) -> None`:

       app = group("moves", "The journal of moves.")        # tenantry.cli.command

       @command(app, "list")
       async def list_moves(session: Session, tenant: TenantOption = None) -> None:
           \"\"\"All moves, the newest first.\"\"\"              # becomes the --help text
           session.out.rows(COLUMNS, [row_of(move) for move in await session.ops.moves.list(tenant)])

       def register(root: typer.Typer) -> None:
           root.add_typer(app)

   A command that stands alone (`tenantry usage`) is registered on the root: `command(root, "usage")(usage)`.
2. Add its commands to COMMANDS below, at the place where `--help` shall show them.
3. Describe every command and option in docs/reference/cli.md, and every error class in docs/reference/errors.md:
   `python -m tools.check_docs` compares.

What `command` does: the first parameter is the `Session` (`session.ops`: the operations, opened when first used
and closed at the end; `session.out`); the others are typer's, `Annotated[…, typer.Option(…)]`; `--config` and
`--json` are added; async functions are run; errors are told in words and become exit codes (`cli.exit_codes`).
"Findings" or "no" is `raise typer.Exit(exit_codes.FINDINGS)` after the output. Nothing is ever printed but through
`session.out`: data by `rows`, `facts` and `tree`, prose by `say`, progress by `progress`, questions by `confirm`.
JSON keys are the columns' keys: once released they stay. A command decides nothing: what it does is an operation
(`tenantry.operations`), so that a product's own control plane can do it too.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import typer

#: What `tenantry --help` shows, in its order: a command or group, the module of this package that has it, and the
#: first sentences of its help. A module is imported when one of its commands is called.
COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "demo": ("demo", "Show the main job on embedded PostgreSQL servers: no set-up, nothing left behind."),
    "quickstart": (
        "quickstart",
        "Look at your product's database and write roles, a configuration, an endpoint and a test for it.",
    ),
    "init": ("init", "Install or upgrade the tenantry schema in the control and data databases."),
    "apply": (
        "apply",
        "Write the file's databases to the directory, where routers and other processes find them.",
    ),
    "check": (
        "check",
        "Look at the configuration, the databases, their roles, versions, schemas and clocks. Exit 1 on findings.",
    ),
    "candidates": (
        "usage",
        "What the rule says of everybody who is anywhere near it, why, and what to do next.",
    ),
    "balance": (
        "balance",
        "Move tenants so that no shared database carries much more than its part, as few as will do.",
    ),
    "top": (
        "usage",
        "Who is loading the servers now: sessions by tenant, what they wait for, "
        "and callers that wait in routers.",
    ),
    "promote": ("moves", "Move a tenant to a dedicated database while it works."),
    "demote": ("moves", "Move a tenant back to a shared database while it works."),
    "move": ("moves", "Move a tenant to any other database while it works."),
    "export": ("data", "Write all rows of a tenant, as of one moment, into a file. The tenant works meanwhile."),
    "import": ("data", "Bring an exported tenant in: all of its rows, in one transaction, or none. Repeatable."),
    "erase": (
        "data",
        "Delete a tenant's rows in every database. It is removed first; there is no way back but an export.",
    ),
    "backup": (
        "backup",
        "Run the configured command of every database whose last backup is older than its policy allows.",
    ),
    "serve": (
        "serve",
        "Serve the console for people, and /metrics and /healthz for programs, until it is stopped.",
    ),
    "tenants": ("tenants", "The tenants of the directory."),
    "databases": ("databases", "The databases of the directory."),
    "placements": ("placements", "Where tenants live, against what is said of regions, tiers and capacities."),
    "tokens": ("tokens", "Sync tokens of devices."),
    "rls": ("rls", "Row-level security: generated, audited and attacked."),
    "usage": ("usage", "Who uses how much: `usage`, or `usage TENANT`."),
    "moves": ("moves", "The journal of moves."),
    "migrate": ("migrate", "A command on every database, such as `migrate -- alembic upgrade head`."),
}


def build() -> typer.Typer:
    """The whole application, for those who check its documentation; `main` runs `start`."""
    from importlib import import_module

    from tenantry.cli.command import root

    app = root()
    for module in dict.fromkeys(module for module, _ in COMMANDS.values()):
        import_module(f"tenantry.cli.{module}").register(app)
    return app


def start() -> typer.Typer:
    """The application as `main` runs it: what it was not asked for is not imported."""
    from tenantry.cli.command import root
    from tenantry.cli.on_demand import OnDemand

    return root(OnDemand)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. What the program `tenantry` calls.

    Args:
        arguments: without the program's name; None: the process's.
    """
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # while the commands' modules are read: nothing has begun
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    try:
        import typer  # noqa: F401
    except ImportError:
        print("the command line needs more packages: pip install 'tenantry[cli]'", file=sys.stderr)
        return 2
    from tenantry.cli.command import execute

    return execute(start(), arguments)
