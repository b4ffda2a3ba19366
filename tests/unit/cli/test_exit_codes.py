"""Every error has one exit code and words for people."""

from __future__ import annotations

import asyncpg
import pytest

from tenantry import errors
from tenantry.cli import exit_codes
from tenantry.move import errors as move_errors

CASES = [
    (errors.ConfigError("x"), exit_codes.USAGE),
    (errors.InvalidTenantId("x", "uuid", "y"), exit_codes.USAGE),
    (errors.UnknownTenant("x"), exit_codes.FINDINGS),
    (errors.TenantSuspended("x"), exit_codes.FINDINGS),
    (errors.DatabaseUnavailable("x", "y"), exit_codes.UNAVAILABLE),
    (errors.TenantMoving("x", 1.0), exit_codes.UNAVAILABLE),
    (errors.TenantBusy("x", "y", retry_after=1, waiting=1, why="z"), exit_codes.UNAVAILABLE),
    (errors.UnsafeRole("x", "y", ["a"], ["b"]), exit_codes.REFUSED),
    (errors.OperationRefused("x"), exit_codes.REFUSED),
    (move_errors.MoveRefused("x", "y", []), exit_codes.REFUSED),
    (move_errors.UnknownMove("x"), exit_codes.FINDINGS),
    (move_errors.MoveBusy("x", "y"), exit_codes.FINDINGS),
    (move_errors.Unreachable("x"), exit_codes.UNAVAILABLE),
    (ConnectionRefusedError(111, "x"), exit_codes.UNAVAILABLE),
    (TimeoutError(), exit_codes.UNAVAILABLE),
    (asyncpg.CannotConnectNowError("x"), exit_codes.UNAVAILABLE),
    (asyncpg.InvalidPasswordError("x"), exit_codes.UNAVAILABLE),
    (asyncpg.InsufficientPrivilegeError("x"), exit_codes.FINDINGS),
    (LookupError("no such database"), exit_codes.FINDINGS),
    (KeyError("x"), exit_codes.BUG),
    (ZeroDivisionError("x"), exit_codes.BUG),
    (FileNotFoundError(2, "No such file", "history.csv"), exit_codes.USAGE),
    (FileNotFoundError(2, "No such file"), exit_codes.UNAVAILABLE),  # a server's socket
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: type(value).__name__)
def test_an_errors_exit_code(error: BaseException, code: int) -> None:
    assert exit_codes.code_of(error) == code
    assert exit_codes.words_for(error)


def test_every_error_class_of_ours_has_a_code_that_is_no_bug() -> None:
    def below(kind: type[BaseException]) -> list[type[BaseException]]:
        return [kind, *(deeper for inner in kind.__subclasses__() for deeper in below(inner))]

    classes = below(errors.TenantryError)
    assert len(classes) > 10
    for kind in classes:
        assert exit_codes.code_of(kind.__new__(kind)) != exit_codes.BUG


def test_an_unexpected_error_says_how_to_report_it() -> None:
    words = exit_codes.words_for(ZeroDivisionError("division by zero"))
    assert "report" in words
    assert "TENANTRY_TRACEBACK" in words
