"""The story fits every terminal."""

from __future__ import annotations

import io

import pytest

from tenantry.demo.story import Story
from tenantry.demo.teller import Bar, Frame, Teller

FRAME = Frame("load", 3.0, 10.0, 1234.5, 0.0123, 3700, 0, (Bar("sequoia", 0.6, "60.0%"),), ("shared: 8 busy",))


class Ascii(io.StringIO):
    encoding = "ascii"


@pytest.mark.parametrize("width", [1, 34, 46, 80, 500])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    out = io.StringIO()
    teller = Teller(out, width=width)
    teller.title("one API-management product, 40 customers, on PostgreSQL " * 3)
    section = Story(teller).section("key", "A title that is rather long for a narrow terminal, and goes on")
    section.claim("words " * 40)
    section.saw("words " * 40)
    section.quote("SELECT count(*) FROM request_log WHERE something_long = $1 AND more\n" * 2)
    section.bars([Bar("sequoia", 0.6, "60.0%"), Bar("39 others", 0.4, "40.0%")])
    section.check(True, "promises " * 20)
    with teller.live():
        teller.frame(FRAME)
    lines = out.getvalue().splitlines()
    assert len(lines) > 15
    assert max(map(len, lines)) <= max(width, 34)


def test_the_longest_bar_stands_for_the_largest_value() -> None:
    one, other = Teller(io.StringIO(), width=80).drawn([Bar("a", 1.0, "50%"), Bar("bb", 0.5, "25%")])
    assert one.count("█") > 10
    assert one.count("█") == pytest.approx(2 * other.count("█"), abs=1)
    assert one.index("50%") == other.index("25%")


def test_a_terminal_that_knows_only_ascii_gets_ascii() -> None:
    out = Ascii()
    teller = Teller(out, width=80)
    teller.bars([Bar("a", 1.0, "100%")])
    teller.verdict(True, "held")
    teller.verdict(False, "broken")
    assert out.getvalue().isascii()
    assert "ok" in out.getvalue()
    assert "NO" in out.getvalue()


def test_the_demos_frames_come_every_two_seconds() -> None:
    out = io.StringIO()
    teller = Teller(out, width=80)
    with teller.live():
        for elapsed in (0.2, 0.5, 1.9, 2.3, 2.5):
            teller.frame(at(elapsed))
    assert len(out.getvalue().splitlines()) == 2


def at(elapsed: float) -> Frame:
    return Frame("load", elapsed, 10.0, 1.0, 0.001, 1, 0, (), ())


def test_a_promise_that_does_not_hold_is_kept_in_the_story() -> None:
    story = Story(Teller(io.StringIO(), width=80))
    section = story.section("key", "Title")
    section.check(True, "good")
    section.check(False, "bad")
    section.facts(number=3)
    assert [check.promise for check in story.broken] == ["bad"]
    assert story.sections == {"key": {"number": 3}}
