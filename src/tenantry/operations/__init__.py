"""What an operator may do, public, typed and async: tenants, databases, moves, row-level security, usage, check.

Read `operations.py` first. `context.py` has what the parts share; `config.databases` answers where a DSN leads.
"""

from tenantry.operations.apply_config import DatabaseChange
from tenantry.operations.backups import BackupDone
from tenantry.operations.check import CheckFinding, CheckReport
from tenantry.operations.databases import DatabaseDetails
from tenantry.operations.import_tenants import Imported
from tenantry.operations.install import Installed
from tenantry.operations.operations import Operations
from tenantry.operations.tenants import Added, TenantDetails
from tenantry.operations.usage import Load, Overview, TenantUsage

__all__ = [
    "Added",
    "BackupDone",
    "CheckFinding",
    "CheckReport",
    "DatabaseChange",
    "DatabaseDetails",
    "Imported",
    "Installed",
    "Load",
    "Operations",
    "Overview",
    "TenantDetails",
    "TenantUsage",
]
