"""Archived wraps: none goes that a stored snapshot may need, and none while that is not known."""

import itertools

import pytest

from replication.wraps import MOST, Lying, may_go

A, B, C = (letter * 64 for letter in "abc")


def test_one_goes_when_nothing_is_stored_that_came_under_it() -> None:
    assert may_go([A, B], Lying({"s": B}, B, False)) == [A]


@pytest.mark.parametrize(
    "lying",
    [
        Lying({}, B, False),  # nothing is stored: it may be about to be
        Lying({"s": B, "t": ""}, B, False),  # of one it is not known
        Lying({"s": B}, None, False),  # nothing is pinned
        Lying({"s": B}, B, True),  # a stream is half here
    ],
)
def test_none_goes_while_anything_is_in_doubt(lying: Lying) -> None:
    assert may_go([A, B, C], lying) == []


def test_of_all_that_can_be_only_what_is_neither_needed_nor_pinned() -> None:
    for under in itertools.product((A, B, C), repeat=2):
        for pinned in (A, B, C):
            gone = may_go([A, B, C], Lying(dict(zip("st", under, strict=True)), pinned, False))
            assert set(gone) == {A, B, C} - {*under, pinned}


def test_no_more_than_so_many_at_once() -> None:
    archived = [f"{number:064x}" for number in range(MOST + 5)]
    assert may_go(archived, Lying({"s": A}, A, False)) == archived[:MOST]


def test_what_is_kept_aside_needs_its_own() -> None:
    here = Lying({"s": C}, C, False)
    assert may_go([A, B, C], here, [Lying({"t": A}, A, False)]) == [B]
    assert may_go([A, B, C], here, [Lying({"t": A}, A, False), Lying({"u": B}, B, False)]) == []
    assert may_go([A, B, C], here, [Lying({}, None, False)]) == [A, B]


@pytest.mark.parametrize(
    "aside", [Lying({"t": A, "u": ""}, A, False), Lying({"t": A}, None, False), Lying({}, None, True)]
)
def test_none_goes_while_anything_aside_is_in_doubt(aside: Lying) -> None:
    assert may_go([A, B, C], Lying({"s": C}, C, False), [aside]) == []
