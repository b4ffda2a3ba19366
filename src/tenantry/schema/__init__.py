"""The `tenantry` schema of control and data databases: tables by migrations, functions as repeatable SQL.

`migrations/` makes tables; each is applied once, in the order of its number. `functions/` holds the functions as
psql shows them, filled in with what the database is called and how its tenants are told apart; they are applied
again at every install, so that a change of one is a change of its file. `grants/` holds what roles get.
"""

from tenantry.schema.install import grant_control, install_control, install_data
from tenantry.schema.rendering import Form, Identity, checksum
from tenantry.schema.versions import Migration, migrations

__all__ = [
    "Form",
    "Identity",
    "Migration",
    "checksum",
    "grant_control",
    "install_control",
    "install_data",
    "migrations",
]
