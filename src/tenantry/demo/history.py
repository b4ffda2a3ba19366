"""The history checker: holds what the databases contain against what the customers were told.

Acknowledged means present, exactly once, at the customer's home, under the customer's id. What failed may be
there or not, but never twice. Nothing else may be there.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from uuid import UUID

from tenantry.demo.load import Book, DemoLoad
from tenantry.demo.product import Customer
from tenantry.demo.world import World
from tenantry.wiring import Router


@dataclass(frozen=True, slots=True)
class Findings:
    """What the comparison found."""

    acknowledged: int
    """Writes that customers were told are done."""
    lost: int
    """Of these, those that are not there."""
    doubled: int
    """Writes that are there more than once."""
    strange: int
    """Writes that are there and that this customer never asked for."""
    unsure: int
    """Writes whose customer was told of a failure: either outcome is right."""

    @property
    def clean(self) -> bool:
        """Nothing lost, doubled or strange."""
        return not (self.lost or self.doubled or self.strange)


async def check(world: World, router: Router, load: DemoLoad) -> Findings:
    """Compare every customer's book with the database in which the directory says that it lives.

    Must not run while the load does. Reads as the superuser: no policy can hide a row from the checker.
    """
    homes: dict[str, list[tuple[Customer, Book]]] = {}
    for customer, book in zip(load.customers, load.books, strict=True):
        placement = await router.placement(customer.id)
        homes.setdefault(placement.database, []).append((customer, book))
    total = Findings(0, 0, 0, 0, 0)
    for database, living in homes.items():
        async with world.connection(database) as connection:
            logged: dict[UUID, Counter[UUID]] = {}
            for row in await connection.fetch(
                "SELECT tenant_id, operation FROM request_log WHERE operation IS NOT NULL"
            ):
                logged.setdefault(row["tenant_id"], Counter())[row["operation"]] += 1
            counted = await connection.fetch("SELECT tenant_id, sum(hits)::bigint AS hits FROM routes GROUP BY 1")
        hits = {row["tenant_id"]: row["hits"] for row in counted}
        for customer, book in living:
            found = compare(book, logged.get(customer.id, Counter()), hits.get(customer.id, 0))
            total = add(total, found)
    return total


def compare(book: Book, logged: Counter[UUID], hits: int) -> Findings:
    """One customer's book against its rows: how often each operation is there, and the sum of its counters."""
    expected = set(book.logged)
    allowed = expected | set(book.unsure_logged)
    return Findings(
        acknowledged=len(book.logged) + book.counted,
        lost=sum(1 for operation in expected if not logged[operation]) + max(0, book.counted - hits),
        doubled=sum(times - 1 for times in logged.values()) + max(0, hits - book.counted - book.unsure_counted),
        strange=sum(1 for operation in logged if operation not in allowed),
        unsure=len(book.unsure_logged) + book.unsure_counted,
    )


def add(one: Findings, other: Findings) -> Findings:
    """Two findings as one."""
    return Findings(
        one.acknowledged + other.acknowledged,
        one.lost + other.lost,
        one.doubled + other.doubled,
        one.strange + other.strange,
        one.unsure + other.unsure,
    )
