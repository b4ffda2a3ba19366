"""Says in words what a verdict says in values."""

from __future__ import annotations

from collections.abc import Iterable

from tenantry.promotion.rule import Action, Bucket, BucketResult, BucketStatus, Candidacy, Verdict

_LISTED = 5


def reasons(verdict: Verdict) -> tuple[str, ...]:
    """The reasons of a verdict, one sentence each, the deciding one first."""
    found = [_headline(verdict)]
    found.extend(_obstacles(verdict))
    if verdict.sources:
        found.append(f"leans on imported history: {', '.join(verdict.sources)}")
    return tuple(found)


def _headline(verdict: Verdict) -> str:
    units = f"{verdict.needed} {_unit(verdict)}s"
    how = _condition(verdict)
    if verdict.state is Candidacy.CANDIDATE:
        shares = [bucket.share for bucket in verdict.buckets if bucket.share is not None]
        return (
            f"{how} of {verdict.database} in each of the last {units} "
            f"({percent(min(shares))} to {percent(max(shares))})"
        )
    if verdict.state is Candidacy.BUILDING:
        return (
            f"{how} of {verdict.database} in the last {verdict.streak} of {units}; "
            f"a candidate in {_plural(verdict.to_go, 'day')} if that goes on"
        )
    if verdict.state is Candidacy.UNKNOWN:
        return f"can't tell yet: {how} in the last {verdict.streak} of {units}, and data is missing"
    return f"not {how} of {verdict.database} in the last {_unit(verdict)}"


def _condition(verdict: Verdict) -> str:
    if verdict.action is Action.DEMOTE:
        return f"would be below {percent(verdict.rule.demote_threshold)}"
    return f"above {percent(verdict.rule.threshold)}"


def _obstacles(verdict: Verdict) -> Iterable[str]:
    rule = verdict.rule
    if verdict.state is Candidacy.CANDIDATE:
        return
    for status, words in (
        (BucketStatus.MISSING, "not enough data for"),
        (BucketStatus.IDLE, f"database busy for less than {rule.floor:g} s a day on"),
        (BucketStatus.ABSENT, "not in this database on"),
    ):
        marked = [bucket for bucket in verdict.buckets if bucket.status is status]
        if marked:
            yield f"{words} {_list(marked)}"
    if verdict.state is Candidacy.UNKNOWN and verdict.coverage < rule.coverage:
        yield f"coverage of the window is {verdict.coverage:.3f}, the rule wants {rule.coverage:g}"


def _list(buckets: list[BucketResult]) -> str:
    named = ", ".join(bucket.first.isoformat() for bucket in buckets[:_LISTED])
    more = len(buckets) - _LISTED
    return f"{named} and {more} more" if more > 0 else named


def _unit(verdict: Verdict) -> str:
    return "day" if verdict.rule.bucket is Bucket.DAY else "week"


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def percent(share: float) -> str:
    """A share of 0 to 1 as people read it everywhere: 0.4167 as 41.7%."""
    return f"{share:.1%}"
