"""Decides who has outgrown the shared database. Pure: days in, a verdict out.

The rule, exactly: a tenant of a shared database is a *candidate* when its share was above the
threshold in each of the last complete buckets of the window, the window's coverage is at least the
required one, and the database was busy for at least the floor in each of those buckets. Equal to
the threshold is not above. What is not known never counts as above: of a bucket that is known in part, the
tenant is taken to have used nothing of the rest, and the database to have been as busy there as it can be. So
losing knowledge never makes a candidate; nor one for demotion, where it is the other way round.

Three answers are possible to "is it a candidate": proven, disproven, and not known. Disproven is
called *building* while the newest buckets are above (the streak), and *not* otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

from tenantry.ids import Kind
from tenantry.usage.values import MEASURED, Day, History

#: Shares are compared to this many decimals, so that the noise of adding up floats can't lift a
#: share that is exactly at the threshold above it.
DECIMALS = 9
_WEEK = 7


class Bucket(StrEnum):
    """How "two consecutive weeks" is read: each of 14 days, or each of two calendar weeks."""

    DAY = "day"
    WEEK = "week"

    @property
    def days(self) -> int:
        """Length in days."""
        return 1 if self is Bucket.DAY else _WEEK


class Action(StrEnum):
    """What the verdict is about."""

    PROMOTE = "promote"
    DEMOTE = "demote"


class Candidacy(StrEnum):
    """Is the tenant a candidate for the action?"""

    CANDIDATE = "candidate"
    BUILDING = "building"
    NOT_CANDIDATE = "not-candidate"
    UNKNOWN = "unknown"


class BucketStatus(StrEnum):
    """What one bucket says."""

    MET = "met"
    """It satisfies the rule: above the threshold for promotion, below its own one for demotion."""
    UNMET = "unmet"
    """It is known not to."""
    IDLE = "idle"
    """The database was busy for less than the floor: proves nothing, so the rule is not satisfied.
    """
    ABSENT = "absent"
    """The tenant did not live in this database yet."""
    MISSING = "missing"
    """Not enough is known to say."""


#: Buckets that prove that the rule is not satisfied, however the missing ones turn out.
_DISPROOF = frozenset({BucketStatus.UNMET, BucketStatus.IDLE, BucketStatus.ABSENT})


@dataclass(frozen=True)
class PromotionRule:
    """The rule's numbers."""

    threshold: float = 0.40
    """Share that has to be exceeded, 0 to 1."""
    window: int = 14
    """Days."""
    bucket: Bucket = Bucket.DAY
    coverage: float = 0.95
    """Least mean coverage of the window, 0 to 1."""
    floor: float = 600.0
    """Seconds of the database's busy time below which a day proves nothing."""
    demote_threshold: float = 0.20
    """Share that a dedicated tenant would have back in the shared database, below which it may
    return.
    """

    def __post_init__(self) -> None:
        """Refuse numbers that can't mean anything, as ValueError."""
        if not 0 < self.threshold < 1:
            raise ValueError(f"promotion.threshold must be between 0 and 1, not {self.threshold}")
        if not 0 <= self.demote_threshold < self.threshold:
            raise ValueError(
                f"promotion.demote ({self.demote_threshold}) must be below promotion.threshold "
                f"({self.threshold}), or a tenant would be sent to and fro"
            )
        if not 0 <= self.coverage <= 1:
            raise ValueError(f"promotion.coverage must be between 0 and 1, not {self.coverage}")
        if self.floor < 0:
            raise ValueError(f"promotion.floor must not be negative, not {self.floor}")
        if self.window < self.bucket.days or self.window % self.bucket.days:
            raise ValueError(f"promotion.window must be a whole number of {self.bucket}s, not {self.window} days")

    @property
    def needed(self) -> int:
        """Buckets that have to satisfy the rule, one after the other."""
        return self.window // self.bucket.days


class BucketResult(NamedTuple):
    """One bucket and what it says."""

    first: date
    """Its first UTC day."""
    days: int
    share: float | None
    """0 to 1; None: not known."""
    coverage: float
    """0 to 1."""
    status: BucketStatus
    sources: tuple[str, ...] = ()
    """Labels of imports that its figures come from; empty when all of it was measured."""


