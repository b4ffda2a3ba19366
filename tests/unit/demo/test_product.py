"""The demo's customers and its invented past are what the story says of them."""

from __future__ import annotations

from datetime import date

import pytest

from tenantry.demo.load import quantile
from tenantry.demo.product import HEAVY, OWNED, customers
from tenantry.demo.stages.rule import LABEL, invented
from tenantry.promotion import PromotionRule


def test_forty_customers_of_which_one_makes_sixty_percent_and_one_has_its_own_database() -> None:
    found = customers()
    assert len(found) == len({c.id for c in found}) == len({c.name for c in found}) == 40
    assert sum(c.part for c in found) == pytest.approx(1)
    assert {c.name: c.part for c in found}[HEAVY] == 0.60
    assert OWNED in {c.name for c in found}
    assert max(c.part for c in found if c.name != HEAVY) < 0.1


def test_the_invented_past_says_so_and_is_consistent() -> None:
    today = date(2026, 3, 1)
    rows = list(invented(PromotionRule(), today))
    assert LABEL == "simulated"
    assert len({row.day for row in rows}) == PromotionRule().window
    assert max(row.day for row in rows) < today
    for day in {row.day for row in rows}:
        of_day = [row for row in rows if row.day == day]
        (total,) = {row.total_seconds for row in of_day}
        assert total is not None
        assert sum(row.busy_seconds for row in of_day) < total
        assert max(row.busy_seconds for row in of_day) > PromotionRule().threshold * total


def test_quantiles_are_values_that_were_measured() -> None:
    assert quantile([], 0.5) == 0.0
    assert quantile([1.0], 0.99) == 1.0
    assert quantile([float(n) for n in range(100)], 0.99) == 99.0
    assert quantile([float(n) for n in range(100)], 0.5) == 50.0
