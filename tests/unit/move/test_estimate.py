"""What a plan says of time, pause and room; and which servers are not trusted with a move."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from tenantry.ids import Kind
from tenantry.move import Interrupt, Limits, MoveStopped
from tenantry.move.catalog import Side
from tenantry.move.context import MoveContext
from tenantry.move.plan import Creation, DiskSpace, Mechanism, Selection
from tenantry.move.preflight.estimate import COPY_RATE, FIXED, VERIFY_RATE, estimate
from tenantry.move.preflight.facts import PreflightFacts
from tenantry.move.preflight.read_disk_space import free_space
from tenantry.move.preflight.rules_general import SAFE_MINORS, servers
from tenantry.move.preflight.rules_target import creation, extensions
from tenantry.move.session import Endpoint, blaming
from tenantry.move.steps.autovacuum import parameters
from tenantry.move.steps.retry import Step, persist

MOVE = {
    "id": "m1", "bytes": 100_000_000, "rows": 500_000, "copy": 5.0, "indexes": 5.0, "verify": 1.0,
    "copied": 500_000, "verified": 500_000, "pause": 0.04,
}  # fmt: skip


def test_without_earlier_moves_the_time_is_a_range_from_benchmarks() -> None:
    said = estimate(40_000_000, 800_000, [], cap=0.8)
    assert said.seconds == pytest.approx(
        (
            FIXED[1] + 4e7 / COPY_RATE[1] + 8e5 / VERIFY_RATE[1],
            FIXED[0] + 4e7 / COPY_RATE[0] + 8e5 / VERIFY_RATE[0],
        )
    )
    assert said.pause == (0.03, 0.25)
    assert "benchmarks" in said.origin


def test_earlier_moves_tell_the_rates_and_the_pause() -> None:
    slower = {**MOVE, "copy": 20.0, "pause": 0.4}
    said = estimate(100_000_000, 500_000, [MOVE, slower], cap=0.8)
    assert said.seconds == pytest.approx((2 + 10 / 1.5 + 1 / 1.5, 15 + 25 * 1.5 + 1.5))
    assert said.pause == (0.04, 0.4)
    assert said.origin == "rates of 2 earlier moves, pause of 2 earlier moves"


def test_small_moves_and_those_without_figures_tell_no_rates() -> None:
    tiny = {**MOVE, "bytes": 1000, "copy": 0.001}
    old = {**MOVE, "copy": None, "verify": None, "pause": None}
    said = estimate(40_000_000, 800_000, [tiny, old], cap=0.8)
    assert said.seconds == estimate(40_000_000, 800_000, [], cap=0.8).seconds
    assert said.origin == "rates of benchmarks on two cores, pause of 1 earlier move"


def test_the_pause_is_never_said_to_be_longer_than_the_fence_holds() -> None:
    assert estimate(0, 0, [{**MOVE, "pause": 7.0}], cap=0.8).pause == (0.8, 0.8)
    low, high = estimate(0, 0, [], cap=0.8, consented=12.0).pause
    assert (low, high) == (6.0, 12.0)


def test_free_space_is_told_only_of_a_folder_that_is_provably_the_servers(tmp_path: Path) -> None:
    changed = int(tmp_path.stat().st_mtime)
    space = os.statvfs(tmp_path)
    assert free_space(tmp_path, changed, tmp_path) == pytest.approx(space.f_bavail * space.f_frsize, rel=0.1)
    assert free_space(tmp_path, changed - 1, tmp_path) is None
    assert free_space(tmp_path / "elsewhere", changed, tmp_path) is None


def test_what_is_said_of_one_table_comes_before_what_is_said_of_all() -> None:
    wanted = {"*": {"enabled": "true", "vacuum_threshold": "50"}, "public.a": {"vacuum_threshold": "7"}}
    assert parameters(wanted, [("public", "a"), ("s", "b")]) == {
        ("public", "a"): {"enabled": "true", "vacuum_threshold": "7"},
        ("s", "b"): {"enabled": "true", "vacuum_threshold": "50"},
    }
    assert parameters({"public.a": {"x": "1"}}, [("s", "b")]) == {}


SERVER = {
    "version": 180004, "encoding": "UTF8", "collate": "C.UTF-8", "ctype": "C.UTF-8", "provider": "c",
    "locale": None, "locales": ["C.UTF-8"], "superuser": False, "creates_databases": True, "role": "mover",
    "extensions": ["plpgsql 1.0"], "available": ["plpgsql", "hstore"],
}  # fmt: skip
MADE = Creation("acme", "mover", "UTF8", "C.UTF-8", "C.UTF-8", "c", None, None, False, (), ())


def facts(source: dict[str, Any] | None = None, target: dict[str, Any] | None = None) -> PreflightFacts:
    def side(changes: dict[str, Any] | None) -> Side:
        return Side(server={**SERVER, **(changes or {})}, pooled=False, tables=(), sequences=(), local=None)

    return PreflightFacts(
        tenant="t", source_name="shared", target_name="acme", target_kind=Kind.DEDICATED, source=side(source),
        target=side(target), selection=Selection((), (), (), ()), mechanism=Mechanism.REPLICATION, consent=None,
        estimate=1.0, source_home=None, source_definitions=(), target_definitions=(), occupied=(),
        bypassing=(), bypassing_open=(), colliding=(), null_tenants=(), pg_dump=None, creation=None,
        disk_space=DiskSpace(None, "unknown", 1, 1),
    )  # fmt: skip


@pytest.mark.parametrize("major", SAFE_MINORS)
def test_minors_whose_logical_replication_loses_changes_are_refused_at_either_end(major: int) -> None:
    first = SAFE_MINORS[major]
    for end in ("source", "target"):
        assert [f.code for f in servers(facts(**{end: {"version": first}}))] == []
        if first % 10000:
            (finding,) = servers(facts(**{end: {"version": first - 1}}))
            assert (finding.code, finding.refuses) == ("unsafe-minor", True)
            assert f"{major}.{first % 10000}" in finding.fix


def test_servers_older_than_row_filters_are_refused() -> None:
    assert [f.code for f in servers(facts(source={"version": 140020}))] == ["too-old"]


def test_an_extension_that_the_target_can_not_have_is_refused() -> None:
    assert [f.code for f in extensions(facts(source={"extensions": ["plpgsql 1.0", "hstore 1.8"]}))] == []
    (finding,) = extensions(facts(source={"extensions": ["postgis 3.4"]}))
    assert (finding.code, finding.refuses) == ("extension-missing", True)
    (finding,) = extensions(facts(target={"extensions": ["plpgsql 0.9"]}))
    assert (finding.code, finding.refuses) == ("extension-differs", False)


def test_what_keeps_a_database_from_being_created_is_told_before() -> None:
    made = replace(facts(), creation=MADE)
    assert list(creation(facts())) == list(creation(made)) == []
    (finding,) = creation(replace(facts(target={"creates_databases": False}), creation=MADE))
    assert (finding.code, finding.fix.startswith('ALTER ROLE "mover" CREATEDB')) == ("no-createdb", True)
    (finding,) = creation(replace(facts(target={"version": 160009}), creation=replace(MADE, provider="b")))
    assert finding.code == "collation-differs"
    (finding,) = creation(replace(facts(), creation=replace(MADE, collate="fr_FR.UTF-8")))
    assert (finding.code, finding.refuses) == ("locale-unknown", False)


async def test_a_full_disk_is_not_tried_again_and_its_database_is_named() -> None:
    tried: list[int] = []
    told: list[object] = []

    async def check() -> None:
        """The lease is held."""

    async def step(_: MoveContext) -> dict[str, Any]:
        tried.append(1)
        with blaming(Endpoint("acme", Kind.DEDICATED, "postgresql://h/acme")):
            raise asyncpg.DiskFullError("could not extend file: No space left on device")

    work: Any = SimpleNamespace(
        limits=Limits(),
        interrupt=Interrupt(),
        plan=SimpleNamespace(id="m0"),
        tell=told.append,
        lease=SimpleNamespace(check=check),
    )
    with pytest.raises(MoveStopped, match="on acme: could not extend file: No space left on device"):
        await persist(work, Step("copy", step))
    assert (len(tried), told) == (1, [])
