"""The audit's report for people and programs, and baselines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenantry.isolation.audit import AuditFinding, AuditReport, Rule, Severity, baseline, every_rule, formats

RULE = Rule("TN101", "rls-off", Severity.ERROR, "it hurts")
NOTICE = Rule("TN306", "unique-telling", Severity.NOTICE, "it tells")
REPORT = AuditReport(
    findings=(
        AuditFinding(RULE, "public.orders", "row-level security: off,\n100 %", ("ALTER TABLE a", "B")),
        AuditFinding(NOTICE, "public.t.names", "is unique", ()),
    ),
    accepted=(),
    stale=(),
    tables=3,
    unchecked=(),
)
PAGES = Path(__file__).parents[3] / "docs" / "reference" / "audit"


def test_rows_are_plain_and_hold_the_fix_as_a_script() -> None:
    first, second = formats.rows(REPORT)
    assert first == (
        "TN101",
        "error",
        "public.orders",
        "row-level security: off,\n100 %",
        "ALTER TABLE a;\nB;",
    )
    assert second[-1] == ""
    assert len(first) == len(formats.HEADER)


def test_json_has_stable_keys_and_survives_a_round_trip() -> None:
    found = formats.to_json(REPORT)
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"clean", "tables", "findings", "accepted", "stale", "unchecked"}
    assert set(found["findings"][0]) == {
        "code",
        "name",
        "severity",
        "object",
        "key",
        "message",
        "hurts",
        "fix",
    }
    assert found["findings"][0]["key"] == "TN101 public.orders"
    assert found["clean"] is False


def test_sarif_names_every_rule_and_gives_each_finding_a_place_and_a_fingerprint() -> None:
    found = formats.to_sarif(REPORT, artifact="schema.sql")
    assert found["version"] == "2.1.0"
    (run,) = found["runs"]
    known = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert known == {rule.code for rule, _ in every_rule()}
    assert [result["level"] for result in run["results"]] == ["error", "note"]
    for result in run["results"]:
        assert result["ruleId"] in known
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "schema.sql"
    assert run["results"][0]["partialFingerprints"] == {"tenantry/v1": "TN101 public.orders"}
    json.dumps(found)


def test_github_annotations_are_one_line_each_and_escaped() -> None:
    first, second = formats.to_github(REPORT)
    assert first == ("::error title=TN101 rls-off::public.orders: row-level security: off,%0A100 %25")
    assert second.startswith("::notice title=TN306")


def test_a_baseline_accepts_what_it_names_and_survives_comments() -> None:
    text = baseline.render(finding.key for finding in REPORT.findings) + "\nTN999 public.x  # because\n"
    assert baseline.parse(text) == ("TN101 public.orders", "TN306 public.t.names", "TN999 public.x")


@pytest.mark.parametrize("rule", [rule for rule, _ in every_rule()], ids=lambda rule: rule.code)
def test_every_rule_has_its_page(rule: Rule) -> None:
    page = (PAGES / f"{rule.code}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {rule.code}: {rule.name}\n")
    assert f"Severity: {rule.severity.value}" in page
    assert rule.hurts in " ".join(page.split())


def test_no_page_is_without_its_rule_and_no_code_is_used_twice() -> None:
    codes = [rule.code for rule, _ in every_rule()]
    assert len(codes) == len(set(codes))
    assert {page.stem for page in PAGES.glob("TN*.md")} == set(codes)
