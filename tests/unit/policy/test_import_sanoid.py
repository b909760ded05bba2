"""The rules that a sanoid.conf becomes: the plainest that say the same, and what cannot be said."""

import pytest

from policy.import_policies import in_bounds
from policy.import_sanoid import Imported, import_sanoid
from policy.rules import Hooks, Policy, PoolLimits
from policy.sanoid_conf import read


def imported(text: str, taken: tuple[str, ...] = (), *, loose_names: bool = False) -> Imported:
    return import_sanoid(read([("sanoid.conf", text)]), taken, loose_names=loose_names)


def rules(text: str) -> list[str]:
    """``DATASET POLICY`` and what else the rule says."""
    found = []
    for rule in imported(text).rules:
        words = [rule.dataset, rule.policy.name, *([rule.recursion] if rule.recursion != "no" else [])]
        words += ["children only"] if rule.children_only else []
        words += [f"but {one}" for one in rule.exclude]
        found.append(" ".join(words))
    return found


class TestRules:
    """Each says all of its sanoid.conf."""

    @pytest.mark.parametrize(
        ("text", "wanted"),
        [
            ("[tank]\nrecursive = yes", ["tank default each"]),
            ("[tank]\nrecursive = zfs", ["tank default zfs"]),
            ("[tank]\nuse_template = prod\n[template_prod]\nhourly = 3", ["tank prod"]),
            (
                "[tank]\nrecursive = yes\nprocess_children_only = yes",
                ["tank default each children only"],
            ),
            # A child that changes something does not hand it down.
            (
                "[tank]\nrecursive = yes\n[tank/a]\nhourly = 3",
                ["tank default each", "tank/a tank-a"],
            ),
            (
                "[tank]\nrecursive = yes\n[tank/a]\nhourly = 3\nrecursive = yes",
                ["tank default each", "tank/a tank-a each"],
            ),
            # The parent comes later and writes over it.
            ("[tank/a]\nhourly = 3\n[tank]\nrecursive = yes", ["tank default each"]),
            # The child itself stays, what is below it does not.
            (
                "[tank]\nrecursive = yes\n[tank/a]\nskip_children = yes",
                ["tank default each but tank/a", "tank/a default"],
            ),
            # Only the child itself is left out.
            (
                "[tank]\nrecursive = yes\n[tank/a]\nprocess_children_only = yes",
                ["tank default each", "tank/a default each children only"],
            ),
            # A child of a zfs recursion prunes by its own counts, and takes nothing.
            (
                "[tank]\nrecursive = zfs\n[tank/a]\nhourly = 3",
                ["tank default zfs", "tank/a tank-a"],
            ),
            # Taken along, and nobody's to prune.
            (
                "[tank]\nrecursive = zfs\n[tank/a]\nprocess_children_only = yes",
                ["tank default zfs", "tank/a tank-a"],
            ),
            ("[other name]\npath = tank/a", ["tank/a default"]),
            ("[tank]", ["tank default"]),
        ],
    )
    def test_are_the_plainest(self, text: str, wanted: list[str]) -> None:
        assert rules(text) == wanted
        assert imported(text).differences == ()

    def test_parents_come_before_their_children(self) -> None:
        text = "[tank/a/b]\nhourly = 1\n[tank-x]\nhourly = 2\n[tank/a]\nhourly = 3\n[tank]\nhourly = 4"
        assert [rule.dataset for rule in imported(text).rules] == ["tank", "tank/a", "tank/a/b", "tank-x"]


