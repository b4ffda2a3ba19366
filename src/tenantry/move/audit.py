"""The audit after the flip: all rows of the new home against the old one, which the way back keeps current."""

from __future__ import annotations

from tenantry.move import failpoints, follow
from tenantry.move.verify import verify
from tenantry.move.work import Work


async def audit(work: Work) -> int:
    """Compare both sides in the other direction. Returns the rows.

    Raises:
        DataDiffers: they differ; the caller takes the tenant back.
    """
    failpoints.reach("K15")
    await follow.catch_up(work, work.back)
    return await verify(work, work.back)
