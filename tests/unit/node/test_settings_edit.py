"""Changing rules from the command line: only the lines concerned, and again changes nothing."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.errors import Exit, MeshkeepError
from node.settings import load
from node.settings_edit import (
    add_replicate,
    add_share,
    pause_replicate,
    remove_replicate,
    remove_share,
)

WRITTEN_BY_HAND = """\
# Our copies.

# photos, twice
[[replicate]] # important
from = "tank/photos" # the big one
to = [
  "nas", # upstairs
  "cloud",
]

# the vault
[[replicate]]
from = "tank/home"
to = "cloud"
rate_limit = "8MiB/s"

# end
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conf.d" / "replicate.toml"


@pytest.fixture
def by_hand(file: Path) -> Path:
    file.parent.mkdir()
    file.write_text(WRITTEN_BY_HAND)
    return file


def test_the_first_rule_makes_the_file(file: Path) -> None:
    assert add_replicate(file, "tank/home", "cloud")
    assert file.read_text() == (
        "# Written by `meshkeep replicate add`; edit it as you like.\n\n"
        '[[replicate]]\nfrom = "tank/home"\nto = "cloud"\n'
    )
    assert file.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in file.parent.iterdir()] == ["replicate.toml"]


def test_what_is_written_can_be_loaded(tmp_path: Path) -> None:
    copies, shares = tmp_path / "replicate.toml", tmp_path / "share.toml"
    add_replicate(copies, "tank/home", "cloud", rate_limit="8MiB/s")
    add_replicate(copies, "tank/pics", "nas", allow_plaintext=True)
    add_share(shares, "tank/home", "laptop", access="rw", map_to="alice")
    add_share(shares, "tank/home", "desk", squash="none")
    found = load([copies, shares])
    assert [(rule.dataset, rule.allow_plaintext, rule.rate_limit) for rule in found.replicate] == [
        ("tank/home", False, 8 * 2**20),
        ("tank/pics", True, None),
    ]
    assert [(rule.to, rule.access, rule.squash, rule.map_to) for rule in found.shares] == [
        (("laptop",), "rw", "all", "alice"),
        (("desk",), "ro", "none", None),
    ]


def test_adding_again_changes_nothing(by_hand: Path) -> None:
    assert not add_replicate(by_hand, "tank/photos", "cloud")
    assert not add_replicate(by_hand, "tank/home", "cloud", rate_limit="8MiB/s")
    assert by_hand.read_text() == WRITTEN_BY_HAND


def test_adding_appends_and_leaves_the_rest_as_it_is(by_hand: Path) -> None:
    assert add_replicate(by_hand, "tank/home", "nas")
    assert by_hand.read_text() == WRITTEN_BY_HAND + '\n[[replicate]]\nfrom = "tank/home"\nto = "nas"\n'


def test_adding_with_other_options_changes_them_in_place(by_hand: Path) -> None:
    assert add_replicate(by_hand, "tank/home", "cloud", allow_plaintext=True)
    assert by_hand.read_text() == WRITTEN_BY_HAND.replace(
        'rate_limit = "8MiB/s"\n', "allow_plaintext = true\n"
    )


def test_other_options_for_one_of_several_nodes_split_it_off(by_hand: Path) -> None:
    assert add_replicate(by_hand, "tank/photos", "nas", rate_limit="1M/s")
    rules = tomllib.loads(by_hand.read_text())["replicate"]
    assert rules[0] == {"from": "tank/photos", "to": ["cloud"]}
    assert rules[2] == {"from": "tank/photos", "to": "nas", "rate_limit": "1M/s"}


def test_removing_takes_the_rule_and_no_comment_outside_of_it(by_hand: Path) -> None:
    assert remove_replicate(by_hand, "tank/home", "cloud")
    assert by_hand.read_text() == WRITTEN_BY_HAND.replace(
        '[[replicate]]\nfrom = "tank/home"\nto = "cloud"\nrate_limit = "8MiB/s"\n\n', ""
    )


def test_removing_one_of_several_nodes_leaves_the_others(by_hand: Path) -> None:
    assert remove_replicate(by_hand, "tank/photos", "nas")
    assert tomllib.loads(by_hand.read_text())["replicate"][0] == {"from": "tank/photos", "to": ["cloud"]}
    assert "# the big one" in by_hand.read_text()


