"""The check of class names finds a name that is given twice, and is not fooled by an empty folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import check_names
from tools.check_names import ALLOWED, PACKAGE, classes, problems


def test_no_class_name_of_the_package_is_defined_twice() -> None:
    found = classes(PACKAGE)
    assert len(found) > 300
    assert list(problems(found, ALLOWED)) == []


def test_a_name_defined_in_two_modules_is_found_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Report:\n    pass\n")
    (tmp_path / "other.py").write_text("def f():\n    class Report:\n        pass\n")
    (line,) = problems(classes(tmp_path), {})
    assert "class Report" in line
    assert "one.py:1" in line
    assert "other.py:2" in line
    assert list(problems(classes(tmp_path), {"Report": "a reason"})) == []


def test_an_exception_that_is_no_longer_needed_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("class Report:\n    pass\n")
    (line,) = problems(classes(tmp_path), {"Report": "a reason"})
    assert "Report" in line


def test_a_folder_without_classes_has_failed(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        classes(tmp_path)


def test_a_number_of_two_migrations_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(side: str) -> tuple[object, ...]:
        raise ValueError(f"migrations of {side} are not numbered 1, 2, 3 …")

    assert list(check_names.misnumbered()) == []
    monkeypatch.setattr(check_names, "migrations", twice)
    assert [line.split(";")[0] for line in check_names.misnumbered()] == [
        "migrations of control are not numbered 1, 2, 3 …",
        "migrations of data are not numbered 1, 2, 3 …",
    ]
