"""One tenant's data as a thing: out into a file, in from it, gone from everywhere.

Read `tenant_data.py` first: what operators call. `exporting.py`, `importing.py` and `erasing.py` do it;
`archive.py` is the file, `manifest.py` what it says of itself, `holdings.py` what of a database is one tenant's.
"""

from tenantry.operations.data.manifest import Manifest
from tenantry.operations.data.progress import DataProgress
from tenantry.operations.data.receipt import ErasureReceipt
from tenantry.operations.data.tenant_data import ArchiveWritten, ImportDone, TenantData

__all__ = ["ArchiveWritten", "DataProgress", "ErasureReceipt", "ImportDone", "Manifest", "TenantData"]
