"""The numbers of every advisory lock that tenantry takes from Python.

PostgreSQL's advisory locks are one name space per database, shared with the product: these numbers are ours. A
tenant's own lock is 1415071060 ('TNNT', in SQL `tenantry.lock_space()`) with its id's hash; only SQL takes it.
"""

from __future__ import annotations

from typing import Final

#: One session at a time installs or upgrades the schema of a database, kits included.
INSTALLING: Final = 1415071061
#: One `rls apply` at a time in a database: class INSTALLING, key 1, and so apart from INSTALLING itself.
APPLYING: Final = (INSTALLING, 1)
#: One process at a time closes days of the ledger.
CLOSING_DAYS: Final = 1415071063
#: One process watches a database: its totals and its sessions.
WATCHING: Final = 1415071064
#: One import of usage at a time.
IMPORTING_USAGE: Final = 1415071065
#: One backup of a database at a time; the second key is the hash of its name. 'TNBK'
BACKING_UP: Final = 1414414923
#: Bulk loads of one tenant take turns, so that their rows never mix; the second key is the id's hash.
LOADING: Final = 1415071066
#: One sign-up at a time chooses among the shared databases.
PLACING: Final = 1415071072
#: Operators' scopes over all databases hold it in the control database, shared; no flip begins meanwhile. So no
#: tenant changes its home between the first database of such a scope and the last.
VISITING: Final = 1415071067
#: Flips hold it there, shared: one that is frozen keeps operators' scopes waiting, and no other flip.
FLIPPING: Final = 1415071068
#: One import or erasure of a tenant's data at a time, in the control database; the second key is the id's hash. A
#: move that begins takes it too, shared, for the moment: it is refused meanwhile.
TENANT_DATA: Final = 1415071069
#: One `tenantry migrate` at a time, in the control database.
MIGRATING: Final = 1415071070
#: A database that is migrated: the second key is the hash of its name. Moves from and to it hold it shared. 'TNMG'
MIGRATED: Final = 1414417735
