"""The rule: more than 40 % of the shared database for two weeks. The past is simulated, today is real."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final

from tenantry.demo.product import HEAVY, OWNED, customers, named
from tenantry.demo.stage import Demo
from tenantry.demo.story import Section
from tenantry.demo.world import SHARED
from tenantry.promotion import Candidacy, PromotionRule, Verdict, judge, percent, reasons
from tenantry.usage import exchange, shares

#: What the ledger and every verdict call the invented past.
LABEL: Final = "simulated"
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_DATABASE_SECONDS: Final = 5 * 3600.0


async def run(demo: Demo) -> None:
    """Import a simulated past, and let the rule judge everybody."""
    rule = PromotionRule()
    section = demo.story.section("rule", "Who has outgrown the shared database")
    section.claim(
        f"A customer that takes more than {rule.threshold:.0%} of the shared database on each of {rule.window} "
        "days in a row is named, with the reasons and the command that moves it. Nobody else is."
    )
    today = datetime.now(UTC).date()
    pool = await demo.router.directory.store.pool()
    imported = await exchange.put(pool, invented(rule, today), LABEL)
    section.did(
        f"This run is seconds old, so the past {imported.days} days are SIMULATED: {imported.rows} invented rows, "
        f"labelled {LABEL!r} in the ledger, which every verdict repeats. Today's use is the real one of the load "
        "above, and does not count yet: the day is not over."
    )
    known = await shares.load(pool, today - timedelta(days=rule.window), today, top=len(customers()))
    verdicts = [judge(rule, known.history(tenant), today) for tenant in sorted(known.homes)]
    named_ones = [verdict for verdict in verdicts if verdict.state is Candidacy.CANDIDATE]
    real = demo.story.sections["use"]["heavy_share_of_time"]
    _tell(demo, section, verdicts, real)
    section.facts(
        simulated_rows=imported.rows,
        simulated_days=imported.days,
        judged=len(verdicts),
        candidates=[_name(verdict.tenant) for verdict in named_ones],
        reasons=list(reasons(named_ones[0])) if named_ones else [],
        sources=list(named_ones[0].sources) if named_ones else [],
        real_share_today=real,
    )


def _tell(demo: Demo, section: Section, verdicts: list[Verdict], real: float) -> None:
    heavy = str(named(HEAVY).id)
    named_ones = [verdict for verdict in verdicts if verdict.state is Candidacy.CANDIDATE]
    for verdict in named_ones:
        section.saw(f"{_name(verdict.tenant)}: {verdict.state}. " + "; ".join(reasons(verdict)) + ".")
        days = [bucket.share or 0.0 for bucket in verdict.buckets]
        section.quote(f"simulated days  {_spark(demo, days)}\ntoday, real     {percent(real)} of the metered time")
    others = sorted((v for v in verdicts if v not in named_ones), key=lambda v: -(v.share or 0.0))
    section.saw(f"The next one, {_name(others[0].tenant)}: {others[0].state}. {reasons(others[0])[0]}.")
    section.saw("What an operator runs next:")
    section.quote(f"tenantry promote {heavy} --to {HEAVY}")
    section.check(
        [verdict.tenant for verdict in named_ones] == [heavy] and named_ones[0].sources == (LABEL,),
        f"of {len(verdicts)} customers judged the rule names {HEAVY} alone, and says that its past is simulated",
    )


def invented(rule: PromotionRule, today: date, *, seed: int = 11) -> Iterator[exchange.HistoryRow]:
    """A past in which the heavy customer takes 52 to 66 % of the shared database, day by day."""
    dice = random.Random(seed)  # noqa: S311  (an invented past)
    sharing = [customer for customer in customers() if customer.name != OWNED]
    rest = sum(customer.part for customer in sharing if customer.name != HEAVY)
    for back in range(rule.window, 0, -1):
        total = _DATABASE_SECONDS * dice.uniform(0.9, 1.1)
        heavy = dice.uniform(0.52, 0.66)
        for customer in sharing:
            part = heavy if customer.name == HEAVY else 0.95 * (1 - heavy) * customer.part / rest
            yield exchange.HistoryRow(
                today - timedelta(days=back), SHARED, str(customer.id), round(total * part, 3), round(total, 3)
            )


def _name(tenant: str) -> str:
    return next(customer.name for customer in customers() if str(customer.id) == tenant)


def _spark(demo: Demo, values: list[float]) -> str:
    """Shares from 0 to 100 % as one character each, or as numbers where the terminal can't draw."""
    if demo.story.teller.full == "#":
        return " ".join(f"{value:.0%}" for value in values)
    return "".join(_SPARKS[min(len(_SPARKS) - 1, int(value * len(_SPARKS)))] for value in values)
