"""The brake: which datasets' prune waits for a person."""

import pytest

from policy.brake import ALWAYS, held_back, one_round
from policy.retention import Verdict
from policy.rules import Assignment, Policy, resolve
from zfs.model import Snapshot


def going(dataset: str, count: int) -> list[Verdict]:
    return [
        Verdict(Snapshot(dataset, f"s{number}", number, number, number), False, ("old",))
        for number in range(count)
    ]


@pytest.mark.parametrize(
    ("count", "of", "waits"),
    [
        pytest.param(ALWAYS, ALWAYS, False, id="so few that it is never asked"),
        pytest.param(ALWAYS + 1, ALWAYS + 1, True, id="all of many"),
        pytest.param(50, 100, False, id="half"),
        pytest.param(51, 100, True, id="more than half"),
        pytest.param(51, 101, True, id="more than half of an odd number"),
        pytest.param(50, 101, False, id="less than half of an odd number"),
        pytest.param(500, 10_000, False, id="many of very many"),
        pytest.param(0, 0, False, id="nothing at all"),
    ],
)
def test_many_and_more_than_half_wait(count: int, of: int, waits: bool) -> None:
    assert held_back(going("tank/a", count), {"tank/a": of}) == ({"tank/a": count} if waits else {})


def test_one_dataset_that_waits_does_not_hold_back_another() -> None:
    doomed = [*going("tank/a", 99), *going("tank/b", 99)]
    assert held_back(doomed, {"tank/a": 100, "tank/b": 1000}) == {"tank/a": 99}


def test_a_dataset_whose_number_is_not_known_waits() -> None:
    assert held_back(going("tank/a", 99), {}) == {"tank/a": 99}


def test_where_pruning_was_deferred_the_oldest_few_go_each_round_and_nothing_waits() -> None:
    rules = [Assignment("tank/a", Policy(name="p", prune_defer=60)), Assignment("tank/b", Policy(name="q"))]
    resolution = resolve(rules, ["tank/a", "tank/b"])
    doomed = [*going("tank/a", 99), *going("tank/b", 30)]
    assert held_back(doomed, {"tank/a": 100, "tank/b": 100}, resolution) == {}
    left = one_round(doomed, resolution)
    assert [one.snapshot.full_name for one in left if one.snapshot.dataset == "tank/a"] == [
        f"tank/a@s{number}" for number in range(ALWAYS)
    ]
    assert sum(one.snapshot.dataset == "tank/b" for one in left) == 30
