"""Whether a statement's text means in a scope what it means in others.

asyncpg prepares a statement once per connection and keeps it, with the types of its parameters and the constants
of its literals as PostgreSQL found them then. A scope may have put a temporary table in front of the product's, or
set a search_path or a time zone of its own: what is prepared in such surroundings must not outlive the scope. The
first statement of a scope finds them as the reset has left them. In front of each later one that is new to the
connection, in the same flight, `question` asks.
"""

from __future__ import annotations

from typing import Final

from tenantry import sql
from tenantry.router.messages import SYNC, statement

_QUESTION: Final = sql.query("router/misread").replace(":surroundings", sql.query("router/surroundings"))


def question(usual: str) -> bytes:
    """The unit that asks; `usual`: the session's surroundings at its beginning."""
    return statement(_QUESTION, usual) + SYNC
