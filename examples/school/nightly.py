"""The nightly job: `python -m examples.school.nightly 2026-11-01` writes November's invoices."""

from __future__ import annotations

import asyncio
import datetime
import sys

from examples.school.app import CONFIG
from tenantry import Router, ScopedConnection, TenantId
from tenantry.jobs import JobReport, each_tenant

_INVOICES = """
    INSERT INTO invoices (student_id, month, cents)
    SELECT student_id, $1, sum(cents) FROM lessons
    WHERE day >= $1 AND day < $1 + interval '1 month' GROUP BY student_id
    ON CONFLICT (tenant_id, month, student_id) DO UPDATE SET cents = excluded.cents
"""


async def write_invoices(router: Router, month: datetime.date) -> JobReport:
    """Every centre's invoices of a month, named by its first day. Running it again changes nothing."""

    async def of_one(conn: ScopedConnection, tenant: TenantId) -> None:
        await conn.execute(_INVOICES, month)

    return await each_tenant(router, of_one, concurrency=2)


async def main(month: datetime.date) -> None:
    """Once, with a router of its own."""
    async with Router.open(CONFIG) as router:
        done = await write_invoices(router, month)
    print(f"{done.done} centres invoiced")
    done.raise_failures()


if __name__ == "__main__":
    asyncio.run(main(datetime.date.fromisoformat(sys.argv[1])))
