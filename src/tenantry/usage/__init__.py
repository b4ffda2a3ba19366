"""Who uses how much: metered by the routers, added up in the ledger, checked by a witness.

In every process that routes: a `Meter` among the router's sinks, a `Ledger` that writes it, and `QueueReporter`,
which says who queues. In one process of the fleet (or several): `MonitorSet`, which read the denominator and
sample the sessions, and every few minutes `upkeep.keep_up`. Whoever wants to know: `shares.load`, then
`tenantry.promotion`. docs/explanation/usage.md says what the figures mean.
"""

from tenantry.usage.ledger import Ledger
from tenantry.usage.meter import Meter
from tenantry.usage.monitor import DatabaseMonitor, MonitorSet
from tenantry.usage.queue_reporter import QueueReporter
from tenantry.usage.values import MEASURED, Day, History
from tenantry.usage.view import OTHER, FleetView

__all__ = [
    "MEASURED",
    "OTHER",
    "DatabaseMonitor",
    "Day",
    "FleetView",
    "History",
    "Ledger",
    "Meter",
    "MonitorSet",
    "QueueReporter",
]
