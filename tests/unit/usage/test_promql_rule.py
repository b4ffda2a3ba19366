"""The rule in PromQL gives the verdicts of the rule in Python, over random histories."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tenantry.ids import Kind
from tenantry.promotion import Candidacy, PromotionRule, judge
from tenantry.usage.values import Day, History
from tests.support.programs import require_program

RULES = Path(__file__).parents[3] / "config" / "prometheus" / "rules" / "recording.yml"
TENANTS, DAYS = 8, 16
TODAY = date(1970, 1, 1) + timedelta(days=DAYS - 1)
#: What spoils a tenant's day: exactly at the threshold, below it, or nothing known.
SPOILS = (0.40, 0.399999999, 0.1, None)


class Fleet(NamedTuple):
    """What is exported of some tenants of one database; day 0 begins at time 0."""

    shares: dict[str, list[float | None]]
    totals: list[float]
    """By day."""
    coverage: list[float | None]
    """By hour; None: nothing was exported."""


#: Of each fleet: how likely a tenant's day is spoilt, a day idle, the least hourly coverage, an hour not exported.
KINDS = (
    (0.02, 0.0, 1.0, 0.0),
    (0.0, 0.1, 1.0, 0.0),
    (0.02, 0.0, 0.95, 0.0),
    (0.02, 0.0, 0.94, 0.0),
    (0.0, 0.0, 0.89, 0.0),
    (0.02, 0.0, 1.0, 0.03),
    (0.1, 0.0, 1.0, 0.0),
    (0.02, 0.02, 0.95, 0.0),
)


def fleet(chance: random.Random, spoilt: float, idle: float, least: float, gone: float) -> Fleet:
    shares: dict[str, list[float | None]] = {
        f"t{number}": [
            chance.choice(SPOILS) if chance.random() < spoilt else chance.choice([0.400000001, 0.41, 0.7])
            for _ in range(DAYS)
        ]
        for number in range(TENANTS)
    }
    totals = [chance.choice([300.0, 590.0]) if chance.random() < idle else 8640.0 for _ in range(DAYS)]
    coverage = [
        None if chance.random() < gone else chance.choice([least, 1.0]) if least < 0.95 else least
        for _ in range(DAYS * 24)
    ]
    return Fleet(shares, totals, coverage)


def wanted(one: Fleet, today: date) -> dict[str, Candidacy]:
    """By the rule in Python."""
    found = {}
    for tenant, shares in one.shares.items():
        days = {}
        for number, (share, total) in enumerate(zip(shares, one.totals, strict=True)):
            hours = [hour or 0.0 for hour in one.coverage[number * 24 : number * 24 + 24]]
            day = date(1970, 1, 1) + timedelta(days=number)
            # A day of which too little is known for a total has no share; the fleet reported all the same.
            known = None if share is None else total
            days[day] = Day(day, (share or 0.0) * total, known, sum(hours) / 24)
        found[tenant] = judge(PromotionRule(), History(tenant, "shared", Kind.SHARED, None, days), today).state
    return found


def series(name: str, values: Iterable[float | None], **labels: str) -> dict[str, str]:
    inner = ", ".join(f'{key}="{value}"' for key, value in {"job": "tenantry", **labels}.items())
    return {
        "series": f"{name}{{{inner}}}",
        "values": " ".join("_" if value is None else repr(value) for value in values),
    }


def exported(one: Fleet) -> list[dict[str, str]]:
    """A sample each half hour. On the very hour and midnight it still says what it said before."""
    halves = DAYS * 48
    found = []
    for tenant, shares in one.shares.items():
        told = [(half - 1) // 48 - 1 for half in range(halves)]  # the day before the one that the sample is of
        found.append(
            series(
                "tenantry_tenant_share_ratio",
                (shares[day] if day >= 0 else None for day in told),
                tenant=tenant,
                database="shared",
            )
        )
    hours = [(half - 1) // 2 - 1 for half in range(halves)]
    found.append(
        series("tenantry_ledger_coverage_ratio", (one.coverage[hour] if hour >= 0 else None for hour in hours))
    )
    busy = [0.0]
    for half in range(halves - 1):
        busy.append(busy[-1] + one.totals[half // 48] / 48)
    found.append(series("tenantry_database_busy_seconds_total", busy, database="shared"))
    return found


def asked(one: Fleet, hour: int, today: date) -> dict[str, Any]:
    """The question at that hour since time 0, and the answer that is wanted."""
    name = "tenant_database:tenantry_promotion_candidate:bool"
    return {
        "expr": f"{name} == 1",
        "eval_time": f"{hour}h",
        "exp_samples": [
            {"labels": f'{name}{{tenant="{tenant}", database="shared"}}', "value": 1}
            for tenant, state in wanted(one, today).items()
            if state is Candidacy.CANDIDATE
        ],
    }


def test_promql_and_python_call_the_same_tenants_candidates_over_random_histories(tmp_path: Path) -> None:
    chance = random.Random(14)
    fleets = [fleet(chance, *kind) for kind in KINDS]
    midnight = (DAYS - 1) * 24
    tests = [
        {
            "interval": "30m",
            "input_series": exported(one),
            # At midnight the day that has just ended is not exported yet: it is still the day before's verdict.
            "promql_expr_test": [
                asked(one, midnight, TODAY - timedelta(days=1)),
                asked(one, midnight + 12, TODAY),
            ],
        }
        for one in fleets
    ]
    file = tmp_path / "tests.yml"
    groups = ["tenantry-shares", "tenantry-promotion"]
    settings = {"rule_files": [str(RULES)], "evaluation_interval": "12h", "group_eval_order": groups}
    file.write_text(yaml.safe_dump({**settings, "tests": tests}))

    done = subprocess.run(
        [require_program("promtool"), "test", "rules", str(file)], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr
    every = [state for one in fleets for state in wanted(one, TODAY).values()]
    assert min(every.count(Candidacy.CANDIDATE), len(every) - every.count(Candidacy.CANDIDATE)) >= 12
    assert {Candidacy.BUILDING, Candidacy.NOT_CANDIDATE, Candidacy.UNKNOWN} <= set(every)
