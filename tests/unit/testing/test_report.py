"""Reports: what settles, what fails, and what is said."""

from __future__ import annotations

import pytest

from tenantry.testing import Attempt, IsolationBroken, Outcome, Report
from tenantry.testing.verdict import settled

HELD = Attempt("public.t", "select", Outcome.HELD)
LEAK = Attempt("public.t", "delete", Outcome.BROKEN, "reached 2 rows")
UNTRIED = Attempt("public.t", "merge", Outcome.UNTRIED, "no right")


def test_a_report_in_which_everything_held_passes() -> None:
    assert settled(Report((HELD, UNTRIED))).untried == (UNTRIED,)


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report((HELD, LEAK)), "tenants are not isolated: 1 attacks held, 1 broke through"),
        (Report((HELD,), ("public.x has no rows",)), "this check proves nothing yet"),
        (Report((UNTRIED,)), "this check proves nothing yet"),
        (Report(()), "this check proves nothing yet"),
    ],
    ids=["leak", "vacuous", "all untried", "empty"],
)
def test_a_report_with_a_leak_or_a_check_that_proves_nothing_fails(report: Report, words: str) -> None:
    with pytest.raises(IsolationBroken, match=words):
        settled(report)


def test_a_failed_reports_message_names_object_attack_and_why() -> None:
    assert "BROKEN public.t: delete: reached 2 rows" in str(Report((HELD, LEAK, UNTRIED)))
    assert "not tried: public.t: merge: no right" in str(Report((HELD, LEAK, UNTRIED)))


def test_a_problem_that_both_parts_have_is_said_once() -> None:
    both = Report((HELD,), ("p",)).plus(Report((LEAK,), ("p", "q")))
    assert both.problems == ("p", "q")
    assert both.attempts == (HELD, LEAK)
