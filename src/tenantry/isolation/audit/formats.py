"""An audit's report for people, programs, code scanners and GitHub. Pure."""

from __future__ import annotations

from typing import Any

from tenantry.isolation.audit import AuditReport, every_rule
from tenantry.isolation.audit.finding import AuditFinding, Rule, Severity

HEADER = ("code", "severity", "object", "finding", "fix")
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "note"}
_ANNOTATIONS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "notice"}


def rows(report: AuditReport) -> list[tuple[str, str, str, str, str]]:
    """Plain rows, in the order of `HEADER`."""
    return [(f.rule.code, f.rule.severity.value, f.object, f.message, script(f)) for f in report.findings]


def script(finding: AuditFinding) -> str:
    """The fix as one text for psql."""
    return "".join(f"{statement};\n" for statement in finding.fix).rstrip("\n")


def to_json(report: AuditReport) -> dict[str, Any]:
    """The whole report with stable keys."""
    return {
        "clean": report.clean,
        "tables": report.tables,
        "findings": [_finding(finding) for finding in report.findings],
        "accepted": [finding.key for finding in report.accepted],
        "stale": list(report.stale),
        "unchecked": list(report.unchecked),
    }


def to_sarif(report: AuditReport, *, artifact: str = "database") -> dict[str, Any]:
    """SARIF 2.1.0.

    Args:
        artifact: the file that scanners shall hang the findings on, for example the schema's dump.
    """
    place = {"artifactLocation": {"uri": artifact}, "region": {"startLine": 1}}
    driver = {
        "name": "tenantry rls audit",
        "rules": [_descriptor(rule) for rule, _ in every_rule()],
    }
    results = [_result(finding, place) for finding in report.findings]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": results}],
    }


def to_github(report: AuditReport) -> list[str]:
    """Workflow commands that GitHub shows as annotations."""
    return [
        f"::{_ANNOTATIONS[f.rule.severity]} "
        f"title={_property(f'{f.rule.code} {f.rule.name}')}::{_data(f'{f.object}: {f.message}')}"
        for f in report.findings
    ]


def _descriptor(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": rule.hurts},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "help": {"text": f"docs/reference/audit/{rule.code}.md"},
    }


def _result(finding: AuditFinding, place: dict[str, Any]) -> dict[str, Any]:
    logical = [{"fullyQualifiedName": finding.object}]
    return {
        "ruleId": finding.rule.code,
        "level": _LEVELS[finding.rule.severity],
        "message": {"text": f"{finding.object}: {finding.message}"},
        "partialFingerprints": {"tenantry/v1": finding.key},
        "locations": [{"physicalLocation": place, "logicalLocations": logical}],
    }


def _finding(finding: AuditFinding) -> dict[str, Any]:
    return {
        "code": finding.rule.code,
        "name": finding.rule.name,
        "severity": finding.rule.severity.value,
        "object": finding.object,
        "key": finding.key,
        "message": finding.message,
        "hurts": finding.rule.hurts,
        "fix": list(finding.fix),
    }


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
