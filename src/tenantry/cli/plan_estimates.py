"""What a plan says of the future: time, pause, room, and what will be made. For people, and with stable keys."""

from __future__ import annotations

from typing import Any

from tenantry.cli import format
from tenantry.move import MovePlan


def plan_estimates(plan: MovePlan, *, as_json: bool) -> dict[str, Any]:
    """The plan's estimates: ranges as two numbers in JSON, in words otherwise."""
    said, room, made = plan.estimate, plan.disk_space, plan.creation
    facts: dict[str, Any] = {"creates": None if made is None else made.name}
    if said is not None:
        seconds, pause = ([round(value, 3) for value in pair] for pair in (said.seconds, said.pause))
        facts |= {
            "time_seconds": seconds
            if as_json
            else f"{format.duration(seconds[0])} to {format.duration(seconds[1])}",
            "pause_seconds": pause if as_json else f"{pause[0]:.2g} to {pause[1]:.2g}",
            "estimated_from": said.origin,
        }
    if room is not None:
        facts |= {"disk_needed_bytes": room.needed, "disk_free_bytes": room.free, "disk_known_from": room.origin}
        if not as_json and room.free is None:
            facts["disk_free_bytes"] = "unknown"
    return facts