@dataclass(frozen=True)
class Verdict:
    """What the rule says about one tenant, and why."""

    tenant: str
    database: str
    action: Action
    state: Candidacy
    streak: int
    """Newest buckets in a row that satisfy the rule."""
    needed: int
    """Buckets that have to."""
    to_go: int
    """Days until the tenant can be a candidate at the earliest, if all goes on like that; 0 for
    candidates.
    """
    coverage: float
    """Mean coverage of the window, 0 to 1."""
    rule: PromotionRule
    buckets: tuple[BucketResult, ...]
    """Oldest first."""

    @property
    def share(self) -> float | None:
        """Share in the newest bucket, or None when it is not known."""
        return self.buckets[-1].share if self.buckets else None

    @property
    def proven_share(self) -> float | None:
        """`share`, or None when it is above the threshold by presumption only: what Prometheus may be told."""
        share = self.share
        if share is None or (share > self.rule.threshold and self.buckets[-1].status is BucketStatus.MISSING):
            return None
        return share

    @property
    def missing(self) -> tuple[BucketResult, ...]:
        """Buckets of which not enough is known."""
        return tuple(bucket for bucket in self.buckets if bucket.status is BucketStatus.MISSING)

    @property
    def sources(self) -> tuple[str, ...]:
        """Labels of the imports that the verdict leans on."""
        return tuple(sorted({source for bucket in self.buckets for source in bucket.sources}))


def window(rule: PromotionRule, today: date) -> tuple[date, ...]:
    """First days of the last complete buckets before `today` (UTC), oldest first."""
    end = today
    if rule.bucket is Bucket.WEEK:
        end = today - timedelta(days=today.weekday())  # Monday: weeks are ISO weeks
    length = rule.bucket.days
    return tuple(end - timedelta(days=length * n) for n in range(rule.needed, 0, -1))


def judge(rule: PromotionRule, history: History, today: date) -> Verdict:
    """Say whether `history`'s tenant is a candidate for promotion.

    Args:
        rule: the numbers.
        history: the tenant's days where it lives; days outside the window are ignored.
        today: the current UTC day, which is incomplete and never counted.

    Returns:
        the verdict; for a tenant that already has a database of its own its state is "not-candidate".
    """
    judged = tuple(_judge_bucket(rule, history, first) for first in window(rule, today))
    if history.kind is Kind.DEDICATED:
        judged = tuple(bucket._replace(status=BucketStatus.UNMET) for bucket in judged)
    return _verdict(rule, history, judged, Action.PROMOTE, today)


def judge_return(rule: PromotionRule, own: History, shared: History, today: date) -> Verdict:
    """Say whether a dedicated tenant could go back to a shared database (demotion advice).

    The share that counts is the one it would have there: its database's busy time over that plus
    the shared database's. It has to be below `rule.demote_threshold` in every bucket, so that a tenant near
    the promotion threshold is not sent to and fro. The floor plays no part: an idle dedicated
    database is a good reason.

    Args:
        rule: the numbers.
        own: the tenant's days in its dedicated database.
        shared: any history over the shared database that it would go to; its totals and coverage
            are used.
        today: the current UTC day.
    """
    judged = tuple(_judge_return(rule, own, shared, first) for first in window(rule, today))
    if own.kind is not Kind.DEDICATED:
        judged = tuple(bucket._replace(status=BucketStatus.UNMET) for bucket in judged)
    return _verdict(rule, own, judged, Action.DEMOTE, today)


def _days(history: History, first: date, length: int) -> list[Day | None]:
    return [history.days.get(first + timedelta(days=n)) for n in range(length)]


def _share(busy: float, total: float) -> float:
    return round(busy / total, DECIMALS) if total > 0 else 0.0


def _sources(days: list[Day | None]) -> tuple[str, ...]:
    return tuple(sorted({day.source for day in days if day and day.source != MEASURED}))


