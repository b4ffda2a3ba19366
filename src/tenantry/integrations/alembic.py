"""Alembic on a database under tenantry: autogenerate leaves alone what `tenantry rls apply` has made.

    # env.py
    from tenantry.integrations.alembic import migrate_env
    migrate_env(context, Base.metadata)

    # a revision
    import tenantry.integrations.alembic  # op.tenant_table, op.drop_tenant_table
    op.tenant_table("lessons", sa.Column("id", sa.BigInteger, sa.Identity()), role="app")

Migrations run as the role that owns the tables and bypasses row security, never as the application's: an UPDATE in
a revision would change no row.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from alembic.operations import Operations

from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import ConfigError
from tenantry.ids import IdType
from tenantry.isolation.policy import table_sql

__all__ = ["IncludeObject", "drop_tenant_table", "include_object", "migrate_env", "tenant_table"]

#: Ends of the names that `tenantry rls plan` gives what it adds to the product's tables.
_OURS: Final = ("_tenantry_key", "_tenantry_idx", "_tenantry_not_null", "_tenantry")
#: Where the address of the database to migrate is looked for, in this order.
_ADDRESSES: Final = ("TENANTRY_MIGRATE_URL", "DATABASE_URL")

_TYPES: Final[dict[IdType, Callable[[], Any]]] = {
    IdType.UUID: sa.Uuid,
    IdType.BIGINT: sa.BigInteger,
    IdType.TEXT: sa.Text,
}


class IncludeObject:
    """For `context.configure(include_object=…)`: False for what is tenantry's, so that autogenerate skips it.

    That is the schema `tenantry`; the tenant's column (where the models do not have it, and its NOT NULL and
    default where they have); the indexes, checks and foreign keys that `rls plan` has added; and the foreign keys
    of the models in whose place it has put one that includes the tenant.
    """

    # Mutable state: _replaced (foreign keys that stand in the database with the tenant in them), filled while
    # autogenerate compares a table: it looks at what is too much in the database before what it misses there.

    def __init__(self, column: str = "tenant_id", besides: Callable[..., bool] | None = None) -> None:
        """Args:
        column: the tenant's, as in the configuration.
        besides: the product's own include_object, asked where ours has no objection.
        """
        self._column = column
        self._besides = besides
        self._replaced: set[tuple[str, tuple[str, ...], str]] = set()

    def __call__(self, item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
        if self._is_ours(item, name, type_, reflected, compare_to):
            return False
        return self._besides is None or self._besides(item, name, type_, reflected, compare_to)

    def _is_ours(self, item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
        if type_ == "table":
            return bool(item.schema == "tenantry")
        if type_ == "column":
            return name == self._column and (reflected or compare_to is not None)
        if type_ == "foreign_key_constraint":
            return self._is_tenant_s_key(item, name, reflected)
        return reflected and name is not None and name.endswith(_OURS)

    def _is_tenant_s_key(self, key: Any, name: str | None, reflected: bool) -> bool:
        columns = tuple(element.parent.name for element in key.elements)
        # The target as the models write it: "students.id" becomes the table's name.
        target = key.elements[0].target_fullname.rpartition(".")[0].removeprefix("public.")
        told = (key.table.fullname.removeprefix("public."), tuple(c for c in columns if c != self._column), target)
        if reflected and name is not None and name.endswith("_tenantry") and self._column in columns:
            self._replaced.add(told)
            return True
        return not reflected and self._column not in columns and told in self._replaced


def include_object(item: Any, name: str | None, type_: str, reflected: bool, compare_to: Any) -> bool:
    """`IncludeObject` for the column tenant_id: `context.configure(include_object=include_object)`."""
    return _default(item, name, type_, reflected, compare_to)


_default: Final = IncludeObject()


def migrate_env(
    context: Any, metadata: Any, *, column: str = "tenant_id", url: str | None = None, **options: Any
) -> None:
    """The whole of an `env.py`: runs the revisions, online or as SQL, with `include_object` set.

    Args:
        context: `alembic.context`.
        metadata: the models'.
        column: the tenant's.
        url: of the database; None: the environment's TENANTRY_MIGRATE_URL or DATABASE_URL, or else
            `sqlalchemy.url` of alembic.ini.
        options: of `context.configure`. An `include_object` is asked besides ours.

    Raises:
        ConfigError: no address is given anywhere.
    """
    options["include_object"] = IncludeObject(column, options.pop("include_object", None))
    address = url or next((os.environ[name] for name in _ADDRESSES if os.environ.get(name)), None)
    address = address or context.config.get_main_option("sqlalchemy.url")
    if not address:
        raise ConfigError(
            f"no database to migrate: set {' or '.join(_ADDRESSES)}, or sqlalchemy.url in alembic.ini"
        )
    if context.is_offline_mode():
        context.configure(url=address, target_metadata=metadata, literal_binds=True, **options)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = sa.create_engine(_synchronous(address), poolclass=sa.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, **options)
        with context.begin_transaction():
            context.run_migrations()


def _synchronous(address: str) -> sa.URL:
    """The address for psycopg: revisions run synchronously, whatever driver the product has."""
    url = sa.make_url(address.replace("postgres://", "postgresql://", 1))
    if url.drivername in {"postgresql", "postgresql+asyncpg"}:
        url = url.set(drivername="postgresql+psycopg")
    return url


# -- operations ------------------------------------------------------------------------------------


@Operations.register_operation("tenant_table")
class TenantTable:
    """`op.tenant_table(…)`: a table with the tenant's column, policies, grants and an index led by the tenant."""

    @classmethod
    def tenant_table(cls, operations: Any, name: str, *columns: Any, **options: Any) -> Any:
        """See `tenant_table`."""
        return tenant_table(operations, name, *columns, **options)


@Operations.register_operation("drop_tenant_table")
class DropTenantTable:
    """`op.drop_tenant_table(…)`."""

    @classmethod
    def drop_tenant_table(cls, operations: Any, name: str, *, schema: str | None = None) -> None:
        """See `drop_tenant_table`."""
        drop_tenant_table(operations, name, schema=schema)


def tenant_table(
    operations: Any,
    name: str,
    *columns: Any,
    role: str | None = None,
    schema: str | None = None,
    column: str = "tenant_id",
    type: str = "uuid",
    setting: str = "app.current_tenant",
    hardened: bool = False,
    primary_key: Sequence[str] | None = ("id",),
) -> Any:
    """Create a table as `tenantry rls plan` wants it, so that a plan afterwards is empty.

    Args:
        columns: of SQLAlchemy, constraints too; without the tenant's column, which comes first.
        role: the application's, which gets the grants; None: nobody does.
        column, type, setting, hardened: as in the configuration's `tenancy`.
        primary_key: its columns after the tenant's; None: `columns` have one.
    """
    kind = IdType(type)
    made = [sa.Column(column, _TYPES[kind](), nullable=False), *columns]
    if primary_key is not None:
        made.append(sa.PrimaryKeyConstraint(column, *primary_key))
    table = operations.create_table(name, *made, schema=schema)
    tenancy = Tenancy(column=column, id_type=kind, setting=setting, hardened=hardened)
    for statement in table_sql(schema or "public", name, column, tenancy, role=role):
        operations.execute(sa.text(statement.replace(":", r"\:")))
    return table


def drop_tenant_table(operations: Any, name: str, *, schema: str | None = None) -> None:
    """Drop a table of tenants; its policies, indexes and grants go with it."""
    operations.drop_table(name, schema=schema)
