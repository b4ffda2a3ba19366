"""What preflight judges, as values: read by `survey`, judged by `preflight`."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenantry.ids import Kind
from tenantry.move.catalog import Side
from tenantry.move.plan import Creation, DiskSpace, Mechanism, Selection
from tenantry.move.preflight.read_foreign_keys import CrossTenantKey
from tenantry.move.preflight.read_hardening import Hardening
from tenantry.move.preflight.rules_privileges import Access
from tenantry.move.preflight.rules_publications import PublishedTable
from tenantry.move.steps.kits import Kits


@dataclass(frozen=True, slots=True)
class Facts:
    """What preflight judges."""

    tenant: str
    source_name: str
    target_name: str
    target_kind: Kind
    source: Side
    target: Side
    selection: Selection
    mechanism: Mechanism
    consent: float | None
    """Seconds of pause to which the operator has agreed, for a copy under the fence."""
    estimate: float
    """Seconds that such a copy would take."""
    source_home: tuple[str, int, bool] | None
    """The source's placement row: home, epoch, suspended."""
    source_shape: frozenset[str]
    target_shape: frozenset[str]
    occupied: tuple[str, ...]
    """Tables of the target that hold rows of this tenant, or of anybody when it is to be dedicated."""
    bypassing: tuple[str, ...]
    """Sessions that write past the fence."""
    bypassing_open: tuple[str, ...]
    """Open sessions that could."""
    colliding: tuple[str, ...]
    """Sequences whose ids would collide."""
    null_tenants: tuple[str, ...]
    """Tables with rows whose tenant is NULL."""
    pg_dump: str | None
    """The program that can dump the source; None: not found."""
    creation: Creation | None
    """How the target will be made; None: it is there."""
    disk_space: DiskSpace
    cross_tenant_keys: tuple[CrossTenantKey, ...] = ()
    """Foreign keys by which the tenant hangs together with others."""
    published: tuple[PublishedTable, ...] = ()
    """Publications of the product's own, of both ends, that a replica identity may break."""
    feeds: tuple[str, ...] = ()
    """Publications of the target by which the reference tables of other databases are kept in step."""
    source_access: Access = field(default_factory=Access)
    target_access: Access = field(default_factory=Access)
    source_hardening: Hardening = field(default_factory=Hardening)
    target_hardening: Hardening = field(default_factory=Hardening)
    source_kits: Kits = field(default_factory=Kits)
    target_kits: Kits = field(default_factory=Kits)

    @property
    def load_schema(self) -> bool:
        """True if the target has none of the tables yet."""
        return not self.target_shape
