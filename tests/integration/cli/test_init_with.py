"""`init --with`: kits in every data database."""

from __future__ import annotations

from tests.integration.cli.conftest import Fleet


def test_init_with_kits_installs_them_in_every_data_database_and_grants_the_application(fleet: Fleet) -> None:
    rows = fleet.ok("init", "--with", "audit,quotas", "--json").json
    for row in rows[1:]:
        assert row["applied"][-2:] == ["kit quotas", "kit audit"], row
    assert not any("kit" in step for step in rows[0]["applied"])
    for name in (fleet.shared, fleet.acme):
        query = f"SELECT has_table_privilege('{fleet.role}', 'tenantry.audit_log', 'SELECT')"
        assert fleet.server.psql(query, name) == "t"


def test_init_again_keeps_kits_without_naming_them_and_takes_back_what_was_granted_meanwhile(fleet: Fleet) -> None:
    fleet.ok("init", "--with", "audit")
    fleet.server.psql(f"GRANT ALL ON tenantry.audit_log TO {fleet.role}", fleet.shared)
    rows = fleet.ok("init", "--json").json
    assert [row["applied"] for row in rows] == [[], [], []]
    query = f"SELECT has_table_privilege('{fleet.role}', 'tenantry.audit_log', 'TRUNCATE')"
    assert fleet.server.psql(query, fleet.shared) == "f"


def test_an_unknown_kit_is_refused_before_anything_is_touched(fleet: Fleet) -> None:
    ran = fleet.run("init", "--with", "quota")
    assert ran.code == 2
    assert "quotas, audit, usage" in ran.err
    assert fleet.server.psql("SELECT 1 FROM pg_namespace WHERE nspname = 'tenantry'", fleet.control) == ""
