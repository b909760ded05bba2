"""Plans to prune: what goes and what is spared, their ids, how long they hold, and what makes them unfit."""

from dataclasses import replace

import pytest

from node.errors import Exit, MeshkeepError
from node.prune_plans import MANY, VALID, Part, PrunePlans, check_unchanged, look, part_of
from policy.naming import snapshot_name
from policy.rules import Policy
from zfs.model import Snapshot

NOW = 1_800_000_000
DAY = 86400
POLICY = Policy(name="p", hourly=0, daily=2, monthly=0)


def daily(days: int, *, holds: int = 0, used: int = 100, dataset: str = "tank/a") -> Snapshot:
    at = NOW - days * DAY - 60
    return Snapshot(dataset, snapshot_name("daily", at), 1000 + days, at, at, used, holds)


HISTORY = [daily(days) for days in (5, 4, 3, 1, 0)]


def part(
    history: list[Snapshot] = HISTORY, policy: Policy = POLICY, needed: dict[int, str] | None = None
) -> Part:
    return part_of("tank/a", policy, history, NOW, needed or {})


def guids(verdicts: object) -> list[int]:
    return [verdict.snapshot.guid for verdict in verdicts]  # type: ignore[attr-defined]


def refusal(plans: PrunePlans, id: str, now: int) -> str:
    with pytest.raises(MeshkeepError) as caught:
        plans.get(id, now)
    assert caught.value.exit is Exit.REFUSED
    return caught.value.code


class TestAPart:
    def test_has_what_goes_what_it_frees_at_least_and_how_many_stay(self) -> None:
        found = part()
        assert guids(found.going) == [1005, 1004, 1003]
        assert (found.frees, found.keep, found.spared) == (300, 2, ())

    def test_prunes_by_hand_also_where_autoprune_is_off(self) -> None:
        found = part(policy=replace(POLICY, autoprune=False))
        assert guids(found.going) == [1005, 1004, 1003]
        assert found.policy.autoprune

    def test_spared_are_those_that_would_go_but_for_a_hold_a_replica_or_a_rule(self) -> None:
        history = [daily(6), daily(5, holds=1), daily(4), daily(3), daily(1), daily(0)]
        found = part(history, replace(POLICY, keep_last=3), {1004: "cloud"})
        assert guids(found.going) == [1006]
        assert [(one.snapshot.guid, one.reasons[1]) for one in found.spared] == [
            (1005, "held"),
            (1004, "needed by cloud"),
            (1003, "last 3 of 3"),
        ]
        assert found.keep == 5


class TestTheId:
    def test_is_of_the_names_and_guids_and_of_nothing_else(self) -> None:
        plans = PrunePlans()
        first = plans.add([part()], NOW).id
        assert plans.add([part([replace(one, used=5) for one in HISTORY])], NOW + 60).id == first
        other = [replace(HISTORY[0], guid=1), *HISTORY[1:]]
        assert plans.add([part(other)], NOW).id != first
        assert plans.add([part(HISTORY[1:])], NOW).id != first

    def test_does_not_depend_on_the_order(self) -> None:
        one, two = part(), part_of("tank/b", POLICY, [daily(9, dataset="tank/b")], NOW, {})
        assert PrunePlans().add([one, two], NOW).id == PrunePlans().add([two, one], NOW).id


class TestAPlan:
    def test_can_be_run_for_a_quarter_of_an_hour(self) -> None:
        plans = PrunePlans()
        plan = plans.add([part()], NOW)
        assert plans.get(plan.id, NOW + VALID) is plan
        assert refusal(plans, plan.id, NOW + VALID + 1) == "plan_expired"
        assert refusal(plans, plan.id, NOW - 1) == "plan_expired"

    def test_made_again_it_is_young_again(self) -> None:
        plans = PrunePlans()
        plans.add([part()], NOW)
        again = plans.add([part()], NOW + VALID)
        assert plans.get(again.id, NOW + 2 * VALID) is again

    def test_that_nobody_was_shown_or_that_has_run_is_unknown(self) -> None:
        plans = PrunePlans()
        assert refusal(plans, "51c0", NOW) == "no_plan"
        plan = plans.add([part()], NOW)
        plans.forget(plan.id)
        assert refusal(plans, plan.id, NOW) == "no_plan"

    def test_only_so_many_are_remembered_and_the_newest_is(self) -> None:
        plans = PrunePlans()
        made = [
            plans.add([part([replace(HISTORY[0], guid=guid), *HISTORY[1:]])], NOW).id
            for guid in range(1, MANY + 2)
        ]
        assert refusal(plans, made[0], NOW) == "no_plan"
        assert [plans.get(id, NOW).id for id in made[1:]] == made[1:]

    def test_leaves_out_the_datasets_of_which_nothing_goes(self) -> None:
        plan = PrunePlans().add([part(), part_of("tank/b", POLICY, [], NOW, {})], NOW)
        assert list(plan.policies) == ["tank/a"]
        assert guids(plan.verdicts) == [1005, 1004, 1003]


class TestUnchanged:
    def changes(self, history: list[Snapshot], needed: dict[int, str] | None = None) -> list[str]:
        plan = PrunePlans().add([part()], NOW)
        with pytest.raises(MeshkeepError) as caught:
            check_unchanged(plan, {"tank/a": look(history, needed or {})})
        assert (caught.value.code, caught.value.exit) == ("plan_changed", Exit.REFUSED)
        return caught.value.why.splitlines()

    def test_is_what_looks_the_same(self) -> None:
        plan = PrunePlans().add([part()], NOW)
        check_unchanged(plan, {"tank/a": look([replace(one, used=1) for one in HISTORY], {})})

    def test_is_a_hold_on_what_stays_anyway(self) -> None:
        plan = PrunePlans().add([part()], NOW)
        check_unchanged(plan, {"tank/a": look([*HISTORY[:-1], replace(HISTORY[-1], holds=1)], {1001: "c"})})

    def test_not_when_one_came_or_went(self) -> None:
        new = daily(7)
        assert self.changes([*HISTORY[1:], new]) == [
            f"{new.full_name} came",
            f"{HISTORY[0].full_name} went",
        ]

    def test_not_when_one_is_another_of_the_same_name(self) -> None:
        swapped = [replace(HISTORY[0], guid=5), *HISTORY[1:]]
        assert self.changes(swapped) == [f"{HISTORY[0].full_name} is another snapshot now"]

    def test_not_when_one_that_goes_is_held_or_needed_now(self) -> None:
        held = [replace(HISTORY[0], holds=1), *HISTORY[1:]]
        assert self.changes(held, {1004: "cloud"}) == [
            f"{HISTORY[0].full_name} is held now",
            f"{HISTORY[1].full_name} is needed by cloud now",
        ]

    def test_not_when_the_dataset_is_gone(self) -> None:
        plan = PrunePlans().add([part()], NOW)
        with pytest.raises(MeshkeepError, match="nothing was destroyed") as caught:
            check_unchanged(plan, {})
        assert caught.value.why == "tank/a cannot be seen any more"

    def test_of_many_changes_some_are_told(self) -> None:
        told = self.changes([*HISTORY, *(daily(days) for days in range(10, 30))])
        assert (len(told), told[-1]) == (11, "and 10 more changes")
