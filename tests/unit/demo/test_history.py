"""The history checker finds what it is there to find."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

from tenantry.demo.history import add, compare
from tenantry.demo.load import Book

ONE, TWO, UNSURE = UUID(int=1), UUID(int=2), UUID(int=3)


def book() -> Book:
    return Book(requests=5, logged=[ONE, TWO], unsure_logged=[UNSURE], counted=2, unsure_counted=1)


def test_what_was_acknowledged_and_is_there_once_is_clean_and_so_is_either_outcome_of_a_failure() -> None:
    for logged in (Counter([ONE, TWO]), Counter([ONE, TWO, UNSURE])):
        for hits in (2, 3):
            found = compare(book(), logged, hits)
            assert found.clean
            assert (found.acknowledged, found.unsure) == (4, 2)


def test_an_acknowledged_write_that_is_missing_is_lost() -> None:
    assert compare(book(), Counter([ONE]), 2).lost == 1
    assert compare(book(), Counter([ONE, TWO]), 1).lost == 1
    assert compare(book(), Counter([ONE, TWO]), 0).lost == 2


def test_a_write_that_is_there_twice_is_doubled_even_if_its_outcome_was_unsure() -> None:
    assert compare(book(), Counter([ONE, TWO, TWO]), 2).doubled == 1
    assert compare(book(), Counter([ONE, TWO, UNSURE, UNSURE]), 2).doubled == 1
    assert compare(book(), Counter([ONE, TWO]), 4).doubled == 1


def test_a_write_that_nobody_asked_for_is_strange() -> None:
    assert compare(book(), Counter([ONE, TWO, UUID(int=9)]), 2).strange == 1


def test_one_bad_customer_makes_the_whole_unclean() -> None:
    good = compare(book(), Counter([ONE, TWO]), 2)
    assert add(good, good).clean
    assert not add(good, compare(book(), Counter([ONE]), 2)).clean
