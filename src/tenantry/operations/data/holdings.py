"""What of a database is one tenant's: its tables, and what stands in the way of taking all of them.

The tables are placed by the catalog's one answer (`catalog.tables`), and told apart as for a move.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tenantry import sql
from tenantry.catalog.tables import tenant_tables
from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import OperationRefused
from tenantry.ids import IdType
from tenantry.move import distribution
from tenantry.move.catalog import Generator, Table
from tenantry.move.definitions import Definition
from tenantry.move.plan import Selection, TablePlan, select, table_plan
from tenantry.move.preflight import read_spelling
from tenantry.move.preflight.read_side import read_sequences
from tenantry.move.preflight.read_tables import read_tables
from tenantry.move.session import Connection
from tenantry.move.shape import digest, read_definitions, read_shape

#: Whether row-level security holds nothing back from this role.
_SEES_ROWS: Final = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of a tenant's table, or of one of its partitions."""

    name: str
    child: str
    """Quoted, as the next two."""
    root: str
    """The tenant's table that the child is, or is a partition of."""
    parent: str
    columns: tuple[str, ...]
    far: tuple[str, ...]
    """The referenced columns."""
    joined: str
    """With c for the referencing rows and p for the referenced ones, what joins them as the key does."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """One tenant's part of a database."""

    sequences: tuple[Generator, ...]
    """Of the whole database."""
    selection: Selection
    tables: tuple[TablePlan, ...]
    """Referenced ones first. Their `columns` are without the tenant column."""
    shape: str
    """Digest of the tables' shape."""
    definitions: tuple[Definition, ...]
    """What the tables are made of."""

    @property
    def fingerprint(self) -> str:
        """Of `definitions` in their normal form: the same in every database whose tables are made alike."""
        return digest(["\t".join((one.kind, one.name, one.normal)) for one in self.definitions])

    @property
    def names(self) -> list[str]:
        """Of `tables`, quoted."""
        return [table.quoted for table in self.tables]


async def read_holdings(connection: Connection, name: str, tenant: str, tenancy: Tenancy) -> Holdings:
    """Read the catalogs. `name`: of the database, in the directory.

    Raises:
        OperationRefused: what is the tenant's can't be told, or not be taken whole; says what to do.
    """
    if not await connection.fetchval("SELECT to_regclass('tenantry.database_identity') IS NOT NULL"):
        raise OperationRefused(f"{name} is not tenantry's: run `tenantry init`")
    local = await connection.fetchrow("SELECT name, id_type FROM tenantry.database_identity")
    if local is None:
        raise OperationRefused(f"{name} has no name yet: run `tenantry init`")
    if local["name"] != name:
        raise OperationRefused(f"the database behind the DSN of {name} is called {local['name']}; check the DSN")
    if not await connection.fetchval(_SEES_ROWS):
        raise OperationRefused(
            f"the operator's role of {name} does not bypass row-level security: it would see no row. "
            f"ALTER ROLE … BYPASSRLS"
        )
    tenancy = replace(tenancy, id_type=IdType(local["id_type"]))
    details, found = await read_tables(connection)
    selection = select(found, tenant_tables(details, tenancy))
    # Object ids differ between databases, and so would an order by them.
    selection = selection._replace(tenant=tuple(in_order(selection.tenant)))
    tables = tuple(_plan(table, column) for table, column in selection.tenant)
    names = [table.quoted for table in tables]
    odd = [
        *problems(selection),
        *(f"{one} is distributed by Citus" for one in await distribution.read(connection, names)),
    ]
    odd += [
        f"{one.table}.{one.column} has rows that spell the id otherwise, and which its tenant does not see"
        for one in await read_spelling.read(connection, tenant, tenancy.id_type, selection)
        if one.rows  # None: too many to count in time
    ]
    if odd:
        raise OperationRefused(f"{name} can't be taken as it is: {'; '.join(odd)}")
    shape, definitions = await read_shape(connection, names), await read_definitions(connection, names)
    return Holdings(await read_sequences(connection), selection, tables, digest(shape), definitions)


def _plan(table: Table, column: str) -> TablePlan:
    plan = table_plan(table, column, int(table.rows))
    return replace(plan, columns=tuple(name for name in plan.columns if name != column), identity=None)


def problems(selection: Selection) -> Iterator[str]:
    """Why not all of the tenant's rows can be taken. Pure."""
    if not selection.tenant:
        yield "no table has the tenant column (tenancy.column, or `tables:` names it)"
    for question in (*(asked for _, asked in selection.unclear), *selection.unmatched):
        yield f"{question.object}: {question.problem} ({' | '.join(question.choices)})"
    for table, key in selection.stranded:
        yield (
            f"{table.quoted} belongs to tenants by its foreign key {key} only: give it the tenant column "
            "(`tenantry rls audit` prints the statements, TN204)"
        )
    for table, _ in selection.tenant:
        if table.foreign:
            yield f"{table.quoted} has rows in another server"
        if table.inherits:
            yield f"{table.quoted} is an inheritance child: turn the inheritance into declarative partitions"
        if any(column.oid_type for column in table.columns):
            yield f"{table.quoted} has a column that may point to large objects: move them into bytea columns"


def in_order(tables: Sequence[tuple[Table, str]]) -> Iterator[tuple[Table, str]]:
    """Referenced tables before those that reference them, as far as there is no circle; else by name. Pure."""
    known = {table.oid: (table, column) for table, column in tables}
    done: set[int] = set()
    for start in sorted(known, key=lambda oid: known[oid][0].quoted):
        stack = [(start, iter(sorted(one.to for one in known[start][0].references)))]
        begun = {start}
        while stack:
            oid, rest = stack[-1]
            nearer = next((to for to in rest if to in known and to not in done and to not in begun), None)
            if nearer is not None:
                begun.add(nearer)
                stack.append((nearer, iter(sorted(one.to for one in known[nearer][0].references))))
                continue
            stack.pop()
            if oid not in done:
                done.add(oid)
                yield known[oid]


async def read_foreign_keys(connection: Connection, tables: Sequence[TablePlan]) -> tuple[ForeignKey, ...]:
    """The foreign keys of these tables and their partitions."""
    rows = await connection.fetch(sql.query("data/foreign_keys"), [table.quoted for table in tables])
    return tuple(ForeignKey(**{**row, "columns": tuple(row["columns"]), "far": tuple(row["far"])}) for row in rows)