def _judge_bucket(rule: PromotionRule, history: History, first: date) -> BucketResult:
    length = rule.bucket.days
    days = _days(history, first, length)
    known = [day for day in days if day is not None and day.total is not None]
    coverage = round(sum(day.coverage for day in known) / length, DECIMALS)
    busy = sum(day.busy for day in known)
    total = sum(day.total or 0.0 for day in known)
    share = _share(busy, total) if known else None
    # The floor is a day's; of a week with unknown days, only the known ones can be held against it.
    floor = rule.floor * len(known)
    idle = total < floor
    # A day of which nothing is known may have been as busy as any; one that is known in part has a limit.
    proven = len(known) == length and sum(day.least or 0.0 for day in known) >= floor
    above = proven and _share(busy, sum(day.most or 0.0 for day in known)) > rule.threshold
    if history.since is not None and first + timedelta(days=length) <= history.since:
        status = BucketStatus.ABSENT
    elif share is None:
        status = BucketStatus.MISSING
    elif above:
        status = BucketStatus.MET
    elif coverage < rule.coverage or (share > rule.threshold and not idle):
        # What was not reported may have been this tenant's, so below is not proven; or what was not seen may have
        # been others', so above is not.
        status = BucketStatus.MISSING
    else:
        status = BucketStatus.IDLE if idle else BucketStatus.UNMET
    return BucketResult(first, length, share, coverage, status, _sources(days))


def _judge_return(rule: PromotionRule, own: History, shared: History, first: date) -> BucketResult:
    length = rule.bucket.days
    pairs = list(zip(_days(own, first, length), _days(shared, first, length), strict=True))
    own_total = both_total = coverage = 0.0
    own_most = there_least = 0.0
    known = 0
    for mine, there in pairs:
        if mine is None or there is None or mine.total is None or there.total is None:
            continue
        known += 1
        own_total += mine.total
        both_total += mine.total + there.total
        own_most += mine.most or 0.0
        there_least += there.least or 0.0
        coverage += min(mine.coverage, there.coverage)
    coverage = round(coverage / length, DECIMALS)
    share = _share(own_total, both_total) if known else None
    # What is not known is held against the return: its own database may have been as busy as it can be, the other
    # one idle.
    below = known == length and _share(own_most, own_most + there_least) < rule.demote_threshold
    if own.since is not None and first <= own.since:
        status = BucketStatus.ABSENT  # the day of the move is mixed: it says nothing about life on its own
    elif share is None or coverage < rule.coverage or (share < rule.demote_threshold and not below):
        status = BucketStatus.MISSING
    else:
        status = BucketStatus.MET if below else BucketStatus.UNMET
    return BucketResult(first, length, share, coverage, status, _sources([pair[0] for pair in pairs]))


def _streak(statuses: list[BucketStatus]) -> int:
    streak = 0
    for status in reversed(statuses):
        if status is not BucketStatus.MET:
            break
        streak += 1
    return streak


def _satisfied(rule: PromotionRule, statuses: list[BucketStatus], coverages: list[float]) -> bool:
    mean = round(sum(coverages) / len(coverages), DECIMALS)
    return all(status is BucketStatus.MET for status in statuses) and mean >= rule.coverage


def _buckets_to_go(rule: PromotionRule, statuses: list[BucketStatus], coverages: list[float]) -> int:
    """How many more buckets, satisfying the rule and fully covered, make the tenant a candidate."""
    for more in range(rule.needed):
        if _satisfied(rule, statuses[more:] + [BucketStatus.MET] * more, coverages[more:] + [1.0] * more):
            return more
    return rule.needed


def _verdict(
    rule: PromotionRule, history: History, judged: tuple[BucketResult, ...], action: Action, today: date
) -> Verdict:
    statuses = [bucket.status for bucket in judged]
    coverages = [bucket.coverage for bucket in judged]
    streak = _streak(statuses)
    if _satisfied(rule, statuses, coverages):
        state = Candidacy.CANDIDATE
    elif not _DISPROOF.isdisjoint(statuses):
        state = Candidacy.BUILDING if streak else Candidacy.NOT_CANDIDATE
    else:
        state = Candidacy.UNKNOWN
    more = _buckets_to_go(rule, statuses, coverages)
    to_go = 0
    if more:
        # The present, incomplete bucket is the first of those to come.
        last = judged[-1]
        to_go = (last.first + timedelta(days=last.days * (more + 1)) - today).days
    return Verdict(
        tenant=history.tenant,
        database=history.database,
        action=action,
        state=state,
        streak=streak,
        needed=rule.needed,
        to_go=to_go,
        coverage=round(sum(coverages) / len(coverages), DECIMALS),
        rule=rule,
        buckets=judged,
    )
