"""Rules over trees: who is in, and who goes first."""

from replication.tree import Branch, expand

PRESENT = ["tank", "tank/a", "tank/a/b", "tank/a/b/c", "tank/ab", "tank/a/x"]


def names(*branches: Branch, present: list[str] = PRESENT, passed: tuple[str, ...] = ()) -> list[str]:
    return [dataset for dataset, _ in expand(branches, present, passed)]


def test_a_plain_rule_is_its_dataset() -> None:
    assert names(Branch("tank/a", "nas")) == ["tank/a"]


def test_a_tree_is_all_below_it_and_nothing_beside_it() -> None:
    assert names(Branch("tank/a", "nas", True)) == ["tank/a", "tank/a/b", "tank/a/x", "tank/a/b/c"]


def test_what_is_excluded_is_excluded_with_all_below_it() -> None:
    assert names(Branch("tank/a", "nas", True, ("tank/a/b",))) == ["tank/a", "tank/a/x"]


def test_parents_come_before_children_however_the_listing_goes() -> None:
    backwards = sorted(PRESENT, reverse=True)
    found = names(Branch("tank", "nas", True), present=backwards)
    for place, one in enumerate(found):
        assert all(not one.startswith(later + "/") for later in found[place:])
    assert len(found) == len(PRESENT)


def test_a_root_that_is_not_there_is_still_a_job_that_can_say_so() -> None:
    assert names(Branch("tank/gone", "nas", True)) == ["tank/gone"]


def test_the_nearest_rule_counts() -> None:
    upper, lower = Branch("tank/a", "nas", True), Branch("tank/a/b", "nas", True)
    for order in ((upper, lower), (lower, upper)):
        found = expand(order, PRESENT)
        assert found["tank/a/b/c", "nas"] == lower
        assert found["tank/a/x", "nas"] == upper


def test_an_exclude_of_the_outer_rule_does_not_bind_the_inner_one() -> None:
    found = names(Branch("tank/a", "nas", True, ("tank/a/b",)), Branch("tank/a/b", "nas"))
    assert found == ["tank/a", "tank/a/b", "tank/a/x"]


def test_targets_are_apart() -> None:
    found = expand([Branch("tank/a/x", "nas"), Branch("tank/a/x", "cloud")], PRESENT)
    assert list(found) == [("tank/a/x", "cloud"), ("tank/a/x", "nas")]


def test_no_recursion_goes_into_what_is_kept_for_others() -> None:
    assert names(Branch("tank/a", "nas", True), passed=("tank/a/b",)) == ["tank/a", "tank/a/x"]
