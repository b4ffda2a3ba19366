"""Where a tenant may live: the rule, the words of the configuration, and the findings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantry import Config, ConfigError, NoRoom, WrongHome
from tenantry.config import of_config, resolve
from tenantry.directory import DatabaseRow
from tenantry.directory.inhabitants import Inhabitants
from tenantry.ids import Kind
from tenantry.operations.apply_config import difference
from tenantry.operations.placements import judge, sign_up_home
from tenantry.residence import Residence, Site, mismatches, refuse_mismatch
from tenantry.rooms import Room, Rooms

DSN = "postgresql://app@localhost/x"
WORDS = st.sampled_from([None, "eu", "us"])
RESIDENCES = st.builds(Residence, WORDS, WORDS)


def config(tenancy: dict[str, Any] | None = None, **databases: dict[str, Any]) -> Config:
    named = {name: {"kind": "shared", "dsn": DSN, **said} for name, said in databases.items()}
    servers = {"farm": {"dsn": DSN, "region": "eu", "tier": "gold"}}
    data = {"tenancy": tenancy or {}, "control": {"dsn": DSN}, "servers": servers, "databases": named}
    return Config.parse(data, environment={})


@given(RESIDENCES, RESIDENCES)
def test_a_tenant_lives_where_all_that_it_names_is_named(tenant: Residence, database: Residence) -> None:
    may = all(wanted in (None, has) for wanted, has in zip(tenant, database, strict=True))
    assert may == (not [*mismatches(tenant, database)])
    if may:
        refuse_mismatch("t", tenant, "d", database)
    else:
        with pytest.raises(WrongHome, match=r"t is of .* may not live in d"):
            refuse_mismatch("t", tenant, "d", database)


@given(RESIDENCES, st.lists(RESIDENCES, max_size=4))
def test_sign_ups_choose_among_the_databases_where_the_tenant_may_live(
    tenant: Residence, sites: list[Residence]
) -> None:
    rooms = Rooms([Room(str(number), 5, site) for number, site in enumerate(sites)], spread=True)
    fitting = {room.database for room in rooms.fitting(tenant).rooms}
    assert fitting == {str(number) for number, site in enumerate(sites) if not [*mismatches(tenant, site)]}
    told = rooms.full(tenant)
    assert set(told.capacities) == fitting
    assert set(told.unfit) == {room.database for room in rooms.rooms} - fitting


def test_whoever_finds_no_room_is_told_which_are_full_and_which_are_elsewhere() -> None:
    rooms = Rooms([Room("berlin", 5, Residence("eu")), Room("ohio", None, Residence("us"))], spread=True)
    assert "another tenant of region eu: berlin (5); not for it: ohio" in str(rooms.full(Residence("eu")))
    nowhere = str(rooms.full(Residence("jp", "gold")))
    assert "is for a tenant of region jp and tier gold" in nowhere
    assert "ohio: its region is us, not jp, and its tier is not named, not gold" in nowhere
    assert isinstance(rooms.full(), NoRoom)


def test_a_database_takes_region_and_tier_of_its_server_unless_it_says_its_own() -> None:
    made = config(
        plain={},
        here={"server": "farm", "tier": "basic", "capacity": 3},
        acme={"kind": "dedicated", "region": "us"},
    )
    assert made.databases["plain"].site == Site()
    assert made.databases["here"].site == Site(Residence("eu", "basic"), 3)
    assert made.databases["acme"].site == Site(Residence("us"), 1)
    created = resolve(made, DatabaseRow("new", Kind.DEDICATED, "server:farm", {}))
    assert created.site == Site(Residence("eu", "gold"), 1)


@pytest.mark.parametrize("word", ["EU", "e u", "", "-eu", "é", "x" * 64, "eu\n"])
def test_a_region_has_one_spelling(word: str) -> None:
    with pytest.raises(ConfigError, match="small letters") as told:
        config(a={"region": word})
    assert told.value.key == "databases.a.region"


def test_a_region_that_yaml_reads_as_no_is_told() -> None:
    with pytest.raises(ConfigError, match=r"databases\.a\.region"):
        config(a={"region": False})


@pytest.mark.parametrize(
    ("settings", "site"),
    [
        (
            {"region": "eu", "tier": "gold", "capacity": 7, "accepts": False},
            Site(Residence("eu", "gold"), 7, False),
        ),
        ({"region": None, "capacity": "many", "accepts": "perhaps"}, Site()),
        ({"region": 5, "capacity": -1}, Site(Residence("5"))),
        ({"capacity": True}, Site()),
    ],
)
def test_a_row_of_the_directory_is_read_whatever_stands_in_it(settings: dict[str, Any], site: Site) -> None:
    row = DatabaseRow("d", Kind.SHARED, "env:NO_SUCH_VARIABLE", settings)
    assert resolve(config(a={}), row).site == site


def test_apply_writes_what_the_file_says_of_a_site_and_takes_away_what_it_no_longer_says() -> None:
    made = config(a={"region": "eu", "capacity": 7, "accepts": False})
    there = DatabaseRow("a", Kind.SHARED, "config", {"operator": "env:X", "tier": "gold", "capacity": 9})
    settings = difference(of_config(made, "a"), there).settings
    assert settings == {
        "operator": "env:X", "max": 20, "idle": 600.0, "region": "eu", "capacity": 7, "accepts": False,
    }  # fmt: skip


def test_findings_say_who_is_where_they_may_not_be_and_what_is_too_full() -> None:
    made = config(
        {"placement": "b"}, a={"region": "eu", "capacity": 3}, b={"accepts": False}, d={"kind": "dedicated"}
    )
    databases = {name: of_config(made, name) for name in made.databases}
    us, gold = Residence("us"), Residence("us", "gold")
    groups = [
        Inhabitants("a", Residence(), 2),
        Inhabitants("a", us, 3),
        Inhabitants("a", gold, 1),
        Inhabitants("a", Residence("eu"), 1),
        Inhabitants("d", Residence(), 2),
    ]
    named = {("a", us): ["u1", "u2", "u3"], ("a", gold): ["g"]}
    found = sorted(judge(databases, groups, named, sign_up_home(made, databases)))
    assert [(one.database, one.rule, one.wanted, one.tenants, one.named) for one in found] == [
        ("a", "capacity", None, 4, ()),
        ("a", "region", "us", 4, ("g", "u1", "u2", "u3")),
        ("a", "tier", "gold", 1, ("g",)),
        ("b", "accepts", None, 0, ()),
        ("d", "capacity", None, 1, ()),
    ]
    assert "4 tenants of region us live in a: its region is eu, not us" in found[1].problem
    assert [*judge(databases, [Inhabitants("a", Residence("eu"), 3)], {}, None)] == []