def test_removing_what_is_not_there_changes_nothing(by_hand: Path) -> None:
    assert not remove_replicate(by_hand, "tank/home", "nas")
    assert not remove_share(by_hand, "tank/home", "cloud")
    assert by_hand.read_text() == WRITTEN_BY_HAND
    assert not remove_share(by_hand.parent / "none.toml", "tank/home", "cloud")
    assert not (by_hand.parent / "none.toml").exists()


@pytest.mark.parametrize(
    "text", ["[[replicate]\n", "replicate = []\n[x", 'replicate = [{from = "a", to = "b"}]']
)
def test_a_file_that_cannot_be_changed_safely_is_refused_and_left(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    with pytest.raises(MeshkeepError) as caught:
        add_replicate(file, "tank/home", "nas")
    assert caught.value.exit is Exit.CONFIG
    assert str(file) in caught.value.what
    assert file.read_text() == text


NODES = st.sampled_from(["n1", "n2", "n3"])
DATASETS = st.sampled_from(["tank/a", "tank/b c"])


@settings(max_examples=settings.default.max_examples // 2)  # Every change is synced to a disk.
@given(st.lists(st.tuples(st.booleans(), DATASETS, NODES, st.booleans()), max_size=12))
def test_any_changes_leave_what_was_asked_for(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[bool, str, str, bool]]
) -> None:
    file = tmp_path_factory.mktemp("edit") / "replicate.toml"
    wanted: dict[tuple[str, str], bool] = {}
    for is_add, dataset, node, plaintext in changes:
        if is_add:
            changed = add_replicate(file, dataset, node, allow_plaintext=plaintext)
            assert changed == (wanted.get((dataset, node)) is not plaintext)
            wanted[dataset, node] = plaintext
        else:
            assert remove_replicate(file, dataset, node) == ((dataset, node) in wanted)
            wanted.pop((dataset, node), None)
    rules = load([file]).replicate if file.exists() else ()
    assert {(rule.dataset, node): rule.allow_plaintext for rule in rules for node in rule.to} == wanted


class TestPause:
    def test_it_is_said_in_the_rule_and_taken_out_again(self, by_hand: Path) -> None:
        assert pause_replicate(by_hand, "tank/home", "cloud", paused=True)
        rules = {rule.dataset: rule.paused for rule in load([by_hand]).replicate}
        assert rules == {"tank/photos": False, "tank/home": True}
        assert pause_replicate(by_hand, "tank/home", "cloud", paused=False)
        assert by_hand.read_text() == WRITTEN_BY_HAND

    def test_one_node_of_several_is_paused_alone_with_its_options(self, file: Path) -> None:
        file.parent.mkdir()
        file.write_text(
            '[[replicate]]\nfrom = "tank/a"\nto = ["nas", "cloud"]\nrecursive = true\nexclude = ["tank/a/x"]\n'
        )
        assert pause_replicate(file, "tank/a", "cloud", paused=True)
        rules = {rule.to: (rule.paused, rule.recursive, rule.exclude) for rule in load([file]).replicate}
        assert rules == {("nas",): (False, True, ("tank/a/x",)), ("cloud",): (True, True, ("tank/a/x",))}

    def test_again_changes_nothing(self, by_hand: Path) -> None:
        assert pause_replicate(by_hand, "tank/home", "cloud", paused=False)
        assert by_hand.read_text() == WRITTEN_BY_HAND

    def test_a_rule_that_stands_elsewhere_is_said_to(self, by_hand: Path) -> None:
        assert not pause_replicate(by_hand, "tank/other", "cloud", paused=True)
        assert by_hand.read_text() == WRITTEN_BY_HAND


def test_a_tree_is_written_and_a_plain_add_leaves_it_one(file: Path) -> None:
    assert add_replicate(file, "tank/a", "nas", recursive=True, exclude=["tank/a/x"])
    assert not add_replicate(file, "tank/a", "nas")
    (rule,) = load([file]).replicate
    assert (rule.recursive, rule.exclude) == (True, ("tank/a/x",))