class TestPolicies:
    def test_are_named_after_templates_and_extend_them_where_that_is_shorter(self) -> None:
        text = (
            "[tank]\nuse_template = prod\n[tank/a]\nuse_template = prod\ndaily = 1\n"
            "[template_prod]\nhourly = 3\nmonthly = 1\n"
        )
        found = {one.policy.name: one for one in imported(text).policies}
        assert list(found) == ["prod", "tank-a"]
        assert found["tank-a"].base == found["prod"].policy
        assert (found["tank-a"].policy.hourly, found["tank-a"].policy.daily) == (3, 1)

    def test_a_list_of_templates_is_one_policy(self) -> None:
        text = "[tank]\nuse_template = a, b\n[template_a]\nhourly = 3\n[template_b]\nhourly = 5\ndaily = 1"
        (found,) = imported(text).policies
        assert (found.policy.name, found.policy.hourly, found.policy.daily) == ("a-b", 5, 1)

    def test_what_is_the_same_is_written_once(self) -> None:
        assert len(imported("[tank]\nhourly = 3\n[pond]\nhourly = 3").policies) == 1

    def test_names_that_are_taken_are_left_alone(self) -> None:
        (found,) = imported("[tank]", ("default", "default-2")).policies
        assert found.policy.name == "default-3"

    def test_names_of_datasets_become_bare_keys_and_stay_apart(self) -> None:
        found = imported("[tank/a b]\nhourly = 1\n[tank/a:b]\nhourly = 2").policies
        assert [one.policy.name for one in found] == ["tank-a-b", "tank-a-b-2"]

    @pytest.mark.parametrize("loose", [True, False])
    def test_prune_by_exact_names_unless_told_otherwise(self, loose: bool) -> None:
        assert [one.policy.loose_names for one in imported("[tank]", loose_names=loose).policies] == [loose]


class TestBounds:
    def test_what_there_is_no_room_for_keeps_no_less(self) -> None:
        policy, notes = in_bounds(Policy(name="p", frequently=4, frequent_period=90, hourly=200_000))
        assert (policy.frequently, policy.frequent_period, policy.hourly) == (6, 60, 100_000)
        assert len(notes) == 2

    def test_waiting_for_ever_is_0(self) -> None:
        policy, notes = in_bounds(Policy(name="p", hooks=Hooks(script_timeout=-1)))
        assert (policy.hooks.script_timeout, notes) == (0, [])

    def test_everything_else_stays(self) -> None:
        policy = Policy(name="p", hourly=3, monthly_mday=31)
        assert in_bounds(policy) == (policy, [])


class TestPools:
    def test_only_what_differs_from_the_defaults(self) -> None:
        text = "[tank]\ncapacity_warn = 70\n[pond]\nhourly = 1"
        assert imported(text).pools == {"tank": PoolLimits(capacity_warn=70)}

    def test_a_warning_that_is_never_reached_is_none(self) -> None:
        found = imported("[tank]\ncapacity_warn = 99\ncapacity_crit = 90")
        assert found.pools == {"tank": PoolLimits(capacity_warn=0, capacity_crit=90)}
        assert any("never reached" in note for note in found.notes)


class TestNotes:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("[tank]\nuse_template = nope", 'there is no template "nope"'),
            ("[tank]\n[template_p]\nhourly = 3", "[template_p] is used by no section"),
            ("[tank/a]\nhourly = 3\n[tank]\nrecursive = yes", "writes over all that [tank/a] sets"),
            ("[tank]\npath = pond", "is for pond by its path="),
            ("[tank]\n[no//dataset]", "is no dataset"),
            ("[tank]\nhourly = 5\nhourly = 6", "the first one counts"),
            ("[tank]\nhourly = 200000", "the most there can be"),
        ],
    )
    def test_say_what_has_no_equivalent(self, text: str, said: str) -> None:
        found = [note for note in imported(text).notes if said in note]
        assert len(found) == 1

    def test_there_are_none_without_reason(self) -> None:
        assert imported("[tank]\nuse_template = p\n[template_p]\nhourly = 3").notes == ()


class TestDifferences:
    """What the rules cannot say is said, and of which datasets."""

    def test_a_recursion_that_survives_below_a_later_parent(self) -> None:
        found = imported("[tank/a]\nrecursive = zfs\n[tank]\nrecursive = yes")
        assert found.differs("tank/a/x")
        assert found.differs("tank/a/x/y")
        assert not found.differs("tank")
        assert not found.differs("tank/x")
        assert [(one.dataset, one.below) for one in found.differences] == [("tank/a", True)]

    def test_nothing_is_destroyed_that_sanoid_would_leave_alone(self) -> None:
        """One rule gives the child and what is below it the same: then rather that which destroys nothing."""
        found = imported("[tank]\nrecursive = zfs\n[tank/a]\nskip_children = yes")
        assert found.differs("tank/a")
        assert not found.differs("tank/a/x")
        assert "these rules autoprune = false" in str(found.differences[0])

    def test_a_section_with_path_that_inherits_by_its_name(self) -> None:
        text = "[tank]\nrecursive = yes\nhourly = 3\n[tank/a]\npath = pond"
        found = imported(text)
        assert found.differs("pond")
        assert "if there is no dataset tank/a" in str(found.differences[0])
