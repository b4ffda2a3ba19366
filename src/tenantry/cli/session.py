"""What a command needs: the configuration, the operations on it, and what to show."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path
from typing import Self

from tenantry.cli.render import Renderer
from tenantry.config import Config
from tenantry.operations import Operations


class Session:
    """One run of one command. An async context manager that closes what was opened."""

    # Mutable state: _operations, None until used.

    def __init__(self, path: Path, out: Renderer) -> None:
        self.path = path
        self.out = out
        self._operations: Operations | None = None

    @property
    def ops(self) -> Operations:
        """The operations on the file's databases, opened when first used.

        Raises:
            ConfigError: the file can't be used.
        """
        if self._operations is None:
            actor = f"{getpass.getuser()}@{socket.gethostname()} tenantry cli"
            self._operations = Operations.open(self.path, actor=actor)
            self._operations.context.enter()
            self._operations.context.secrets |= self.out.secrets
            self.out.secrets = self._operations.context.secrets  # grows as DSNs become known
        return self._operations

    @property
    def config(self) -> Config:
        """The file, read once. Raises as `ops`."""
        return self.ops.context.config

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        operations, self._operations = self._operations, None
        if operations is not None:
            await operations.close()
