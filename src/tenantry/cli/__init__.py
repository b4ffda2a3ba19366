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
2. Add the module's name to COMMANDS below, at the place where `--help` shall show it.
3. Describe every command and option in docs/cli.md, and every error class in docs/errors.md:
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
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

#: The modules of this package that hold commands, in the order of `--help`.
COMMANDS: tuple[str, ...] = (
    "demo",
    "init",
    "apply",
    "check",
    "tenants",
    "databases",
    "rls",
    "usage",
    "moves",
    "backup",
    "serve",
)


def build() -> typer.Typer:
    """The whole application, for `main` and for those who check its documentation."""
    from importlib import import_module

    from tenantry.cli.command import root

    app = root()
    for name in COMMANDS:
        import_module(f"tenantry.cli.{name}").register(app)
    return app


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

    return execute(build(), arguments)
