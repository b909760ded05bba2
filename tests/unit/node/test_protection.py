"""As of when a dataset is protected: never later than the truth."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.protection import as_of, behind
from zfs.model import Snapshot

NOW = 1_000_000


def source(*creations: int) -> list[Snapshot]:
    return [
        Snapshot("tank/home", f"s{guid}", guid, guid, creation) for guid, creation in enumerate(creations, 1)
    ]


def stored(guid: int, creation: int, received: int | None = None, txg: int | None = None) -> dict[str, Any]:
    one = {"guid": guid, "creation": creation, "createtxg": txg or guid}
    return one if received is None else {**one, "received": received}


@pytest.mark.parametrize(
    ("here", "written", "there", "expected", "why"),
    [
        ([100], 0, [], None, "nothing is stored"),
        ([100], 5, [stored(1, 100, 150)], 100, "written since: the snapshot's own time"),
        ([100], 0, [stored(1, 100, 150)], NOW, "nothing written since the newest, which is there"),
        ([100, 200], 0, [stored(1, 100, 150)], 100, "the newest is not there"),
        ([], 0, [stored(1, 100, 150)], 100, "the source is unknown: only the target's word counts"),
        ([100], 5, [stored(1, 900, 150)], 150, "creation after receipt: receipt"),
        ([100], 5, [stored(1, 100, 0)], 100, "no receipt noted: creation"),
        ([100], 5, [stored(1, 100)], 100, "no receipt at all: creation"),
        ([100], 5, [stored(1, NOW + 50, 0)], NOW, "a time to come is no later than now"),
        ([100], 5, [stored(1, NOW + 50, NOW + 10)], NOW, "a receipt to come neither"),
        (
            [100, 200],
            5,
            [stored(2, 200, 250, txg=8), stored(1, 100, 150, txg=9)],
            100,
            "newest by its own txg",
        ),
        ([100, 200], 0, [stored(2, 200, 250), stored(7, 300, 350)], 300, "what the source does not have"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_as_of(
    here: list[int], written: int, there: list[dict[str, Any]], expected: int | None, why: str
) -> None:
    assert as_of(source(*here), written, there, now=NOW) == expected, why


@pytest.mark.parametrize(
    ("here", "there", "expected"),
    [
        ([], [], 0),
        ([100, 200, 300], [], 3),
        ([100, 200, 300], [1], 2),
        ([100, 200, 300], [1, 2], 1),
        ([100, 200, 300], [3], 0),
        ([100, 200, 300], [1, 2, 3], 0),
        ([100, 200, 300], [9], 3),
        ([], [9], 0),
    ],
)
def test_behind(here: list[int], there: list[int], expected: int) -> None:
    assert behind(source(*here), [stored(guid, 0) for guid in there]) == expected


moments = st.integers(0, 2 * NOW)
snapshots = st.builds(stored, st.integers(1, 6), moments, st.none() | moments, st.integers(1, 50))


@given(st.lists(moments, max_size=6), st.integers(0, 3), st.lists(snapshots, max_size=6), moments)
def test_never_later_than_now_nor_than_the_receipt(
    here: list[int], written: int, there: list[dict[str, Any]], now: int
) -> None:
    moment = as_of(source(*here), written, there, now=now)
    assert (moment is None) == (not there)
    if moment is None:
        return
    assert moment <= now
    newest = max(there, key=lambda one: one["createtxg"])
    nothing_new = here and written == 0 and newest["guid"] == len(here)
    if not nothing_new:
        assert moment <= newest["creation"]
        assert not newest.get("received") or moment <= newest["received"]


@given(st.lists(moments, max_size=6), st.integers(0, 3), st.lists(snapshots, max_size=6), moments, moments)
def test_time_only_moves_it_forward(
    here: list[int], written: int, there: list[dict[str, Any]], one: int, other: int
) -> None:
    earlier, later = sorted((one, other))
    before, after = (as_of(source(*here), written, there, now=now) for now in (earlier, later))
    assert (before is None and after is None) or (
        before is not None and after is not None and before <= after
    )


@given(st.lists(moments, min_size=1, max_size=6).map(sorted), st.data())
def test_an_honest_target_that_gets_one_more_is_never_behind_what_it_was(
    creations: list[int], data: st.DataObject
) -> None:
    here = source(*creations)
    count = data.draw(st.integers(1, len(here)))
    there = [stored(s.guid, s.creation, s.creation + 5) for s in here[:count]]
    now = creations[-1] + 10
    less = as_of(here, 1, there[:-1], now=now)
    more = as_of(here, 1, there, now=now)
    assert more is not None
    assert less is None or less <= more
    assert behind(here, there) == len(here) - count
