"""The parts of the membership core: transitions, suspicion times, rumours, timers, the round."""

import itertools
import random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.swim.model import Peer, State, SwimConfig
from mesh.swim.roster import Roster, Suspicion
from mesh.swim.rumours import Rumours, retransmit_limit
from mesh.swim.timers import Timers
from mesh.swim.transitions import Age, Claim, Evidence, after, age
from mesh.swim.wire import Update

STATES: tuple[State, ...] = get_args(State)
CLAIMS: list[Evidence] = list(itertools.product(get_args(Claim), get_args(Age)))
SEEN: list[Evidence] = ["heard", "answered", "missed", "expired"]


class TestTransitions:
    """The whole table is small: every state with every evidence."""

    @pytest.mark.parametrize("state", STATES)
    def test_nothing_said_makes_anyone_down(self, state: State) -> None:
        for claim in CLAIMS:
            assert after(state, claim) != "down" or state == "down"

    @pytest.mark.parametrize("state", STATES)
    def test_an_older_claim_changes_nothing(self, state: State) -> None:
        for claim, relation in CLAIMS:
            if relation == "older":
                assert after(state, (claim, relation)) == state

    @pytest.mark.parametrize("state", STATES)
    def test_a_newer_word_of_the_node_itself_always_counts(self, state: State) -> None:
        assert after(state, ("alive", "newer")) == "alive"
        assert after(state, ("left", "newer")) == "left"

    def test_only_suspects_become_down_and_of_the_living_only_quiet_ones_by_silence(self) -> None:
        to_down = {s for s in STATES for e in CLAIMS + SEEN if s != "down" and after(s, e) == "down"}
        assert to_down == {"suspect", "alive"}
        assert after("alive", "missed") == "suspect"

    def test_a_suspicion_is_refuted_only_by_a_newer_word_or_an_answer(self) -> None:
        freeing = [e for e in CLAIMS + SEEN if after("suspect", e) == "alive"]
        assert freeing == [("alive", "newer"), "answered"]

    def test_a_node_never_met_is_not_suspected(self) -> None:
        for evidence in CLAIMS + SEEN:
            assert after("unknown", evidence) not in ("suspect", "down")

    def test_ages(self) -> None:
        assert (age(1, 2), age(2, 2), age(3, 2)) == ("older", "same", "newer")


class TestSuspicion:
    def test_runs_from_the_longest_to_the_shortest_time_as_others_confirm_it(self) -> None:
        suspicion = Suspicion(100.0, 8.0, 48.0, wanted=2)
        ends = []
        for voice in ["me", "b", "me", "c", "d"]:
            suspicion.confirm(voice)
            ends.append(round(suspicion.ends, 1))
        assert ends == [148.0, 122.8, 122.8, 108.0, 108.0]

    @pytest.mark.parametrize(("nodes", "wanted"), [(2, 0), (3, 0), (4, 2), (10, 2)])
    def test_waits_for_confirmation_only_where_enough_others_could_give_it(
        self, nodes: int, wanted: int
    ) -> None:
        suspicion = _suspicion(dict.fromkeys(map(str, range(nodes - 1)), Peer()))
        assert suspicion.wanted == wanted

    def test_a_vault_is_no_witness(self) -> None:
        suspicion = _suspicion({"0": Peer(), "1": Peer(), "2": Peer(quiet=True), "3": Peer(quiet=True)})
        assert suspicion.wanted == 0

    @pytest.mark.parametrize(("nodes", "shortest"), [(3, 8.0), (10, 8.0), (100, 16.0), (1000, 24.0)])
    def test_grows_with_the_logarithm_of_the_mesh(self, nodes: int, shortest: float) -> None:
        suspicion = _suspicion(dict.fromkeys(map(str, range(nodes - 1)), Peer()))
        assert (suspicion.shortest, suspicion.longest) == pytest.approx((shortest, 6 * shortest))


def _suspicion(peers: dict[str, Peer]) -> Suspicion:
    roster = Roster(SwimConfig(), random.Random(1))
    members, _ = roster.update(peers, 0.0)
    for member in members:
        member.state = "alive"
    return roster.suspicion(members[0], 0.0)


