"""What peers ask of replicas: whatever else they send is refused, and by nothing but a Refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.link_errors import Refusal
from node.offers import Offer, SendBack, dataset_of
from zfs.names import check_snapshot

OFFER: dict[str, Any] = {
    "dataset": "tank/home",
    "name": "daily",
    "to_guid": 7,
    "from_guid": 6,
    "raw": True,
    "resuming": False,
    "size": 100,
}
BACK: dict[str, Any] = {
    "owner": "home",
    "dataset": "tank/home",
    "to_guid": 7,
    "from_guid": None,
    "resume": [1, 4096],
}

NO_DATASETS = [
    None, 7, "", "/", "/tank", "tank/", "tank//home", "..", "tank/..", "../tank", "tank/../other", "tank/.",
    "tank@snap", "tank#mark", "tank/ho@me", "1tank", "-tank", "tank/ho\0me", "tank/ho\nme", "tank/hö",
    "tank/\ud800", "tank/%d", "tank/a*", "t" * 256, "tank/" + "x" * 251, ["tank"], {"tank": 1}, True,
]  # fmt: skip
NO_NAMES = [
    None, 7, "", "a@b", "a#b", "a/b", "../x", "a\0b", "a\nb", "ä", "x" * 256, "\ud800", "%s", [], {}, True, b"bytes",
]  # fmt: skip
NO_GUIDS = [0, -1, 1 << 64, 1 << 200, "7", 7.0, True, False, [7], {"guid": 7}, "", float("inf")]
NO_RESUMES = [
    [], [1], [1, 2, 3], [-1, 0], [0, -1], ["1", "2"], [1.0, 2.0], "12", 12, {"object": 1}, [None, None],
    [True, True], [1 << 64, 0], [0, 1 << 64], True,
]  # fmt: skip
NO_SIZES = [-1, "1", 1.5, True, [], None]

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


def broken(base: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The proper arguments with some of them replaced or left out."""
    keys = st.sampled_from(sorted(base))
    changes = st.dictionaries(keys, anything, max_size=3)
    return st.tuples(changes, st.sets(keys, max_size=2)).map(
        lambda both: {key: value for key, value in {**base, **both[0]}.items() if key not in both[1]}
    )


class TestOffer:
    def test_what_a_source_says_is_what_the_target_reads(self) -> None:
        offer = Offer("tank/home", "daily", 7, None, True, False, 100)
        assert Offer.parse(offer.as_json()) == offer

    def test_the_proper_one_passes(self) -> None:
        assert Offer.parse(OFFER).from_guid == 6

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("dataset", value) for value in NO_DATASETS),
            *(("name", value) for value in NO_NAMES),
            *(("to_guid", value) for value in [None, *NO_GUIDS]),
            *(("from_guid", value) for value in NO_GUIDS),
            *(("size", value) for value in NO_SIZES),
        ],
    )
    def test_anything_else_is_refused(self, key: str, value: object) -> None:
        with pytest.raises(Refusal) as caught:
            Offer.parse({**OFFER, key: value})
        assert caught.value.code in ("bad_request", "bad_name")

    @pytest.mark.parametrize("value", [1, "true", "yes", [True], None])
    def test_raw_is_only_what_is_true(self, value: object) -> None:
        assert Offer.parse({**OFFER, "raw": value}).raw is False

    @given(broken(OFFER))
    def test_only_a_refusal_comes_out_or_a_name_that_zfs_takes(self, args: dict[str, Any]) -> None:
        try:
            offer = Offer.parse(args)
        except Refusal:
            return
        check_snapshot(f"{offer.dataset}@{offer.name}")
        assert offer.size >= 0
        assert 0 < offer.to_guid < 1 << 64


class TestSendBack:
    def test_the_proper_one_passes(self) -> None:
        assert SendBack.parse(BACK).resume == (1, 4096)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("owner", value) for value in [None, "", 7, [], True]),
            *(("dataset", value) for value in NO_DATASETS),
            *(("to_guid", value) for value in [None, *NO_GUIDS]),
            *(("from_guid", value) for value in NO_GUIDS),
            *(("resume", value) for value in NO_RESUMES),
        ],
    )
    def test_anything_else_is_refused(self, key: str, value: object) -> None:
        with pytest.raises(Refusal) as caught:
            SendBack.parse({**BACK, key: value})
        assert caught.value.code in ("bad_request", "bad_name")

    @given(broken(BACK))
    def test_only_a_refusal_comes_out(self, args: dict[str, Any]) -> None:
        try:
            wanted = SendBack.parse(args)
        except Refusal:
            return
        assert dataset_of(args) == wanted.dataset
        assert wanted.resume is None or all(0 <= number < 1 << 64 for number in wanted.resume)
