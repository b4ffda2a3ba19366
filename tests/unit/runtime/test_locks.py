"""Numbers of advisory locks: two purposes with one number would wait for each other."""

from __future__ import annotations

from tenantry.runtime import locks


def test_no_two_locks_have_the_same_number() -> None:
    numbers = [value for name, value in vars(locks).items() if name.isupper() and isinstance(value, int | tuple)]
    assert len(numbers) >= 10
    assert len(numbers) == len(set(numbers))
