"""How a connection to PostgreSQL breaks, in asyncpg's and the network's words."""

from __future__ import annotations

from typing import Final

import asyncpg

#: What is raised of a connection that is gone or half dead, besides PostgreSQL's own errors. The last: the server
#: has said goodbye, and the end of the connection has not arrived yet.
LINK_BROKEN: Final = (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError)
