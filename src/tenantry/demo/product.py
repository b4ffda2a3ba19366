"""The demo's product and its customers: who they are, and how much of the traffic each of them makes. Pure."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple
from uuid import UUID, uuid5

#: The product's tables, parents first.
TABLES: Final = ("tenants", "routes", "consumers", "request_log")

#: The one that makes most of the traffic, and the one that has a database of its own.
HEAVY: Final = "sequoia"
OWNED: Final = "mangrove"
HEAVY_PART: Final = 0.60
OWNED_PART: Final = 0.05

_SPACE: Final = UUID("6f0f6c3e-7a0c-5d53-9b0e-0a3f5a6f4c11")
# fmt: off
_OTHERS: Final = (
    "alder", "apple", "ash", "aspen", "bamboo", "baobab", "beech", "birch", "cedar", "cherry", "chestnut",
    "cypress", "elder", "elm", "fig", "fir", "hawthorn", "hazel", "hickory", "holly", "juniper", "larch",
    "laurel", "linden", "magnolia", "mahogany", "maple", "oak", "olive", "pear", "pine", "plum", "poplar",
    "rowan", "spruce", "sycamore", "walnut", "willow",
)
# fmt: on


class Customer(NamedTuple):
    """One tenant of the product."""

    name: str
    id: UUID
    plan: str
    part: float
    """Of the traffic, 0 to 1."""
    routes: int
    consumers: int
    logged: int
    """Rows in the request log at the start."""


def text(name: str) -> str:
    """One of the demo's .sql files."""
    return files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


@cache
def customers() -> tuple[Customer, ...]:
    """All 40: the heavy one first, then the one with a database of its own, then the others, busiest first."""
    weights = [1 / (3 + place) for place in range(len(_OTHERS))]
    rest = (1 - HEAVY_PART - OWNED_PART) / sum(weights)
    return (
        _customer(HEAVY, "enterprise", HEAVY_PART, routes=1200, consumers=200, logged=30_000),
        _customer(OWNED, "enterprise", OWNED_PART, routes=100, consumers=40, logged=3_000),
        *(
            _customer(name, "basic", weight * rest, routes=30, consumers=10, logged=300 + 20 * place)
            for place, (name, weight) in enumerate(zip(_OTHERS, weights, strict=True))
        ),
    )


def named(name: str) -> Customer:
    """The customer of that name."""
    return next(customer for customer in customers() if customer.name == name)


def _customer(name: str, plan: str, part: float, *, routes: int, consumers: int, logged: int) -> Customer:
    return Customer(name, uuid5(_SPACE, name), plan, part, routes, consumers, logged)
