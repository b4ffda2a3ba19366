"""Makes a database tenantry's: every world of the tests is made here, and by what `tenantry init` calls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tenantry.catalog.tenancy import Tenancy
from tenantry.ids import IdType, Kind
from tenantry.isolation.policy import table_sql
from tenantry.proof import database_key
from tenantry.schema import install_control, install_data

SETTING: Final = "app.current_tenant"
#: Of hardened databases, unless a test needs two.
SECRET: Final = "a secret of the tests, longer than thirty-two bytes"
#: What a configuration's `tenancy` says of a hardened database.
HARDENED: Final = {"hardened": True, "secret": SECRET}


async def make_control(connection: Any, **databases: Kind) -> list[str]:
    """A control database that knows these databases, whose DSNs are in the configuration: `install_control`."""
    applied = await install_control(connection)
    await connection.executemany(
        "INSERT INTO tenantry.database (name, kind, dsn) VALUES ($1, $2, 'config')",
        [(name, kind.value) for name, kind in databases.items()],
    )
    return applied


async def make_data(
    connection: Any,
    role: str | None,
    ids: IdType = IdType.UUID,
    *,
    name: str = "shared",
    kind: Kind = Kind.SHARED,
    setting: str = SETTING,
    tenant: object = None,
    key: bytes | None = None,
) -> list[str]:
    """A data database for an application's role (None: for nobody), or the same one again. `install_data`."""
    return await install_data(
        connection,
        name=name,
        kind=kind,
        setting=setting,
        id_type=ids,
        application_role=role,
        tenant=None if tenant is None else str(tenant),
        key=key,
    )


async def make_policies(connection: Any, tables: Iterable[str], role: str, tenancy: Tenancy) -> None:
    """What `rls apply` does to tables of the schema public: policies, grants."""
    for table in tables:
        for statement in table_sql("public", table, "tenant_id", tenancy, role=role):
            await connection.execute(statement)


async def harden(
    connection: Any, tables: Iterable[str], role: str, ids: IdType = IdType.UUID, *, name: str = "shared"
) -> None:
    """Bring a shared database that has policies to hardened mode, as `tenantry init` and `rls apply` do."""
    tables = list(tables)
    await make_data(connection, role, ids, name=name, key=database_key(SECRET, name))
    for table in tables:
        await connection.execute(f'DROP POLICY tenantry_tenant ON "{table}"')
    await make_policies(connection, tables, role, Tenancy(id_type=ids, hardened=True))
