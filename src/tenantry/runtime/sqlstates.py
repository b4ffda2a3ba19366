"""SQLSTATEs that the code decides by: tenantry's own, and PostgreSQL's."""

from __future__ import annotations

from typing import Final

#: `bind`: the tenant does not live in this database; the error's detail names its home, where that is known.
NOT_HERE: Final = "TN001"
#: `bind`: a cutover is in progress.
FENCED: Final = "TN002"
#: `bind`: the tenant is suspended.
SUSPENDED: Final = "TN003"
#: `bind`: the proof does not fit (hardened mode).
UNPROVEN: Final = "TN004"
#: `enter`: the session holds prepared statements that an earlier scope has left, replaced or deallocated.
LEFTOVERS: Final = "TN005"
#: A plan's limit is reached (`tenantry.kits`).
QUOTA_EXCEEDED: Final = "TN010"

#: PostgreSQL: serialization_failure. `bind` raises it too, where its snapshot is older than the placement.
SERIALIZATION_FAILURE: Final = "40001"
#: PostgreSQL: query_canceled.
CANCELLED: Final = "57014"
#: PostgreSQL: in_failed_sql_transaction.
IN_FAILED_TRANSACTION: Final = "25P02"
#: PostgreSQL: insufficient_privilege; row-level security refuses a new row with it.
INSUFFICIENT_PRIVILEGE: Final = "42501"

#: How `tenantry.bind` refuses: not here, fenced, suspended, bad proof, and a placement that changed under the
#: snapshot. Any other error on the way is nobody's answer: the next caller's own message tries again.
REFUSALS: Final = frozenset({NOT_HERE, FENCED, SUSPENDED, UNPROVEN, SERIALIZATION_FAILURE})
