"""Scopes, pools and admission: the hot path.

`router` asks the `directory` where a tenant lives, `pools` for a connection there, in the order that
`admission` decides; `scope` is the protocol on the wire, `checkout` the way in and out.
"""

from tenantry.router.connection import ScopedConnection
from tenantry.router.pools import DatabaseSpec, Pools, ProcessLimits
from tenantry.router.router import TenantRouter

__all__ = ["DatabaseSpec", "Pools", "ProcessLimits", "ScopedConnection", "TenantRouter"]
