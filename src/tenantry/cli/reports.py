"""The rows of `usage`, `candidates` and `top`: plain functions from values to rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final

from tenantry.cli import format
from tenantry.cli.render import OutputColumn, plain
from tenantry.ids import TAG_PREFIX, tag
from tenantry.operations.usage import Overview, TenantUsage
from tenantry.promotion import Action, Candidacy, Verdict, reasons
from tenantry.usage.sampler import Activity, SampledSessions
from tenantry.usage.shares import Shares

_BLOCKS: Final = " ▏▎▍▌▋▊▉█"
_SPARKS: Final = "▁▂▃▄▅▆▇█"
_BAR: Final = 20
#: Below this, nobody minds that the ledger and the witness differ.
_SMALL: Final = 0.02


def bar(share: float | None, width: int = _BAR) -> str:
    """A share as a bar of `width` characters at most."""
    eighths = round(min(max(share or 0.0, 0.0), 1.0) * width * 8)
    return "█" * (eighths // 8) + (_BLOCKS[eighths % 8] if eighths % 8 else "")


def spark(shares: Sequence[float | None] | None) -> str:
    """One character a day, 0 to 100 %; a day that is not known is a dot."""
    return "".join("·" if share is None else _SPARKS[min(7, int(share * 8))] for share in shares or ())


TENANT_COLUMNS: Final = (
    OutputColumn("tenant", text=lambda tenant: "(nobody's)" if tenant is None else plain(tenant), whole=True),
    OutputColumn("database"),
    OutputColumn("share", "LAST DAY", right=True, text=format.share),
    OutputColumn("bar", "", text=str),
    OutputColumn("days", "WINDOW", text=spark),
    OutputColumn("today", right=True, text=format.share),
    OutputColumn("witness", right=True, text=format.share),
    OutputColumn("storage", right=True, text=format.share),
    OutputColumn("streak", right=True),
    OutputColumn("state"),
    OutputColumn("disagrees"),
)
DAY_COLUMNS: Final = (
    OutputColumn("day"),
    OutputColumn("database"),
    OutputColumn("share", right=True, text=format.share),
    OutputColumn("bar", "", text=str),
    OutputColumn("busy_seconds", "BUSY S", right=True),
    OutputColumn("total_seconds", "TOTAL S", right=True),
    OutputColumn("coverage", right=True, text=format.share),
    OutputColumn("commits", right=True),
    OutputColumn("rollbacks", right=True),
    OutputColumn("errors", right=True),
    OutputColumn("source"),
)
CANDIDATE_COLUMNS: Final = (
    OutputColumn("tenant", whole=True),
    OutputColumn("database"),
    OutputColumn("action"),
    OutputColumn("state"),
    OutputColumn("share", right=True, text=format.share),
    OutputColumn("streak", right=True),
    OutputColumn("needed", right=True),
    OutputColumn("to_go", "DAYS TO GO", right=True),
    OutputColumn("coverage", right=True, text=format.share),
    OutputColumn("shares", "WINDOW", text=spark),
    OutputColumn("reasons", "WHY", text=lambda found: found[0] if found else "-"),
    OutputColumn("next"),
)
TOP_COLUMNS: Final = (
    OutputColumn("database"),
    OutputColumn("tenant", whole=True),
    OutputColumn("share", right=True, text=format.share),
    OutputColumn("bar", "", text=str),
    OutputColumn("active", right=True),
    OutputColumn("waiting", right=True),
    OutputColumn("waits"),
    OutputColumn("idle_in_transaction", "IDLE IN TX", right=True),
    OutputColumn("connections", right=True),
    OutputColumn("longest_seconds", "LONGEST S", right=True),
)


def tenant_rows(found: Overview) -> list[dict[str, Any]]:
    """One row a tenant, the largest first; then what is nobody's, a row a database."""
    loaded, seen, stored, today = found.shares, found.witnessed, found.stored, found.today
    rows: list[dict[str, Any]] = []
    for verdict in found.verdicts:
        days = _shares(loaded, verdict, today)
        now = loaded.so_far(verdict.tenant, verdict.database, today)
        there = seen.get(verdict.database)
        witness = there.share(verdict.tenant) if there is not None else None
        storage = stored.get(verdict.database)
        differs = there is not None and now is not None and there.disagrees(verdict.tenant, now)
        rows.append(
            {
                "tenant": verdict.tenant,
                "database": verdict.database,
                "share": days[-1],
                "bar": bar(days[-1] if days[-1] is not None else now),
                "days": days,
                "today": now,
                "witness": witness,
                "storage": storage[1].share(verdict.tenant) if storage else None,
                "streak": verdict.streak,
                "state": str(verdict.state),
                "disagrees": differs and max(now or 0.0, witness or 0.0) > _SMALL,
            }
        )
    rows.sort(key=lambda row: (-(row["share"] or 0.0), -(row["today"] or 0.0), row["tenant"]))
    nobody = [_nobody(loaded, name, seen.get(name), today) for name in _databases(loaded)]
    return [*rows, *nobody]


