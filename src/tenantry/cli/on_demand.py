"""The application's root: it knows its commands by their names, and imports the one that is called.

All of them together import all of tenantry, which takes longer than most commands do.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer.main
from typer.core import TyperCommand, TyperGroup

from tenantry.cli import COMMANDS
from tenantry.cli.command import root
from tenantry.runtime.ctrl_c import ends_at_once


class OnDemand(TyperGroup):
    """A group of stand-ins, which have what `--help` shows of them."""

    # Mutable state: `commands`, in which a module's own take the place of their stand-ins when one is called.

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands.update({name: TyperCommand(name, help=text) for name, (_, text) in COMMANDS.items()})
        self._imported: set[str] = set()

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """See `TyperGroup.resolve_command`."""
        module, _ = COMMANDS.get(args[0], (None, ""))
        if module is not None and module not in self._imported:
            self.commands.update(_commands_of(module))
            self._imported.add(module)
        return super().resolve_command(ctx, args)


def _commands_of(module: str) -> dict[str, Any]:
    app = root()
    with ends_at_once():
        import_module(f"tenantry.cli.{module}").register(app)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    return dict(group.commands)
