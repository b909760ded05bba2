"""Two stores know the same after one exchange, whatever they knew before."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.sync import (
    BadSync,
    Digest,
    Kind,
    SignedItem,
    batches,
    digest,
    missing,
    pick,
    unknown,
)

NODES = ["aaaa", "bbbb", "cccc", "dddd"]


class Store:
    """The least a store can be: a set of trust objects, the newest record and report of each node."""

    def __init__(self, items: list[SignedItem]) -> None:
        self.held: dict[tuple[str, str], SignedItem] = {}
        self.take(items)

    def take(self, items: list[SignedItem]) -> None:
        for item in items:
            key = (item.kind, item.oid if item.kind == "trust" else item.node)
            if key not in self.held or self.held[key].version < item.version:
                self.held[key] = item

    @property
    def items(self) -> list[SignedItem]:
        return list(self.held.values())


def item(kind: Kind, node: str, version: int) -> SignedItem:
    name = f"{kind}-{node}-{version}"
    return SignedItem(name, kind, node, version, name.encode() * 3)


def exchange(one: Store, other: Store) -> None:
    """As over the wire: digest there, items and a wish back, the wish fulfilled."""
    heard = Digest.from_json(json.loads(json.dumps(digest(one.items).as_json())))
    to_send, to_ask = missing(digest(other.items), heard)
    answer = [part.as_json() for part in pick(other.items, to_send)]
    one.take([SignedItem.from_json(raw) for raw in answer])
    other.take(pick(one.items, to_ask))


items = st.lists(
    st.builds(item, st.sampled_from(["trust", "record", "report"]), st.sampled_from(NODES), st.integers(0, 5))
)


class TestExchange:
    @given(items, items)
    def test_two_stores_converge_after_one(self, mine: list[SignedItem], theirs: list[SignedItem]) -> None:
        one, other = Store(mine), Store(theirs)
        exchange(one, other)
        assert one.held == other.held
        assert one.held == Store(mine + theirs).held

    @given(items, items)
    def test_nothing_is_sent_that_the_other_has(
        self, mine: list[SignedItem], theirs: list[SignedItem]
    ) -> None:
        one, other = Store(mine), Store(theirs)
        to_send, to_ask = missing(digest(one.items), digest(other.items))
        assert not set(pick(one.items, to_send)) & set(other.items)
        assert not set(pick(other.items, to_ask)) & set(one.items)

    @given(items)
    def test_equal_stores_have_nothing_to_say(self, held: list[SignedItem]) -> None:
        to_send, to_ask = missing(digest(Store(held).items), digest(Store(held).items))
        assert not to_send
        assert not to_ask

    @given(items, items)
    def test_only_what_is_new_is_worth_verifying(
        self, mine: list[SignedItem], sent: list[SignedItem]
    ) -> None:
        new = unknown(digest(Store(mine).items), sent)
        store = Store(mine)
        store.take(new)
        assert store.held == Store(mine + sent).held

    def test_trust_comes_first_for_the_rest_is_judged_by_it(self) -> None:
        held = [item("report", "aaaa", 1), item("record", "bbbb", 1), item("trust", "cccc", 0)]
        assert [part.kind for part in pick(held, digest(held))] == ["trust", "record", "report"]

    def test_a_record_that_grew_newer_meanwhile_is_sent_as_it_is_now(self) -> None:
        assert pick([item("record", "aaaa", 7)], Digest(records={"aaaa": 5})) == [item("record", "aaaa", 7)]


class TestBatches:
    @given(st.lists(st.integers(0, 3000), max_size=30), st.integers(500, 5000))
    def test_keep_order_and_limit(self, sizes: list[int], limit: int) -> None:
        held = [SignedItem(str(n), "trust", "aaaa", 0, b"x" * size) for n, size in enumerate(sizes)]
        cut = list(batches(held, limit))
        assert [part for batch in cut for part in batch] == held
        for batch in cut:
            size = len(json.dumps([part.as_json() for part in batch], separators=(",", ":")))
            assert batch
            assert len(batch) == 1 or size <= limit

    def test_of_nothing_are_none(self) -> None:
        assert list(batches([])) == []


class TestWhatAPeerSends:
    @pytest.mark.parametrize(
        "raw",
        [
            None,
            [],
            {},
            {"trust": {}, "records": {}, "reports": {}},
            {"trust": [1], "records": {}, "reports": {}},
            {"trust": [], "records": {"a": "1"}, "reports": {}},
            {"trust": [], "records": {"a": True}, "reports": {}},
            {"trust": [], "records": {"a": -1}, "reports": {}},
            {"trust": [], "records": {}, "reports": {"a": 1.5}},
            {"trust": [], "records": {}, "reports": {"a": 2**63}},
            {"trust": ["x"] * 65_537, "records": {}, "reports": {}},
        ],
    )
    def test_a_bad_digest_is_refused(self, raw: Any) -> None:
        with pytest.raises(BadSync):
            Digest.from_json(raw)

    @pytest.mark.parametrize(
        "change",
        [
            {"oid": 1},
            {"kind": "gift"},
            {"node": None},
            {"version": "1"},
            {"version": True},
            {"data": "*"},
            {"data": "ä"},
            {"data": b""},
        ],
    )
    def test_a_bad_item_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(BadSync):
            SignedItem.from_json(item("trust", "aaaa", 0).as_json() | change)

    @given(items)
    def test_what_we_send_is_read_back(self, held: list[SignedItem]) -> None:
        assert [SignedItem.from_json(part.as_json()) for part in held] == held
        assert Digest.from_json(digest(held).as_json()) == digest(held)
