"""The first screen answers three questions, for whoever has never seen it: is anything wrong, who is loading what,
and what do I do next? Four prepared fleets, and the two ends.
"""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import httpx
import pytest

from tests.support import fleets
from tests.support.fleets import Prepared


async def fetch(of: Prepared, path: str = "/") -> httpx.Response:
    transport = httpx.ASGITransport(app=fleets.console(of))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        return await client.get(path)


async def read(of: Prepared, path: str = "/") -> str:
    """What a reader of the page sees, in one line."""
    answer = await fetch(of, path)
    assert answer.status_code == 200, answer.text
    text = re.sub(r"<head>.*?</head>", " ", answer.text, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", text)))


async def parts(of: Prepared) -> dict[str, str]:
    """The page's text by its headings; what stands before the first one is "verdict"."""
    text = await read(of)
    questions = ("Is anything wrong?", "What is to be done next?", "Who is loading what?", "Who has outgrown")
    places = [0, *(text.index(question) for question in questions), len(text)]
    names = ("verdict", "wrong", "next", "load", "rest")
    return {name: text[begin:end] for name, begin, end in zip(names, places[:-1], places[1:], strict=True)}


async def test_of_a_fleet_that_is_well_it_says_so_and_that_nothing_is_to_be_done() -> None:
    page = await parts(fleets.well())
    assert "All is well." in page["verdict"]
    assert "Nothing: no tenant has outgrown its database, and no move waits." in page["next"]
    assert "Heavy Industries" in page["load"]
    assert "30.0%" in page["load"]


async def test_of_a_tenant_that_has_outgrown_its_database_it_names_who_why_and_the_command() -> None:
    page = await parts(fleets.outgrown())
    assert "All is well." in page["verdict"]
    assert "Heavy Industries has outgrown shared" in page["next"]
    assert "tenantry promote heavy --to DATABASE --plan" in page["next"]
    assert "m00000000aa of acme to acme is complete and waits for its release" in page["next"]
    assert "tenantry moves release m00000000aa" in page["next"]
    assert "60.0%" in page["load"]
    assert "above 40.0% of shared in each of the last 14 days" in page["rest"]


async def test_of_a_broken_fleet_it_says_what_is_wrong_and_what_mends_each() -> None:
    page = await parts(fleets.broken())
    assert "Database acme does not answer (ConnectionRefusedError). And 2 more below." in page["verdict"]
    assert (
        "The move m00000000bb of birch has stopped: connection lost tenantry moves resume m00000000bb"
        in (page["wrong"])
    )
    assert (
        "The backup of shared is 3 days old; its policy wants one every 24 h tenantry backup shared"
        in (page["wrong"])
    )
    assert "First what is wrong, above." in page["next"]


async def test_with_the_control_database_away_it_says_so_first_and_shows_what_was_known() -> None:
    page = await parts(fleets.away())
    assert "The control database can't be read (ConnectionRefusedError)" in page["verdict"]
    assert "tenantry check" in page["verdict"]
    assert "60.0%" in page["load"]
    assert "tenantry promote" not in page["next"]


async def test_of_an_empty_directory_it_says_how_it_is_filled() -> None:
    page = await parts(fleets.empty())
    assert "The directory is empty. tenantry apply" in page["verdict"]


async def test_what_was_not_looked_at_is_not_called_well() -> None:
    of = fleets.well()
    page = await read(of._replace(seen=fleets.changed(of.seen, probes=None, checked=None)))
    assert "not looked at yet: the databases, `tenantry check`" in page
    assert "All is well" not in page


async def test_a_database_in_which_nobody_lives_is_no_emergency() -> None:
    of = fleets.broken()
    nobody = tuple(one._replace(tenants=0) if one.name == "acme" else one for one in of.fleet.databases)
    answer = await fetch(of._replace(fleet=fleets.changed(of.fleet, databases=nobody)), "/index.json")
    troubles = {one["what"]: one["severe"] for one in answer.json()["verdict"]["troubles"]}
    assert troubles["Database acme does not answer (ConnectionRefusedError)"] is False


async def test_json_has_the_same_answers() -> None:
    answer = await fetch(fleets.outgrown(), "/index.json")
    told: dict[str, Any] = answer.json()
    assert told["verdict"]["state"] == "well"
    assert [step["command"] for step in told["verdict"]["next"]] == [
        "tenantry promote heavy --to DATABASE --plan",
        "tenantry moves release m00000000aa",
    ]
    (load,) = told["loads"]
    assert load["leaders"][0]["tenant"] == "heavy"
    assert load["leaders"][0]["day"] == pytest.approx(0.6)


async def test_lists_sort_and_filter_by_links_that_last() -> None:
    of = fleets.broken()
    down = (await fetch(of, "/databases?sort=-name")).text
    assert down.index("name=shared") < down.index("name=acme")
    assert 'aria-sort="descending"' in down
    only = await read(of, "/databases?state=away")
    assert "1 found" in only
    assert "No database is like that." in await read(of, "/databases?q=nothing")


@pytest.mark.parametrize("query", ["sort=evil", "page=-1", "page=99999999999", "sort=-", "q=%00", "state=%3Cb%3E"])
async def test_an_address_with_garbage_is_answered(query: str) -> None:
    for path in ("/databases", "/candidates", "/checks"):
        answer = await fetch(fleets.broken(), f"{path}?{query}")
        assert answer.status_code == 200
        assert "<b>" not in answer.text


async def test_a_page_that_needs_the_control_database_says_when_it_is_away() -> None:
    answer = await fetch(fleets.away(), "/tenant?id=heavy")
    assert answer.status_code == 503
    assert "The control database can&#39;t be asked now" in answer.text


async def test_a_huge_fleet_keeps_the_first_screen_short() -> None:
    answer = await fetch(fleets.huge())
    assert "100\u202f000" in answer.text or "100\u202f801" in answer.text
    assert len(answer.text) < 200_000
    assert answer.text.count("<tr>") < 80
