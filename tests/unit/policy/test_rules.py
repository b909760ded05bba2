"""Which dataset gets which policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.rules import (
    KINDS,
    Assignment,
    Limit,
    Monitor,
    Policy,
    Recursion,
    holds_replicas,
    resolve,
    taken_along,
)
from zfs.names import is_below

PRODUCTION = Policy(name="production")
SCRATCH = Policy(name="scratch", hourly=1)
POOL = ("tank", "tank/home", "tank/home/ann", "tank/vm", "tank/vm/a", "tank/vm/a/b", "tank/vmx")


def names(*rules: Assignment, roots: tuple[str, ...] = ()) -> dict[str, str]:
    found = resolve(rules, POOL, roots)
    return {dataset: chosen.policy.name for dataset, chosen in found.chosen.items()}


def test_a_rule_is_for_its_dataset_alone() -> None:
    assert names(Assignment("tank/vm", PRODUCTION)) == {"tank/vm": "production"}


def test_a_recursive_rule_is_for_all_below_too_and_not_for_a_like_named_sibling() -> None:
    assert set(names(Assignment("tank/vm", PRODUCTION, recursion="each"))) == {
        "tank/vm",
        "tank/vm/a",
        "tank/vm/a/b",
    }


def test_the_nearest_rule_wins_whatever_the_order() -> None:
    rules = [
        Assignment("tank", PRODUCTION, recursion="each"),
        Assignment("tank/vm", SCRATCH, recursion="each"),
    ]
    for order in (rules, rules[::-1]):
        found = names(*order)
        assert found["tank/home/ann"] == "production"
        assert found["tank/vm/a/b"] == "scratch"


def test_a_plain_rule_between_does_not_stop_what_is_inherited_from_above() -> None:
    found = names(Assignment("tank", PRODUCTION, recursion="each"), Assignment("tank/vm", SCRATCH))
    assert found["tank/vm"] == "scratch"
    assert found["tank/vm/a"] == "production"


def test_an_exclusion_takes_everything_below_along_and_says_so() -> None:
    rule = Assignment("tank", PRODUCTION, recursion="each", exclude=("tank/vm",))
    found = resolve([rule], POOL)
    assert set(found.chosen) == {"tank", "tank/home", "tank/home/ann", "tank/vmx"}
    assert found.excluded["tank/vm/a"] == "excluded by the rule for tank (tank/vm)"


def test_a_rule_of_its_own_beats_the_exclusion_of_a_farther_one() -> None:
    rule = Assignment("tank", PRODUCTION, recursion="each", exclude=("tank/vm",))
    assert names(rule, Assignment("tank/vm/a", SCRATCH))["tank/vm/a"] == "scratch"


def test_replicas_get_no_policy_even_when_a_rule_names_them() -> None:
    rules = (Assignment("tank", PRODUCTION, recursion="each"), Assignment("tank/vm/a", SCRATCH))
    found = resolve(rules, POOL, ("tank/vm",))
    assert {name for name in found.chosen if name.startswith("tank/vm/")} == set()
    assert found.excluded["tank/vm/a"] == "holds replicas (tank/vm)"


def test_every_choice_says_where_it_comes_from() -> None:
    found = resolve([Assignment("tank/vm", PRODUCTION, recursion="each")], POOL)
    assert found.chosen["tank/vm"].reason == "policy production, set on tank/vm"
    assert found.chosen["tank/vm/a"].reason == "policy production, inherited from tank/vm"


def test_a_rule_for_a_dataset_that_does_not_exist_is_reported() -> None:
    gone = Assignment("tank/gone", PRODUCTION, recursion="each")
    assert resolve([gone, Assignment("tank", PRODUCTION)], POOL).unmatched == ("tank/gone",)


class TestZfsRecursion:
    """`recursion="zfs"`: one instant for the top and all below it, which then take none of their own."""

    def test_the_top_takes_all_below_along_and_they_none_of_their_own(self) -> None:
        found = resolve([Assignment("tank/vm", PRODUCTION, recursion="zfs")], POOL)
        assert found.chosen["tank/vm"].along == ("tank/vm/a", "tank/vm/a/b")
        assert found.chosen["tank/vm"].policy.autosnap
        below = found.chosen["tank/vm/a"]
        assert (below.policy.autosnap, below.policy.autoprune, below.along) == (False, True, ())
        assert below.reason == (
            "policy production, inherited from tank/vm; its snapshots are taken with those of tank/vm"
        )

    def test_a_rule_of_its_own_below_prunes_by_its_own_numbers_and_takes_none(self) -> None:
        found = resolve(
            [Assignment("tank/vm", PRODUCTION, recursion="zfs"), Assignment("tank/vm/a", SCRATCH)], POOL
        )
        below = found.chosen["tank/vm/a"]
        assert (below.policy.name, below.policy.hourly, below.policy.autosnap) == ("scratch", 1, False)
        assert found.chosen["tank/vm"].along == ("tank/vm/a", "tank/vm/a/b")

    @pytest.mark.parametrize("inner", ["no", "each", "zfs"])
    def test_of_two_the_farther_top_takes_everything(self, inner: Recursion) -> None:
        rules = [Assignment("tank", PRODUCTION, recursion="zfs"), Assignment("tank/vm", SCRATCH, inner)]
        for order in (rules, rules[::-1]):
            found = resolve(order, POOL).chosen
            assert found["tank"].along == POOL[1:]
            assert not any(found[name].along or found[name].policy.autosnap for name in POOL[1:])

    def test_what_it_excludes_is_not_taken_along_for_nobody_would_prune_it(self) -> None:
        found = resolve([Assignment("tank", PRODUCTION, recursion="zfs", exclude=("tank/vm",))], POOL)
        assert found.chosen["tank"].along == ("tank/home", "tank/home/ann", "tank/vmx")
        assert found.excluded["tank/vm/a"] == "excluded by the rule for tank (tank/vm)"

    def test_a_rule_of_its_own_in_what_it_excludes_takes_its_own(self) -> None:
        rules = [
            Assignment("tank", PRODUCTION, recursion="zfs", exclude=("tank/vm",)),
            Assignment("tank/vm/a", SCRATCH, recursion="zfs"),
        ]
        found = resolve(rules, POOL).chosen
        assert found["tank/vm/a"].policy.autosnap
        assert found["tank/vm/a"].along == ("tank/vm/a/b",)
        assert found["tank"].along == ("tank/home", "tank/home/ann", "tank/vmx")

    def test_what_a_nearer_rule_excludes_is_not_taken_along_either(self) -> None:
        rules = [
            Assignment("tank", PRODUCTION, recursion="zfs"),
            Assignment("tank/vm", SCRATCH, recursion="each", exclude=("tank/vm/a",)),
        ]
        found = resolve(rules, POOL)
        assert found.chosen["tank"].along == ("tank/home", "tank/home/ann", "tank/vm", "tank/vmx")
        assert set(found.excluded) == {"tank/vm/a", "tank/vm/a/b"}

    def test_replicas_are_never_taken_along(self) -> None:
        found = resolve([Assignment("tank", PRODUCTION, recursion="zfs")], POOL, ("tank/vm",))
        assert found.chosen["tank"].along == ("tank/home", "tank/home/ann", "tank/vmx")
        assert taken_along("tank", POOL, ("tank/vm",)) == ("tank/home", "tank/home/ann", "tank/vmx")

    def test_a_top_that_is_itself_a_replica_takes_nothing(self) -> None:
        found = resolve([Assignment("tank/vm", PRODUCTION, recursion="zfs")], POOL, ("tank/vm",))
        assert found.chosen == {}


class TestChildrenOnly:
    def test_only_what_is_below_gets_the_policy(self) -> None:
        found = resolve([Assignment("tank/vm", PRODUCTION, "each", children_only=True)], POOL)
        assert set(found.chosen) == {"tank/vm/a", "tank/vm/a/b"}
        assert found.excluded == {"tank/vm": "process_children_only: only what is below it"}

    def test_with_zfs_recursion_there_is_no_top_so_each_takes_its_own(self) -> None:
        found = resolve([Assignment("tank/vm", PRODUCTION, "zfs", children_only=True)], POOL).chosen
        assert all(one.policy.autosnap and not one.along for one in found.values())
        assert set(found) == {"tank/vm/a", "tank/vm/a/b"}


@st.composite
def assignments(draw: st.DrawFn) -> list[Assignment]:
    found = []
    for dataset in draw(st.lists(st.sampled_from(POOL), unique=True)):
        below = [one for one in POOL if is_below(one, dataset)]
        exclude = draw(st.lists(st.sampled_from(below), max_size=2)) if below else []
        recursion: Recursion = draw(st.sampled_from(["no", "each", "zfs"]))
        policy = draw(st.sampled_from([PRODUCTION, SCRATCH]))
        found.append(Assignment(dataset, policy, recursion, tuple(exclude), draw(st.booleans())))
    return found


@given(assignments(), st.sets(st.sampled_from(POOL), max_size=2))
def test_for_any_rules_each_with_a_policy_is_taken_by_exactly_one(
    rules: list[Assignment], roots: set[str]
) -> None:
    found = resolve(rules, POOL, tuple(roots))
    taken = [
        one for top, chosen in found.chosen.items() if chosen.policy.autosnap for one in (top, *chosen.along)
    ]
    assert sorted(taken) == sorted(found.chosen)
    assert not set(found.chosen) & set(found.excluded)
    assert not any(holds_replicas(one, tuple(roots)) for one in taken)
    assert resolve(rules[::-1], POOL, tuple(roots)).chosen == found.chosen


def test_ages_that_a_newest_may_have_are_sanoids() -> None:
    limits = {kind: Monitor().limit(kind) for kind in KINDS}
    assert limits == {
        "yearly": Limit(0, 0),
        "monthly": Limit(32 * 86400, 40 * 86400),
        "weekly": Limit(0, 0),
        "daily": Limit(28 * 3600, 32 * 3600),
        "hourly": Limit(90 * 60, 360 * 60),
        "frequently": Limit(0, 0),
    }


def test_periods_are_sanoids() -> None:
    policy = Policy(name="p", frequent_period=10)
    periods = {kind: policy.period(kind) for kind in KINDS}
    assert periods == {
        "yearly": 31557600,
        "monthly": 31 * 86400,
        "weekly": 604800,
        "daily": 86400,
        "hourly": 3600,
        "frequently": 600,
    }
