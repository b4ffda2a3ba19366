"""Judges everybody at once."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Final

from tenantry.ids import Kind
from tenantry.promotion.rule import Action, Candidacy, PromotionRule, Verdict, judge, judge_return, window
from tenantry.usage.shares import Shares

_ORDER: Final = (Candidacy.CANDIDATE, Candidacy.BUILDING, Candidacy.UNKNOWN, Candidacy.NOT_CANDIDATE)


def span(rule: PromotionRule, today: date) -> tuple[date, date]:
    """The days that the rule wants to see: the first one, and the first that it does not want."""
    starts = window(rule, today)
    return starts[0], starts[-1] + timedelta(days=rule.bucket.days)


def verdicts(rule: PromotionRule, shares: Shares, today: date) -> list[Verdict]:
    """One verdict for each loaded tenant, the most urgent first.

    Tenants of shared databases are judged for promotion; tenants with a database of their own for
    their return, to whichever shared database has the most room for them.
    """
    rooms = [shares.database(name) for name, kind in sorted(shares.kinds.items()) if kind is Kind.SHARED]
    found = []
    for tenant, home in shares.homes.items():
        history = shares.history(tenant)
        if home.kind is Kind.SHARED:
            found.append(judge(rule, history, today))
        elif rooms:
            # The larger the shared database, the smaller the share that would come back.
            found.append(min((judge_return(rule, history, room, today) for room in rooms), key=_urgency))
    return sorted(found, key=_urgency)


def _urgency(verdict: Verdict) -> tuple[int, int, int, float, str]:
    return (
        _ORDER.index(verdict.state),
        verdict.action is Action.DEMOTE,
        -verdict.streak,
        -(verdict.share or 0.0),
        verdict.tenant,
    )
