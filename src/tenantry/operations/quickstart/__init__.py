"""The first files of a product that exists: roles, configuration, an endpoint, a test.

`proposal.py` decides what the catalogs say of the product's tenants, without I/O; `files.py` writes it down;
`start.py` is what `tenantry quickstart` calls.
"""

from tenantry.operations.quickstart.files import File, NextStep
from tenantry.operations.quickstart.proposal import Proposal, propose
from tenantry.operations.quickstart.start import Quickstart, look, write

__all__ = ["File", "NextStep", "Proposal", "Quickstart", "look", "propose", "write"]
