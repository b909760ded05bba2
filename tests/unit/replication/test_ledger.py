"""The list of what was sent: each head names one list, and nothing in it can be changed unseen."""

import json
from dataclasses import asdict, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.ledger import (
    SHORT,
    BadLedger,
    Entry,
    Head,
    as_json,
    begin,
    droppable,
    entry_of,
    heard,
    names,
    read,
    read_head,
    told,
    trimmed,
)

KEY = "ab" * 32


def entry(number: int, **more: Any) -> Entry:
    made = Entry(number, f"s{number}", 1000 + number, 7000 + number, KEY, 10, "cloud", 5000 + number)
    return replace(made, **more)


def ledger(*numbers: int) -> Any:
    return begin("tank/home").added(entry(number) for number in numbers)


class TestTheHead:
    def test_counts_and_knows_the_newest(self) -> None:
        head = ledger(3, 9, 4).head
        assert (head.count, head.as_of, head.at) == (3, 1009, 5004)

    @pytest.mark.parametrize("field", list(asdict(entry(1))))
    def test_is_another_for_every_field_of_every_entry(self, field: str) -> None:
        other = {"name": "x", "key": "cd" * 32, "target": "nas"}.get(field, 4711)
        changed = begin("tank/home").added([replace(entry(1), **{field: other}), entry(2)])
        assert changed.head.hash != ledger(1, 2).head.hash

    def test_is_another_for_another_order_dataset_or_length(self) -> None:
        lists = [
            ledger(1, 2),
            ledger(2, 1),
            ledger(1),
            ledger(1, 2, 3),
            begin("tank/other").added([entry(1), entry(2)]),
        ]
        assert len({one.head.hash for one in lists}) == len(lists)

    @given(st.lists(st.integers(1, 9), max_size=8), st.integers(0, 8))
    def test_stays_when_entries_are_dropped_from_the_front(self, numbers: list[int], count: int) -> None:
        whole = ledger(*numbers)
        rest = whole.without(min(count, len(numbers)))
        assert rest.head == whole.head
        assert rest.added([entry(5)]).head == whole.added([entry(5)]).head

    def test_of_then_is_known_until_it_was_dropped(self) -> None:
        whole = ledger(1, 2, 3)
        rest = whole.without(2)
        assert rest.after(2) == ledger(1, 2).head
        assert (rest.after(1), rest.after(4)) == (None, None)


class TestLookingUp:
    def test_a_snapshot_may_have_gone_out_under_two_names(self) -> None:
        found = begin("tank/home").added([entry(1), entry(1, name="renamed", target="nas")])
        assert found.lists(1, "s1", raw=True)
        assert found.lists(1, "renamed", raw=True)
        assert not found.lists(1, "s1", raw=False)
        assert not found.lists(1, "s2", raw=True)
        assert not found.lists(2, "s1", raw=True)

    def test_all_keys_that_went_out(self) -> None:
        found = begin("tank/home").added([entry(1), entry(2, key=None), entry(3, key="cd" * 32)])
        assert found.keys == {KEY, "cd" * 32}


class TestDropping:
    def test_from_the_front_up_to_what_a_target_still_holds(self) -> None:
        assert droppable(ledger(1, 2, 3, 4, 5), [3, 5], keep=0) == 2
        assert droppable(ledger(1, 2, 3, 4, 5), [1], keep=0) == 0
        assert droppable(ledger(1, 2, 3, 4, 5), [], keep=2) == 3
        assert droppable(ledger(1, 2), [], keep=5) == 0


class TestReading:
    def test_what_was_written_is_read(self) -> None:
        whole = ledger(1, 2, 3).without(1)
        assert read(json.loads(json.dumps(as_json(whole)))) == whole

    @pytest.mark.parametrize(
        "change",
        [
            {"guid": -1},
            {"guid": True},
            {"guid": 1 << 64},
            {"creation": "1"},
            {"ivset": "x"},
            {"key": "short"},
            {"key": "AB" * 32},
            {"name": "a/b"},
            {"target": "../x"},
            {"target": ""},
            {"more": 1},
        ],
    )
    def test_what_is_no_entry_is_refused(self, change: dict[str, object]) -> None:
        with pytest.raises(BadLedger):
            entry_of({**asdict(entry(1)), **change}, "tank/home")

    @pytest.mark.parametrize("raw", [None, [], {}, {"dataset": 1, "dropped": {}, "entries": []}, "x"])
    def test_what_is_no_list_is_refused(self, raw: object) -> None:
        with pytest.raises(BadLedger):
            read(raw)

    @pytest.mark.parametrize("raw", [None, {}, {**asdict(ledger(1).head), "hash": "x"}, {"count": 1}])
    def test_what_is_no_head_is_refused(self, raw: object) -> None:
        with pytest.raises(BadLedger):
            read_head(raw)


class TestGossip:
    def test_what_is_told_is_heard(self) -> None:
        heads = {"tank/a": ledger(1).head, "tank/b": ledger(1, 2).head}
        found = heard(json.loads(json.dumps(told(heads, 1000))))
        assert found.keys() == heads.keys()
        assert all(names(heads[dataset], found[dataset]) for dataset in heads)
        assert not names(heads["tank/a"], found["tank/b"])

    def test_where_there_is_no_room_for_all_the_newest_are_told(self) -> None:
        heads = {f"tank/{n}": Head(n, "ab" * 32, n, 5000 + n) for n in range(100)}
        found = told(heads, 500)
        assert 0 < len(found) < 20
        assert set(found) == {f"tank/{n}" for n in range(100 - len(found), 100)}
        assert len(json.dumps(found, separators=(",", ":"))) <= 500

    @pytest.mark.parametrize(
        "value",
        [
            None,
            1,
            [],
            ["1", "ab" * 16, 1, 1],
            [1, "ab", 1, 1],
            [1, "ab" * 16, -1, 1],
            [True, "ab" * 16, 1, 1],
        ],
    )
    def test_what_is_malformed_is_not_heard(self, value: object) -> None:
        assert heard({"tank/home": value}) == {}
        assert heard(value) == {}

    def test_a_hash_is_long_enough_that_nobody_finds_another_list(self) -> None:
        assert len(told({"tank/home": ledger(1).head}, 1000)["tank/home"][1]) == SHORT == 32  # type: ignore[arg-type]


def test_trimmed_keeps_the_newest() -> None:
    (one,) = trimmed([ledger(1, 2, 3)], 1)
    assert [found.guid for found in one.entries] == [3]
    assert one.head == ledger(1, 2, 3).head