def _shares(loaded: Shares, verdict: Verdict, today: date) -> list[float | None]:
    """The tenant's share on each of the window's days, where it lives now."""
    days = loaded.days(verdict.tenant, verdict.database)
    window = [today - timedelta(days=ago) for ago in range(verdict.rule.window, 0, -1)]
    found = [days.get(day) for day in window]
    return [day.busy / day.total if day is not None and day.total else None for day in found]


def _databases(loaded: Shares) -> list[str]:
    return sorted({database for database, _ in loaded.totals})


def _nobody(loaded: Shares, database: str, there: SampledSessions | None, today: date) -> dict[str, Any]:
    """What no tenant used: load that did not come through a router."""
    window = [loaded.first + timedelta(days=n) for n in range((today - loaded.first).days)]
    totals = [loaded.totals.get((database, day)) for day in window]
    now = loaded.totals.get((database, today))
    shares = [total.nobodys if total is not None else None for total in totals]
    share = shares[-1] if shares else None
    return dict.fromkeys(column.key for column in TENANT_COLUMNS) | {
        "database": database,
        "share": share,
        "bar": bar(share),
        "days": shares,
        "today": now.nobodys if now is not None else None,
        "witness": there.share("") if there is not None else None,
        "disagrees": False,
    }


def day_rows(found: TenantUsage) -> list[dict[str, Any]]:
    """One row for each day and database that the tenant used; today's as far as it has come."""
    loaded, today = found.shares, found.today
    rows = []
    for (_, database, day, source), used in sorted(loaded.used.items(), key=lambda item: item[0][2]):
        total = loaded.totals.get((database, day))
        if total is None or total.source != source or not (found.first <= day < found.until or day == today):
            continue
        whole = total.executing if day == today else total.whole
        busy = total.charged(used)
        share = busy / whole if whole else None
        rows.append(
            {
                "day": day,
                "database": database,
                "share": share,
                "bar": bar(share),
                "busy_seconds": round(busy, 3),
                "total_seconds": None if whole is None else round(whole, 3),
                "coverage": total.coverage,
                "commits": used.commits,
                "rollbacks": used.rollbacks,
                "errors": used.errors,
                "source": source if day != today else f"{source}, so far",
            }
        )
    return rows


def candidate_rows(near: Sequence[Verdict]) -> list[dict[str, Any]]:
    """One row a tenant that is anywhere near the rule."""
    return [
        {
            "tenant": verdict.tenant,
            "database": verdict.database,
            "action": str(verdict.action),
            "state": str(verdict.state),
            "share": verdict.share,
            "streak": verdict.streak,
            "needed": verdict.needed,
            "to_go": verdict.to_go,
            "coverage": verdict.coverage,
            "shares": [bucket.share for bucket in verdict.buckets],
            "reasons": list(reasons(verdict)),
            "next": next_command(verdict),
        }
        for verdict in near
    ]


def next_command(verdict: Verdict) -> str | None:
    """The command that a candidate's operator runs next."""
    if verdict.state is not Candidacy.CANDIDATE:
        return None
    verb = "promote" if verdict.action is Action.PROMOTE else "demote"
    target = " --to DATABASE" if verdict.action is Action.PROMOTE else ""
    return f"tenantry {verb} {verdict.tenant}{target} --plan"


def top_rows(
    seen: Mapping[str, Sequence[Activity]], queued: Mapping[tuple[str, str], int]
) -> list[dict[str, Any]]:
    """One row for each database and tenant with a session or with callers that wait, the most active first.

    Args:
        seen: the sessions, by database.
        queued: callers that wait in the routers, by database and tenant.
    """
    rows = []
    for database, activity in seen.items():
        whole = sum(some.sessions for some in activity if some.active)
        # Sessions carry a tag, which is a hash where the id is long; the routers say the id itself.
        named = {
            tag(tenant).removeprefix(TAG_PREFIX): tenant for name, tenant in queued if name == database and tenant
        }
        tags = {some.tenant for some in activity if some.state != "hidden"} | set(named)
        if (database, "") in queued:
            tags.add("")
        for key in tags:
            tenant = named.get(key, key)
            mine = [some for some in activity if some.tenant == key and some.state != "hidden"]
            waits: Counter[str] = Counter()
            for some in mine:
                if some.active:
                    waits[some.wait] += some.sessions
            active = waits.total()
            share = active / whole if whole else None
            rows.append(
                {
                    "database": database,
                    "tenant": tenant or None,
                    "share": share,
                    "bar": bar(share),
                    "active": active,
                    "waiting": queued.get((database, tenant), 0),
                    "waits": dict(waits.most_common()),
                    "idle_in_transaction": sum(
                        some.sessions for some in mine if some.state.startswith("idle in transaction")
                    ),
                    "connections": sum(some.sessions for some in mine),
                    "longest_seconds": round(max((s.longest for s in mine if s.active), default=0.0), 3),
                }
            )
    return sorted(
        rows,
        key=lambda row: (
            -row["active"],
            -row["waiting"],
            -row["connections"],
            row["database"],
            row["tenant"] or "",
        ),
    )
