"""F24: a mover's role lacks one privilege at a time."""

from __future__ import annotations

from dataclasses import replace

from tenantry.embedded import EmbeddedServer
from tenantry.move import PreflightFinding
from tests.support.estate import Estate

#: What the role loses, by the finding that then names it; `{database}` is the end's own.
TAKEN = {
    "no-bypassrls": "ALTER ROLE carrier NOBYPASSRLS",
    "no-replication": "ALTER ROLE carrier NOREPLICATION",
    "no-replica-role": "REVOKE SET ON PARAMETER session_replication_role FROM carrier",
    "no-subscription": "REVOKE pg_create_subscription FROM carrier",
    "no-create": 'REVOKE CREATE ON DATABASE "{database}" FROM carrier',
    "not-owner": "REVOKE product_owner FROM carrier",
}
GIVEN = """
CREATE ROLE product_owner; CREATE ROLE carrier LOGIN REPLICATION BYPASSRLS;
GRANT pg_monitor, pg_create_subscription, product_owner TO carrier;
GRANT SET ON PARAMETER session_replication_role TO carrier;
GRANT CREATE ON DATABASE "{database}" TO carrier;
"""
OWNED = """
ALTER TABLE account OWNER TO product_owner; ALTER TABLE entry OWNER TO product_owner;
ALTER TABLE "Blob" OWNER TO product_owner; ALTER TABLE currency OWNER TO product_owner;
GRANT USAGE ON SCHEMA tenantry TO carrier; GRANT SELECT ON ALL TABLES IN SCHEMA tenantry TO carrier;
"""


async def test_each_missing_privilege_is_refused_with_the_statement_that_fixes_it() -> None:
    """On both ends; a whole move by such a role wants password authentication, which the embedded server lacks."""
    with EmbeddedServer.start(18) as near, EmbeddedServer.start(18) as far:
        estate = await Estate.make(near, far)
        sides = {"shared": (near, estate.shared), "acme": (far, estate.dedicated)}
        for server, database in sides.values():
            server.psql(GIVEN.format(database=database), database)
        near.psql(OWNED, estate.shared)
        assert await privileges_missing(estate) == []
        for side, (server, database) in sides.items():
            for code, taken in TAKEN.items():
                if (side, code) == ("acme", "not-owner"):
                    continue  # the tables come with the move
                server.psql(taken.format(database=database), database)
                missing = await privileges_missing(estate)
                assert {finding.code for finding in missing} == {code}, (side, code)
                for finding in missing:
                    assert side in finding.problem or finding.code == "not-owner"
                    server.psql(statement(finding, database), database)
                assert await privileges_missing(estate) == [], (side, code)


def statement(finding: PreflightFinding, database: str) -> str:
    """The fix as it is typed: the operator puts the database's name in, and leaves out the alternatives."""
    return finding.fix.partition(", or ")[0].partition(" (")[0].replace("…", f'"{database}"')


async def privileges_missing(estate: Estate) -> list[PreflightFinding]:
    ends = {
        name: replace(end, dsn=end.dsn.replace("postgres@", "carrier@")) for name, end in estate.endpoints.items()
    }
    plan = await estate.mover(endpoints=ends).plan(estate.tenant, "acme")
    # A role without a password can subscribe nowhere, which is told apart: test_sessions.py.
    return [finding for finding in plan.refusals if finding.code != "login-fails"]
