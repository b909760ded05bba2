"""Moving over from sanoid: the file means the same as the sanoid.conf, and is only written if nothing is in the way."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from node import settings as configuration
from node.sanoid_import_text import as_toml
from policy.import_sanoid import import_sanoid
from policy.rules import Chosen, Policy, Resolution, resolve
from policy.sanoid_conf import read
from zfs.names import is_below

NAMES = ("a", "b", "x")
UNIVERSE = [
    "/".join(("tank", *rest))
    for rest in (
        (),
        *((p,) for p in NAMES),
        *((p, q) for p in NAMES for q in NAMES),
        ("a", "b", "a"),
        ("a", "b", "x"),
    )
]
TEMPLATES = ("one", "two", "default")
VALUES = {
    "hourly": ("0", "24", "48", "200000"),
    "daily": ("7", "30"),
    "frequent_period": ("5", "90"),
    "frequently": ("0", "4"),
    "monthly_mday": ("31",),
    "autosnap": ("yes", "no", "nO"),
    "autoprune": ("yes", "0"),
    "prune_defer": ("50",),
    "daily_warn": ("36", "2d", "0"),
    "monitor": ("no",),
    "pre_snapshot_script": ('/bin/echo "it\'s"', ""),
    "script_timeout": ("-1", "0", "90", "100000"),
    "capacity_warn": ("70", "99"),
    "recursive": ("yes", "zfs", "no", "true"),
    "process_children_only": ("yes", "no"),
    "skip_children": ("yes",),
}


@st.composite
def confs(draw: st.DrawFn) -> str:
    """Sections in any order, most of them short."""
    names = draw(st.lists(st.sampled_from([*UNIVERSE, "by path"]), min_size=1, max_size=6, unique=True))
    templates = draw(st.lists(st.sampled_from(TEMPLATES), max_size=3, unique=True))
    blocks = []
    for name in draw(st.permutations([*names, *(f"template_{one}" for one in templates)])):
        keys: dict[str, str] = {}
        for key in draw(st.lists(st.sampled_from([*VALUES]), max_size=4, unique=True)):
            keys[key] = draw(st.sampled_from(VALUES[key]))
        if not name.startswith("template_"):
            if draw(st.booleans()):
                keys["recursive"] = draw(st.sampled_from(("yes", "yes", "zfs")))
            if draw(st.booleans()):
                keys["use_template"] = draw(st.sampled_from(("one", "two", "one,two", "nowhere")))
            if name == "by path" or draw(st.integers(0, 9)) == 9:
                # What is inside of its own path would write over itself.
                paths = [one for one in UNIVERSE if not is_below(name, one)]
                keys["path"] = draw(st.sampled_from(paths))
        blocks.append("\n".join((f"[{name}]", *(f"  {key} = {value}" for key, value in keys.items()))))
    return "\n".join(blocks)


@st.composite
def trees(draw: st.DrawFn) -> list[str]:
    """Datasets, with all that is above each."""
    found = {"tank"}
    for name in draw(st.lists(st.sampled_from([*UNIVERSE, "tank/x/x/x/x", "tank/a/a/b/b"]), max_size=12)):
        parts = name.split("/")
        found |= {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return sorted(found)


def meaning(resolution: Resolution, dataset: str) -> Any:
    """What matters of what *dataset* gets: waiting for ever has two spellings, and names are names."""
    tops = {
        top for top, chosen in resolution.chosen.items() if chosen.policy.autosnap and dataset in chosen.along
    }
    chosen = resolution.chosen.get(dataset)
    if chosen is None:
        return None, tops
    hooks = replace(chosen.policy.hooks, script_timeout=max(0, chosen.policy.hooks.script_timeout))
    return replace(chosen.policy, name="", loose_names=False, hooks=hooks), tops


def beyond_bounds(policy: Policy) -> bool:
    """What the file has no room for; the notes say so."""
    return policy.frequent_period > 60 or policy.hourly > 100_000


def by_file(text: str, datasets: list[str], loose_names: bool = False) -> tuple[Resolution, Resolution, Any]:
    """What sanoid.conf says, what the file made of it says, and the import."""
    conf = read([("sanoid.conf", text)])
    imported = import_sanoid(conf, loose_names=loose_names)
    made = configuration.parse([("made.toml", as_toml(imported, "sanoid.conf"))])
    assert made.policies == {one.policy.name: one.policy for one in imported.policies}
    assert made.assignments == imported.rules
    assert made.pools == imported.pools
    return conf.resolve(datasets), resolve(made.assignments, datasets, (), made.pools), imported


def told(chosen: Chosen | None) -> Iterator[str]:
    if chosen is not None and beyond_bounds(chosen.policy):
        yield chosen.policy.name


class TestTheFileMeansTheSame:
    @settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(confs(), trees())
    def test_every_dataset_gets_the_same_whatever_datasets_there_are(
        self, text: str, tree: list[str]
    ) -> None:
        theirs, ours, imported = by_file(text, tree)
        for dataset in tree:
            if imported.differs(dataset):
                continue
            noted = [name for name in told(theirs.chosen.get(dataset))]
            if noted:
                assert any(f"[{noted[0]}]" in note for note in imported.notes)
                continue
            assert meaning(ours, dataset) == meaning(theirs, dataset), dataset
