"""What peers ask of replicas: whatever else they send is refused, and by nothing but a Refusal."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.link_errors import Refusal
from node.chain import CHUNK
from node.offers import MAX_STATES, MAX_STEPS, Offer, OfferedStep, SendBack, dataset_of, states_asked
from zfs.names import check_snapshot

STEP: dict[str, Any] = {"name": "daily", "to_guid": 7, "from_guid": 6, "size": 100}
NEXT: dict[str, Any] = {"name": "weekly", "to_guid": 8, "from_guid": 7, "size": 50}
OFFER: dict[str, Any] = {"dataset": "tank/home", "raw": True, "resuming": False, "steps": [STEP, NEXT]}
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
        steps = (OfferedStep("daily", 7, None, 100), OfferedStep("weekly", 8, 7, 3))
        offer = Offer("tank/home", True, False, steps)
        assert Offer.parse(offer.as_json()) == offer
        assert offer.size == 103

    def test_the_proper_one_passes(self) -> None:
        assert [step.from_guid for step in Offer.parse(OFFER).steps] == [6, 7]

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            *(("name", value) for value in NO_NAMES),
            *(("to_guid", value) for value in [None, *NO_GUIDS]),
            *(("from_guid", value) for value in NO_GUIDS),
            *(("size", value) for value in NO_SIZES),
        ],
    )
    @pytest.mark.parametrize("place", [0, 1])
    def test_anything_else_in_a_step_is_refused(self, key: str, value: object, place: int) -> None:
        steps = [STEP, NEXT]
        steps[place] = {**steps[place], key: value}
        with pytest.raises(Refusal) as caught:
            Offer.parse({**OFFER, "steps": steps})
        assert caught.value.code in ("bad_request", "bad_name")

    @pytest.mark.parametrize("value", NO_DATASETS)
    def test_what_is_no_dataset_is_refused(self, value: object) -> None:
        with pytest.raises(Refusal) as caught:
            Offer.parse({**OFFER, "dataset": value})
        assert caught.value.code in ("bad_request", "bad_name")

    @pytest.mark.parametrize(
        "steps",
        [
            None, {}, [], "x", [None], [[STEP]], ["daily"], [STEP, STEP], [NEXT, STEP],
            [STEP, {**NEXT, "from_guid": None}],
            [STEP, {**NEXT, "from_guid": 6}], [STEP, {**NEXT, "name": "daily"}], [STEP, NEXT, {**STEP, "from_guid": 8}],
        ],
    )  # fmt: skip
    def test_steps_that_are_no_chain_are_refused(self, steps: object) -> None:
        with pytest.raises(Refusal) as caught:
            Offer.parse({**OFFER, "steps": steps})
        assert caught.value.code == "bad_request"

    def test_more_steps_than_one_connection_takes_are_refused(self) -> None:
        steps = [
            {"name": f"s{number}", "to_guid": number + 1, "from_guid": number or None, "size": 1}
            for number in range(MAX_STEPS + 1)
        ]
        assert len(Offer.parse({**OFFER, "steps": steps[:-1]}).steps) == MAX_STEPS >= CHUNK
        with pytest.raises(Refusal):
            Offer.parse({**OFFER, "steps": steps})

    @pytest.mark.parametrize("value", [1, "true", "yes", [True], None])
    def test_raw_is_only_what_is_true(self, value: object) -> None:
        assert Offer.parse({**OFFER, "raw": value}).raw is False

    @given(broken(OFFER), broken(STEP))
    def test_only_a_refusal_comes_out_or_a_name_that_zfs_takes(
        self, args: dict[str, Any], step: dict[str, Any]
    ) -> None:
        try:
            offer = Offer.parse({**args, "steps": [step]} if "steps" in args else args)
        except Refusal:
            return
        for one in offer.steps:
            check_snapshot(f"{offer.dataset}@{one.name}")
            assert one.size >= 0
            assert 0 < one.to_guid < 1 << 64


class TestStatesAsked:
    def test_names_and_what_is_known_of_them(self) -> None:
        assert states_asked({"datasets": {"tank/a": None, "b": "v1"}}) == {"tank/a": None, "b": "v1"}

    @pytest.mark.parametrize(
        "value", [None, [], ["tank"], {}, "tank", {"tank": 1}, {"tank": True}, {"tank": ["v"]}]
    )
    def test_anything_else_is_refused(self, value: object) -> None:
        with pytest.raises(Refusal):
            states_asked({"datasets": value})

    def test_so_many_and_no_more(self) -> None:
        names: dict[str, None] = dict.fromkeys(f"tank/{number}" for number in range(MAX_STATES))
        assert len(states_asked({"datasets": names})) == MAX_STATES
        with pytest.raises(Refusal):
            states_asked({"datasets": {**names, "one": None}})


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
