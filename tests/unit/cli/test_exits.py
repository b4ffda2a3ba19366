"""Every error has one exit code and words for people."""

from __future__ import annotations

import asyncpg
import pytest

from tenantry import errors
from tenantry.cli import exits
from tenantry.move import errors as move_errors

CASES = [
    (errors.ConfigError("x"), exits.USAGE),
    (errors.InvalidTenantId("x", "uuid", "y"), exits.USAGE),
    (errors.UnknownTenant("x"), exits.FINDINGS),
    (errors.TenantSuspended("x"), exits.FINDINGS),
    (errors.DatabaseUnavailable("x", "y"), exits.UNAVAILABLE),
    (errors.TenantMoving("x", 1.0), exits.UNAVAILABLE),
    (errors.TenantBusy("x", "y", retry_after=1, waiting=1, why="z"), exits.UNAVAILABLE),
    (errors.UnsafeRole("x", "y", ["a"], ["b"]), exits.REFUSED),
    (exits.Refused("x"), exits.REFUSED),
    (move_errors.MoveRefused("x", "y", []), exits.REFUSED),
    (move_errors.UnknownMove("x"), exits.FINDINGS),
    (move_errors.MoveBusy("x", "y"), exits.FINDINGS),
    (move_errors.Unreachable("x"), exits.UNAVAILABLE),
    (ConnectionRefusedError(111, "x"), exits.UNAVAILABLE),
    (TimeoutError(), exits.UNAVAILABLE),
    (asyncpg.CannotConnectNowError("x"), exits.UNAVAILABLE),
    (asyncpg.InvalidPasswordError("x"), exits.UNAVAILABLE),
    (asyncpg.InsufficientPrivilegeError("x"), exits.FINDINGS),
    (LookupError("no such database"), exits.FINDINGS),
    (KeyError("x"), exits.BUG),
    (ZeroDivisionError("x"), exits.BUG),
    (FileNotFoundError(2, "No such file", "history.csv"), exits.USAGE),
    (FileNotFoundError(2, "No such file"), exits.UNAVAILABLE),  # a server's socket
]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: type(value).__name__)
def test_an_errors_exit_code(error: BaseException, code: int) -> None:
    assert exits.code_of(error) == code
    assert exits.words_for(error)


def test_every_error_class_of_ours_has_a_code_that_is_no_bug() -> None:
    def below(kind: type[BaseException]) -> list[type[BaseException]]:
        return [kind, *(deeper for inner in kind.__subclasses__() for deeper in below(inner))]

    classes = below(errors.TenantryError)
    assert len(classes) > 10
    for kind in classes:
        assert exits.code_of(kind.__new__(kind)) != exits.BUG


def test_an_unexpected_error_says_how_to_report_it() -> None:
    words = exits.words_for(ZeroDivisionError("division by zero"))
    assert "report" in words
    assert "TENANTRY_TRACEBACK" in words
