"""What an operator may do, public, typed and async: tenants, databases, moves, migrations, row-level
security, usage, check.

Read `operations.py` first. `context.py` has what the parts share; `config.databases` answers where a DSN leads.
"""

from tenantry.operations.apply_config import DatabaseChange
from tenantry.operations.backups import BackupDone
from tenantry.operations.check import CheckFinding, CheckReport
from tenantry.operations.data import ArchiveWritten, DataProgress, ErasureReceipt, ImportDone
from tenantry.operations.databases import DatabaseDetails
from tenantry.operations.import_tenants import Imported
from tenantry.operations.install import Installed
from tenantry.operations.migrate import (
    DatabaseRun,
    MigrateEvent,
    MigrateOptions,
    MigratePlan,
    MigrateRun,
    MigrationStopped,
)
from tenantry.operations.operations import Operations
from tenantry.operations.placements import MisplacedTenant, PlacementFinding
from tenantry.operations.tenants import Added, TenantDetails
from tenantry.operations.usage import Load, Overview, TenantUsage

__all__ = [
    "Added",
    "ArchiveWritten",
    "BackupDone",
    "CheckFinding",
    "CheckReport",
    "DataProgress",
    "DatabaseChange",
    "DatabaseDetails",
    "DatabaseRun",
    "ErasureReceipt",
    "ImportDone",
    "Imported",
    "Installed",
    "Load",
    "MigrateEvent",
    "MigrateOptions",
    "MigratePlan",
    "MigrateRun",
    "MigrationStopped",
    "MisplacedTenant",
    "Operations",
    "Overview",
    "PlacementFinding",
    "TenantDetails",
    "TenantUsage",
]
