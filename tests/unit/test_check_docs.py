"""The check of the documentation can fail, and does when there is nothing to check."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_docs


def test_documentation_that_is_not_there_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    assert check_docs.main() == 1
    assert "every_link has found nothing to look at" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("page", "text", "finding"),
    [
        ("README.md", "[x](docs/nothing.md)", "no such file"),
        ("docs/tutorial/x.md", "[x](../../README.md)", "leaves the site"),
        ("docs/tutorial/x.md", "# X", "has no place in mkdocs.yml"),
        ("docs/reference/events.md", "# Events", "not what the program says"),
        ("docs/reference/api.md", "::: tenantry.ids.Kind", "no `::: …Placement`"),
        ("newsfragments/a.feature.md", "Text", "is not TOPIC.md"),
        ("newsfragments/empty.md", "\n", "is not TOPIC.md"),
        ("README.md", "# A b\n[x](#a-c)", "no such heading"),
        ("README.md", "`tenantry tenants lsit`", "no such command"),
        ("README.md", "`tenantry tenants list --nonsense`", "no option --nonsense"),
        ("README.md", "```python\nfrom tenantry import Nothing\n```", "has no Nothing"),
        ("README.md", "```python\nawait router.nothing()\n```", "a router has no nothing"),
        ("README.md", "```yaml\nrouter: {nothing: 1}\n```", "unknown key"),
        ("README.md", "`tests/nothing.py`", "there is no tests/nothing.py"),
        ("README.md", "tenantry_nothing_total", "nobody exports"),
        ("ARCHITECTURE.md", "`move/nothing.py`", "there is no move/nothing.py"),
        ("docs/explanation/guarantees.md", "| G1 | x | |\n", "G1 names no test"),
        (
            "docs/explanation/guarantees.md",
            "| G1 | x | `tests/nothing.py::test_x` |\n",
            "there is no tests/nothing.py::test_x",
        ),
        ("docs/explanation/guarantees.md", "| G2 | x | |\n", "no row for G1"),
        ("docs/explanation/guarantees.md", "| G99 | x | |\n", "there is no guarantee G99"),
        ("docs/explanation/security.md", "no table", "not the tables that the attacks make"),
        (
            "docs/explanation/security.md",
            "<!-- attacks --><!-- /attacks --><!-- availability --><!-- /availability -->",
            "not the tables that the attacks make",
        ),
        ("docs/reference/config.md", "| `router.queue` | 7 | x |", "the default is 1000"),
        ("docs/reference/config.md", "| `router.nothing` | 7 | x |", "there is no key"),
        ("docs/reference/errors.md", "| `ConfigError` | 1 | x |", "ends a command with 2"),
        ("docs/reference/errors.md", "| `Nothing` | 1 | x |", "there is no error"),
        ("docs/reference/metrics.md", "| `tenantry_control_up{tenant}` | x |", "has the labels"),
        ("docs/reference/cli.md", "### `tenantry nothing`\n", "there is no command"),
        ("docs/reference/cli.md", "### `tenantry apply`\n| `--nothing` | x |\n", "has no --nothing"),
        ("docs/reference/cli.md", "### `tenantry apply`\n", "--plan has no row"),
    ],
)
def test_each_kind_of_mistake_is_found(
    page: str,
    text: str,
    finding: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / page).write_text(text)
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    assert check_docs.main() == 1
    assert any(finding in line and line.startswith(page) for line in capsys.readouterr().err.splitlines())
