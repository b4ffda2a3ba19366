"""Whether a report settles that tenants are isolated."""

from __future__ import annotations

from tenantry.isolation.attacks import Report


class IsolationBroken(AssertionError):
    """A tenant reached another's rows, or the check could not prove that it doesn't.

    Attributes:
        report: all that was tried.
    """

    def __init__(self, report: Report) -> None:
        self.report = report
        what = "tenants are not isolated" if report.broken else "this check proves nothing yet"
        super().__init__(f"{what}: {report}")


def settled(report: Report) -> Report:
    """The report, if everything held and something was tried.

    Raises:
        IsolationBroken: otherwise.
    """
    if not report.passed:
        raise IsolationBroken(report)
    return report
