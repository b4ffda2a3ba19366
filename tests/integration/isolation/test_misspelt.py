"""Ids in tenant columns of text: the audit's rows, and the ids' own rules, agree on every spelling."""

from __future__ import annotations

import pytest

from tenantry.catalog.read import read
from tenantry.catalog.spelling import misspelt_sql
from tenantry.catalog.tenancy import Tenancy
from tenantry.errors import InvalidTenantId
from tenantry.ids import IdType
from tenantry.isolation.apply import adopt
from tenantry.isolation.audit import audit
from tenantry.isolation.misspelt import read_misspelt
from tests.integration.isolation.conftest import Connection, enroll, install

NAME = "It's"
U = "6f9619ff-8b86-d011-b42d-00cf4fc964ff"
SPELLINGS = {
    IdType.UUID: [
        U, U.upper(), U.replace("-", ""), "{" + U + "}", f" {U}", f"{U} ", f"{U}\n", "6F9619ff" + U[8:], "", "x",
        U[1:], U.replace("6", "\uff16", 1),
    ],
    IdType.BIGINT: [
        "7", "07", "+7", "-7", "-0", "0", "00", " 7", "7 ", "7\n", "7.0", "\u0667", "", "9223372036854775807",
        "1e3", "--7",
    ],
}  # fmt: skip


@pytest.mark.parametrize("id_type", SPELLINGS)
async def test_the_database_and_the_ids_rules_agree_on_every_spelling(
    connection: Connection, id_type: IdType
) -> None:
    await connection.execute('CREATE TABLE t ("It\'s" text)')
    for text in SPELLINGS[id_type]:
        await connection.execute("TRUNCATE t")
        await connection.execute("INSERT INTO t VALUES ($1)", text)
        found = await connection.fetchval(f"SELECT count(*) FROM t WHERE {misspelt_sql(NAME, id_type)}")
        try:
            normal = id_type.stored(text) == text
        except InvalidTenantId:
            normal = False
        assert (found == 0) == normal, repr(text)


async def world(connection: Connection, role: str, id_type: IdType, *tenants: str) -> Tenancy:
    tenancy = Tenancy(id_type=id_type)
    await install(connection, id_type)
    await connection.execute("SELECT tenantry.grant_application($1)", role)
    await connection.execute(
        "CREATE TABLE named (tenant_id varchar(300) NOT NULL, id int, PRIMARY KEY (tenant_id, id))"
    )
    await enroll(connection, *tenants)
    await adopt(connection, tenancy, role=role)
    return tenancy


async def codes(connection: Connection, tenancy: Tenancy, role: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    catalog = await read(connection)
    misspelt = await read_misspelt(connection, catalog, tenancy)
    report = audit(catalog, tenancy, role=role, misspelt=misspelt)
    assert report.unchecked == ()
    return {one.rule.code: (one.message, one.fix) for one in report.findings if one.rule.code != "TN502"}


@pytest.mark.parametrize(
    ("id_type", "tenant", "otherwise"),
    [(IdType.UUID, U, [U.upper(), U.replace("-", "")]), (IdType.BIGINT, "7", ["07", " +7"])],
)
async def test_rows_of_ids_spelt_otherwise_are_listed_and_the_printed_fix_gives_them_to_their_tenant(
    connection: Connection, role: str, id_type: IdType, tenant: str, otherwise: list[str]
) -> None:
    tenancy = await world(connection, role, id_type, tenant)
    await connection.execute("INSERT INTO named VALUES ($1, 0)", tenant)
    assert await codes(connection, tenancy, role) == {}
    for number, text in enumerate(otherwise, 1):
        await connection.execute("INSERT INTO named VALUES ($1, $2)", text, number)
    message, fix = (await codes(connection, tenancy, role))["TN208"]
    rows = await connection.fetch(message.partition("this lists the rows: ")[2])
    assert sorted(row["id"] for row in rows) == [1, 2]
    for statement in fix:
        await connection.execute(statement)
    assert await codes(connection, tenancy, role) == {}
    assert await connection.fetchval("SELECT count(*) FROM named WHERE tenant_id = $1", tenant) == 3


async def test_texts_that_are_nobodys_and_nearly_a_tenants_are_listed_for_people_to_decide(
    connection: Connection, role: str
) -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    tenancy = await world(connection, role, IdType.TEXT, "acme", "Beta", "beta", composed)
    await connection.execute(
        "INSERT INTO named SELECT t, n FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)",
        ["acme", "Beta", "beta", composed, "someone else"],
    )
    assert await codes(connection, tenancy, role) == {}
    await connection.execute(
        "INSERT INTO named SELECT t, 10 FROM unnest($1::text[]) AS t", ["Acme", "acme ", decomposed, ""]
    )
    message, fix = (await codes(connection, tenancy, role))["TN208"]
    rows = await connection.fetch(message.partition("this lists the rows: ")[2])
    assert {row["tenant_id"] for row in rows} == {"Acme", "acme ", decomposed, ""}
    assert fix == ()


async def test_an_audit_that_may_not_read_the_rows_says_so(connection: Connection, role: str) -> None:
    tenancy = await world(connection, role, IdType.UUID, U)
    catalog = await read(connection)
    await connection.execute(f'SET ROLE "{role}"')
    try:
        misspelt = await read_misspelt(connection, catalog, tenancy)
    finally:
        await connection.execute("RESET ROLE")
    report = audit(catalog, tenancy, role=role, misspelt=misspelt)
    assert "TN208" not in {one.rule.code for one in report.findings}
    assert [line for line in report.unchecked if "rows of public.named spell" in line]