class TestRound:
    def test_everybody_is_probed_once_a_round_in_changing_order(self) -> None:
        roster = Roster(SwimConfig(), random.Random(1))
        members, _ = roster.update(dict.fromkeys("abcdefgh", Peer()), 0.0)
        assert roster.next_target() is None
        for member in members:
            member.state = "alive"
        rounds = [[target.id for _ in members if (target := roster.next_target())] for _ in range(5)]
        assert all(sorted(order) == list("abcdefgh") for order in rounds)
        assert len(set(map(tuple, rounds))) == 5

    def test_who_is_down_or_gone_is_passed_over(self) -> None:
        roster = Roster(SwimConfig(), random.Random(1))
        members, _ = roster.update(dict.fromkeys("abc", Peer()), 0.0)
        members[0].state, members[1].state, members[2].state = "alive", "down", "suspect"
        assert {target.id for _ in range(4) if (target := roster.next_target())} == {"a", "c"}
        roster.update({"c": Peer()}, 1.0)
        assert {target.id for _ in range(4) if (target := roster.next_target())} == {"c"}

    def test_a_vault_is_never_asked_for_others(self) -> None:
        roster = Roster(SwimConfig(), random.Random(1))
        members, _ = roster.update({"a": Peer(), "b": Peer(), "v": Peer(quiet=True)}, 0.0)
        for member in members:
            member.state = "alive"
        assert roster.helpers("a") == ["b"]
        assert sorted(roster.gossip_targets()) == ["a", "b"]


class TestRumours:
    @pytest.mark.parametrize(("members", "limit"), [(1, 8), (9, 8), (99, 8), (100, 12), (1000, 16)])
    def test_are_repeated_often_enough_even_in_a_small_mesh(self, members: int, limit: int) -> None:
        assert retransmit_limit(members, 8) == limit

    def test_are_sent_so_often_and_no_more(self) -> None:
        rumours = Rumours()
        rumours.add(Update("alive", "a", 1, "a"))
        assert [len(rumours.take(5, 3)) for _ in range(5)] == [1, 1, 1, 0, 0]
        assert not rumours

    def test_news_go_first(self) -> None:
        rumours = Rumours()
        for name in "abc":
            rumours.add(Update("alive", name, 1, name))
        assert [u.about for u in rumours.take(2, 8)] == ["c", "b"]
        assert [u.about for u in rumours.take(2, 8)] == ["a", "c"]

    def test_a_refutation_replaces_all_suspicions(self) -> None:
        rumours = Rumours()
        for voice in "bc":
            rumours.add(Update("suspect", "a", 1, voice))
        assert len(rumours.take(9, 8)) == 2
        rumours.add(Update("alive", "a", 2, "a"))
        assert rumours.take(9, 8) == [Update("alive", "a", 2, "a")]

    def test_a_suspicion_replaces_the_good_news_and_older_suspicions(self) -> None:
        rumours = Rumours()
        rumours.add(Update("suspect", "a", 1, "b"))
        rumours.add(Update("alive", "a", 2, "a"))
        rumours.add(Update("suspect", "a", 2, "b"))
        rumours.add(Update("suspect", "a", 3, "c"))
        assert rumours.take(9, 8) == [Update("suspect", "a", 3, "c")]


class TestTimers:
    @given(st.lists(st.tuples(st.sampled_from("abcd"), st.none() | st.integers(0, 9))))
    def test_are_due_in_order_and_only_as_last_set(self, orders: list[tuple[str, int | None]]) -> None:
        timers = Timers()
        model: dict[str, int] = {}
        for name, at in orders:
            if at is None:
                timers.cancel((name,))
                model.pop(name, None)
            else:
                timers.set((name,), at)
                model[name] = at
        assert timers.next() == min(model.values(), default=None)
        fired = [name for (name,) in timers.due(4)]
        assert sorted(fired) == sorted(name for name, at in model.items() if at <= 4)
        assert [model[name] for name in fired] == sorted(model[name] for name in fired)
        assert timers.next() == min((at for at in model.values() if at > 4), default=None)
