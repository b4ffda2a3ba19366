"""A server version with a known hole in row-level security."""

from __future__ import annotations

from collections.abc import Iterator

from tenantry.isolation.audit.finding import Found, Rule, Severity, Subject

RULE = Rule(
    "TN502",
    "server-outdated",
    Severity.ERROR,
    "Policies that are right do not hold on it.",
)


# CVE -> the first minor release of each major version that has the fix.
FIXES: dict[str, dict[int, int]] = {
    "CVE-2026-120154": {18: 7, 17: 12, 16: 16, 15: 20, 14: 25},
    "CVE-2025-8713": {17: 6, 16: 10, 15: 14, 14: 19},
    "CVE-2024-10976": {17: 1, 16: 5, 15: 9, 14: 14},
    "CVE-2024-4317": {16: 3, 15: 7},
    "CVE-2023-39418": {15: 4},
    "CVE-2023-2455": {15: 3, 14: 8},
    "CVE-2019-10130": {11: 3},
}


def check(subject: Subject) -> Iterator[Found]:
    """The server's version against the fixes; a major version older than all fixes has none."""
    major, minor = divmod(subject.catalog.version, 10000)
    open_ones = [
        cve
        for cve, fixes in FIXES.items()
        if (major in fixes and minor < fixes[major])
        or (major not in fixes and major < min(fixes) and cve != "CVE-2024-4317")
    ]
    if open_ones:
        wanted = max((FIXES[cve].get(major, 0) for cve in open_ones), default=0)
        target = f"{major}.{wanted}" if wanted else "a supported major version"
        yield Found(
            "server",
            f"PostgreSQL {major}.{minor} has {', '.join(open_ones)}; upgrade to {target} or later",
        )
