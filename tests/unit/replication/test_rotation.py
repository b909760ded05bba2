"""When an old replica is kept aside: the planner's rule, and what the target judges for itself."""

from dataclasses import replace

import pytest

from replication.conflicts import Conflict
from replication.history import Rule, TargetState
from replication.plan import plan
from replication.rotation import MOST, Lying, Request, aside_name, asides_of, is_aside, judge
from replication.steps import Abort, Full, Plan, Rotate
from tests.unit.replication.histories import cut_short, guid_of, history, replica

ROTATES = Rule("cloud", "vault", raw=True, on_divergence="rotate")
WAITS = replace(ROTATES, on_divergence="conflict")
ASKED = Request(newest=5, history=frozenset({1, 2, 3}), raw=True)
LIES = Lying(newest=5, raw=True)


def decided(source: str, target: TargetState, rule: Rule = ROTATES) -> Plan:
    found = plan(history(source), target, rule)
    assert isinstance(found, Plan), found
    return found


class TestTheRule:
    def test_what_went_on_by_itself_is_kept_aside_and_a_new_one_is_begun(self) -> None:
        found = decided("@a @b", replica("@a @x"))
        first, *others = found.steps
        assert first == Rotate(guid_of("x"), first.reason if isinstance(first, Rotate) else "")
        assert [type(one).__name__ for one in others] == ["Full", "Incremental"]
        assert found.base is None

    def test_what_was_partly_received_is_dropped_first(self) -> None:
        found = decided("@a @b", replica("@a @x", cut_short("b", "a")))
        assert [type(one) for one in found.steps[:2]] == [Abort, Rotate]

    def test_without_the_rule_it_is_a_conflict_that_says_what_the_replica_ends_with(self) -> None:
        found = plan(history("@a @b"), replica("@a @x"), WAITS)
        assert isinstance(found, Conflict)
        assert (found.kind, found.newest) == ("diverged", guid_of("x"))
        assert found.hint == "meshkeep replicate rotate tank/home cloud"

    @pytest.mark.parametrize("source", ["", "#a", "#c"])
    def test_nothing_makes_way_where_nothing_would_take_its_place(self, source: str) -> None:
        assert isinstance(plan(history(source), replica("@x"), ROTATES), Conflict)

    def test_a_replica_of_the_other_mode_makes_way(self) -> None:
        assert isinstance(decided("@a", replica("@a"), replace(ROTATES, raw=False)).steps[0], Rotate)

    def test_plaintext_makes_nothing_go_away(self) -> None:
        found = plan(history("@a", encrypted=False), replica("@x"), ROTATES)
        assert isinstance(found, Conflict)
        assert found.kind == "plaintext_to_vault"

    def test_a_replica_that_inherits_its_key_over_there_takes_no_stream_though_it_would_fit(self) -> None:
        there = replace(replica("@a"), key_root="tank")
        found = plan(history("@a @b"), there, WAITS)
        assert isinstance(found, Conflict)
        assert found.kind == "replica_root_changed"
        assert isinstance(decided("@a @b", there).steps[0], Rotate)
        assert isinstance(
            decided("@a @b", replace(there, key_root="tank/home")).steps[0],
            type(decided("@a @b", replica("@a")).steps[0]),
        )

    def test_something_without_a_snapshot_is_in_nobodys_way_by_this(self) -> None:
        assert isinstance(plan(history("@a"), TargetState(exists=True), ROTATES), Conflict)
        assert isinstance(decided("@a", TargetState(exists=False)).steps[0], Full)


class TestTheTarget:
    """A source may be in a thief's hands: it is believed nothing that the target does not see."""

    def test_keeps_aside_what_the_source_does_not_lead_on_from(self) -> None:
        assert judge(ASKED, LIES) is None

    @pytest.mark.parametrize(
        ("lying", "code"),
        [
            (Lying(None, raw=True), "no_replica"),
            (replace(LIES, newest=6), "stale"),
            (replace(LIES, receiving=True), "busy"),
            (replace(LIES, partial=True), "partial_state"),
            (replace(LIES, aside=["x"] * MOST), "too_many_aside"),
        ],
    )
    def test_refuses(self, lying: Lying, code: str) -> None:
        no = judge(ASKED, lying)
        assert no is not None
        assert no.code == code

    def test_what_leads_on_is_not_diverged_unless_the_mode_or_its_root_is_another(self) -> None:
        asked = replace(ASKED, history=frozenset({1, 5}))
        no = judge(asked, LIES)
        assert no is not None
        assert no.code == "not_diverged"
        assert judge(replace(asked, raw=False), LIES) is None
        assert judge(asked, replace(LIES, drifted=True)) is None


class TestNames:
    NAME = aside_name("vault/meshkeep/home/tank/data", 1_700_000_000)

    def test_it_lies_beside_and_is_known_again(self) -> None:
        assert self.NAME == "vault/meshkeep/home/tank/data.rotated-20231114T221320Z"
        assert is_aside(self.NAME)
        assert is_aside(self.NAME + "/child")
        assert not is_aside("vault/meshkeep/home/tank/data.rotated")

    def test_of_several_the_newest_comes_last_and_others_do_not_count(self) -> None:
        older = aside_name("vault/meshkeep/home/tank/data", 1_600_000_000)
        other = aside_name("vault/meshkeep/home/tank/data2", 1_700_000_000)
        found = asides_of("vault/meshkeep/home/tank/data", [self.NAME, other, older, self.NAME + "/child"])
        assert found == [older, self.NAME]
