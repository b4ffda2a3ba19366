"""What kits keep of a tenant, out of one database and into another: its limits, and its audit log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from tenantry import kits, sql
from tenantry.errors import OperationRefused
from tenantry.move import Endpoint
from tenantry.move.session import Connection
from tenantry.operations.data.archive import ArchiveReader, ArchiveWriter
from tenantry.operations.data.manifest import ArchivedAudit, ArchivedKits, Manifest
from tenantry.runtime.sqltext import literal

#: The log's columns but the tenant's.
_AUDIT: Final = (
    "database", "id", "at", "transaction", "actor", "session_role", "relation", "operation", "key", "old", "new",
)  # fmt: skip


async def export_kits(archive: ArchiveWriter, connection: Connection, tenant: str) -> ArchivedKits:
    """Read them in the connection's snapshot."""
    limits = await kits.limits_of(connection, tenant)
    plan = limits.get("quota_plan")
    audit = None
    if kits.AUDIT in await kits.installed(connection):
        audit = await _export_audit(archive, connection, tenant)
    return ArchivedKits(
        quota_plan=plan[0][1] if plan else None,
        quota_exceptions=tuple((row[1], row[2]) for row in limits.get("quota_exception", ())),
        audit=audit,
    )


async def _export_audit(archive: ArchiveWriter, connection: Connection, tenant: str) -> ArchivedAudit:
    mine = f"FROM tenantry.audit_log WHERE tenant = {literal(tenant)}"
    part = await archive.copied("kits", connection, f"SELECT {', '.join(_AUDIT)} {mine} ORDER BY at")
    last = await connection.fetch(f"SELECT database, max(id) AS id {mine} GROUP BY 1 ORDER BY 1")
    return ArchivedAudit(tuple((row["database"], row["id"]) for row in last), part)


async def refuse_missing_kits(connection: Connection, place: Endpoint, manifest: Manifest) -> None:
    """See that the database has the kits that the archive's limits and entries are of.

    Raises:
        OperationRefused: it lacks one.
    """
    there, kept = await kits.installed(connection), manifest.kits
    wanted = {
        kits.QUOTAS: kept.quota_plan is not None or bool(kept.quota_exceptions),
        kits.AUDIT: kept.audit is not None and kept.audit.part.rows > 0,
    }
    if lacking := [kit for kit, needed in wanted.items() if needed and kit not in there]:
        raise OperationRefused(
            f"the archive has what the kits {', '.join(lacking)} keep of the tenant, and {place.name} lacks them: "
            f"`tenantry init --with {','.join(lacking)}`"
        )


async def import_kits(
    connection: Connection, archive: ArchiveReader, tenant: str, head: AsyncIterator[bytes] | None
) -> None:
    """Write them, in the import's transaction. Limits of a plan are everybody's, and stay as they are here.

    Args:
        head: the stream of the audit log with the tenant's column in front; None: it is left out, as for a tenant
            that gets another id: the entries are of the one that it was.
    """
    kept = archive.manifest.kits
    if kept.quota_plan is not None:
        await connection.execute(
            "INSERT INTO tenantry.quota_plan (tenant, plan) VALUES ($1, $2) "
            "ON CONFLICT (tenant) DO UPDATE SET plan = excluded.plan",
            tenant,
            kept.quota_plan,
        )
    for resource, rows in kept.quota_exceptions:
        await connection.execute(
            "INSERT INTO tenantry.quota_exception (tenant, resource, max_rows) VALUES ($1, $2, $3) "
            "ON CONFLICT (tenant, resource) DO UPDATE SET max_rows = excluded.max_rows",
            tenant,
            resource,
            rows,
        )
    if head is None or kept.audit is None or not kept.audit.part.rows:
        return
    # First: entries of this database that come back must find no writer with the same number.
    databases, numbers = [name for name, _ in kept.audit.last], [number for _, number in kept.audit.last]
    await connection.fetchval(sql.query("kits/pass_ids"), databases, numbers)
    status = await connection.copy_to_table(
        "audit_log", schema_name="tenantry", columns=["tenant", *_AUDIT], source=head, format="text"
    )
    if int(status.split()[-1]) != kept.audit.part.rows:
        raise OperationRefused(
            f"the archive has {status.split()[-1]} audit entries and says {kept.audit.part.rows}"
        )
