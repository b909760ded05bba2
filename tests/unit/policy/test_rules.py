"""Which dataset gets which policy."""

from policy.rules import KINDS, Assignment, Policy, resolve

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
