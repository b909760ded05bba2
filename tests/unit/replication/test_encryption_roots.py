"""Drift of encryption roots, and who may inherit a key again: every small tree, and every reason why not."""

from dataclasses import replace
from itertools import permutations, product

import pytest

from replication.encryption_roots import Repair, Restored, Rooted, drift, record, recorded, repairs
from replication.tree import Branch, expand

ROOT = Restored("tank", "tank", "passphrase", 7, 350_000, loaded=False, root_at_home="tank")
CHILD = replace(ROOT, dataset="tank/a", root="tank/a")
GRANDCHILD = replace(ROOT, dataset="tank/a/b", root="tank/a/b")


def why_not(*restored: Restored) -> str:
    (one,) = [each for each in repairs(restored) if not each.inherit]
    return one.reason


class TestDrift:
    """What is noted is the guid of a root: names come and go."""

    HERE = Rooted("tank/home", "tank/home", 5, 5)

    def test_the_same_root_is_none(self) -> None:
        assert drift(self.HERE, "cloud") is None
        assert drift(replace(self.HERE, recorded=None), "cloud") is None

    @pytest.mark.parametrize(("root", "words"), [("tank/home", "of its own now"), ("tank", "from tank now")])
    def test_another_one_is_refused_and_says_what_to_do(self, root: str, words: str) -> None:
        found = drift(Rooted("tank/home", root, 6, 5), "cloud")
        assert found is not None
        assert found.kind == "encryption_root_changed"
        assert words in found.text
        assert found.hint == "meshkeep replicate accept-root tank/home"

    def test_a_note_that_was_inherited_from_above_is_none(self) -> None:
        assert recorded(record(11, 5), 11) == 5
        assert recorded(record(11, 5), 12) is None

    @pytest.mark.parametrize("text", [None, "", "-", "5", "a:b", "11:5:3", "11:"])
    def test_what_is_no_note_is_none(self, text: str | None) -> None:
        assert recorded(text, 11) is None


class TestRepair:
    def test_a_tree_inherits_from_its_top_whatever_the_order_of_the_list(self) -> None:
        for listed in permutations([ROOT, CHILD, GRANDCHILD]):
            assert [(one.dataset, one.inherit) for one in repairs(listed)] == [
                ("tank/a", True),
                ("tank/a/b", True),
            ]

    def test_who_was_a_root_at_home_stays_one(self) -> None:
        own = replace(CHILD, root_at_home="tank/a")
        below = replace(GRANDCHILD, root_at_home="tank/a")
        assert repairs([ROOT, own, below]) == (
            Repair(
                "tank/a/b",
                True,
                "the same passphrase wraps it as tank/a, which it inherited its key from at home",
            ),
        )

    def test_what_inherits_already_and_what_is_not_known_is_left_alone(self) -> None:
        assert repairs([ROOT, replace(CHILD, root="tank"), replace(GRANDCHILD, root_at_home=None)]) == ()

    @pytest.mark.parametrize(
        ("other", "words"),
        [
            (replace(CHILD, salt=8), "salts differ"),
            (replace(CHILD, iterations=100_000), "salts differ"),
            (replace(CHILD, salt=0), "salts differ"),
            (replace(CHILD, keyformat="raw", salt=0), "no salt"),
            (replace(CHILD, loaded=True), "zfs unload-key tank/a"),
            (replace(CHILD, root_at_home="tank/other"), "not here above it"),
        ],
    )
    def test_why_not(self, other: Restored, words: str) -> None:
        assert words in why_not(ROOT, other)

    def test_a_root_that_is_none_here_gives_no_key(self) -> None:
        assert "no encryption root here" in why_not(replace(ROOT, root=None), CHILD)
        assert "not here" in why_not(CHILD)

    def test_who_lies_below_one_that_did_not_inherit_cannot(self) -> None:
        found = repairs([ROOT, replace(CHILD, salt=8), GRANDCHILD])
        assert [one.inherit for one in found] == [False, False]
        assert "its parent" in found[1].reason


def test_roots_go_before_what_inherits_from_them_in_every_tree() -> None:
    """An encryption root is an ancestor: the order of jobs is by depth, however the rules cut the tree."""
    names = ["t", "t/a", "t/a/b", "t/a/b/c", "t/d", "t/d/e"]
    for chosen in product((False, True), repeat=len(names)):
        roots = [name for name, one in zip(names, chosen, strict=True) if one]
        branches = [Branch(root, "cloud", recursive=True) for root in roots]
        order = [dataset for dataset, _ in expand(branches, names)]
        for dataset in order:
            above = [one for one in order if dataset.startswith(one + "/")]
            assert all(order.index(one) < order.index(dataset) for one in above)
