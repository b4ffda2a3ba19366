"""G13 from the ledger's hours to the verdict: losing rows of the ledger never makes a candidate."""

from __future__ import annotations

import random
from collections import Counter
from datetime import date, timedelta
from uuid import uuid4

from tenantry.ids import Kind
from tenantry.promotion import Bucket, Candidacy, PromotionRule, judge, judge_return
from tenantry.usage import shares, upkeep
from tenantry.usage.ledger import to_datetime
from tenantry.usage.meter import DAY, HOUR
from tests.integration.usage.conftest import Pool

MONDAY = date(2026, 11, 30)
MIDNIGHT = 1_795_996_800.0  # MONDAY at 00:00 UTC
DAYS = 14
FLEETS = 60
RULES = (
    PromotionRule(bucket=Bucket.DAY, window=2, floor=100.0),
    PromotionRule(bucket=Bucket.DAY, window=14, floor=0.0, coverage=0.5),
    PromotionRule(bucket=Bucket.WEEK, window=7, floor=100.0, coverage=0.8),
    PromotionRule(bucket=Bucket.WEEK, window=14, floor=0.0, coverage=0.0),
)

USE = "INSERT INTO tenantry.usage (hour, database, tenant, busy_seconds, statements) VALUES ($1, $2, $3, $4, 1)"
TOTAL = "INSERT INTO tenantry.database_usage VALUES ($1, $2, $3, 3600)"


async def lived(control: Pool, chance: random.Random) -> None:
    """Fourteen days of many databases; a few unusual hours decide much in each."""
    hours = [MIDNIGHT - DAYS * DAY + n * HOUR for n in range(DAYS * 24)]
    use, totals = [], []
    for number in range(FLEETS):
        for prefix in ("shared", "own"):
            database, tenant = f"{prefix}{number}", f"t-{prefix}{number}"
            kind = "shared" if prefix == "shared" else "dedicated"
            await control.execute("INSERT INTO tenantry.database VALUES ($1, $2, 'config')", database, kind)
            await control.execute(
                "INSERT INTO tenantry.tenant (id, database, created_at, placed_at) VALUES ($1, $2, $3, $3)",
                tenant,
                database,
                to_datetime(MIDNIGHT - 100 * DAY),
            )
            own, others = chance.choice([0.0, 40.0, 41.0, 60.0]), chance.choice([0.0, 59.0, 60.0, 500.0])
            unusual = {chance.choice(hours) for _ in range(chance.randrange(4))}
            for hour in hours:
                mine, theirs = own, others
                if hour in unusual:
                    mine, theirs = chance.choice([0.0, 41.0, 900.0]), chance.choice([0.0, 100.0, 90_000.0])
                use.append((to_datetime(hour), database, tenant, mine))
                totals.append((to_datetime(hour), database, mine + theirs))
    await control.executemany(USE, use)
    await control.executemany(TOTAL, totals)
    router = uuid4()
    await control.execute(
        "INSERT INTO tenantry.reporter (id, kind, batch, started_at, reported_until) "
        "VALUES ($1, 'router', 1, $2, $3)",
        router,
        to_datetime(hours[0]),
        to_datetime(MIDNIGHT + 60),
    )
    await control.executemany(
        "INSERT INTO tenantry.reported VALUES ($1, $2, 3600)", [(to_datetime(hour), router) for hour in hours]
    )


async def lose(control: Pool, chance: random.Random) -> None:
    """Rows of every kind go, in whole or in part."""
    hours = [to_datetime(MIDNIGHT - DAYS * DAY + n * HOUR) for n in range(DAYS * 24)]
    for number in range(FLEETS):
        for database in (f"shared{number}", f"own{number}"):
            some = chance.sample(hours, chance.choice([0, 1, 1, 2, 24]))
            if len(some) == 24:  # a day in a row
                first = chance.randrange(DAYS) * 24
                some = hours[first : first + 24]
            how = chance.randrange(3)
            if how == 0:
                await control.execute(
                    "DELETE FROM tenantry.database_usage WHERE database = $1 AND hour = ANY($2)", database, some
                )
            elif how == 1:  # what was counted after a crash is left, or a guess
                await control.execute(
                    "UPDATE tenantry.database_usage SET busy_seconds = busy_seconds * $3, covered_seconds = $4 "
                    "WHERE database = $1 AND hour = ANY($2)",
                    database,
                    some,
                    chance.choice([0.0, 0.5, 1.0]),
                    chance.choice([0.0, 1800.0]),
                )
            else:
                await control.execute(
                    "DELETE FROM tenantry.usage WHERE database = $1 AND hour = ANY($2)", database, some
                )
    await control.execute(
        "UPDATE tenantry.reported SET seconds = seconds / 2 WHERE hour = ANY($1)", chance.sample(hours, 3)
    )


async def candidates(control: Pool) -> dict[tuple[int, str, str], Candidacy]:
    """By rule, action and number of the database."""
    await upkeep.close_days(control, MIDNIGHT + 60)
    first = MONDAY - timedelta(days=DAYS)
    tenants = [f"t-{prefix}{number}" for number in range(FLEETS) for prefix in ("shared", "own")]
    loaded = await shares.load(control, first, MONDAY, tenants=tenants)
    found = {}
    for at, rule in enumerate(RULES):
        for number in range(FLEETS):
            mine, own = loaded.history(f"t-shared{number}"), loaded.history(f"t-own{number}")
            assert (mine.kind, own.kind) == (Kind.SHARED, Kind.DEDICATED)
            found[at, "promote", str(number)] = judge(rule, mine, MONDAY).state
            found[at, "demote", str(number)] = judge_return(
                rule, own, loaded.database(f"shared{number}"), MONDAY
            ).state
    return found


async def test_losing_rows_of_the_ledger_never_makes_a_candidate_for_promotion_or_demotion(control: Pool) -> None:
    chance = random.Random(13)
    await lived(control, chance)
    before = await candidates(control)
    for _ in range(4):
        await lose(control, chance)
        after = await candidates(control)

        made = [key for key, state in after.items() if state is Candidacy.CANDIDATE and before[key] is not state]
        assert made == []
        before = after
    states = Counter((action, state) for (_, action, _), state in before.items())
    for action in ("promote", "demote"):  # something is decided either way, or nothing was tried
        assert min(states[action, Candidacy.CANDIDATE], states[action, Candidacy.NOT_CANDIDATE]) > 3
