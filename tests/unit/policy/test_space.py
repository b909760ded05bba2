"""The space guard: when it works, and what it takes away."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policy.naming import kind_of, snapshot_name
from policy.rules import Assignment, KeepEvery, Policy, PoolLimits, Resolution, resolve
from policy.space import PATIENCE, Progress, is_draining, victims
from zfs.model import Pool, Snapshot

LIMITS = PoolLimits(space_high=90, space_low=80)
POLICY = Policy(name="p")
FULL = Pool("tank", "ONLINE", 1000, 80, 92)


def snap(dataset: str, number: int, used: int = 1, holds: int = 0, name: str = "") -> Snapshot:
    made = name or snapshot_name("hourly", number * 3600)
    return Snapshot(dataset, made, 1000 + number, number, number * 3600, used=used, holds=holds)


def history(dataset: str, count: int, used: int = 1) -> list[Snapshot]:
    return [snap(dataset, number, used) for number in range(1, count + 1)]


def rules(*datasets: str, policy: Policy = POLICY) -> Resolution:
    return resolve([Assignment(dataset, policy) for dataset in datasets], datasets)


def gone(
    histories: Mapping[str, Sequence[Snapshot]],
    needed: Mapping[int, str] | None = None,
    pool: Pool = FULL,
    resolution: Resolution | None = None,
) -> list[str]:
    found = victims(pool, LIMITS, histories, resolution or rules(*histories), needed)
    return [f"{one.snapshot.dataset}@{one.snapshot.createtxg}" for one in found]


class TestWhenItWorks:
    def test_from_the_high_mark_until_the_low_one_and_not_again_before_the_high_one(self) -> None:
        was, told = False, []
        for capacity in (0, 80, 89, 90, 95, 89, 81, 80, 81, 89, 90):
            was = is_draining(replace(FULL, capacity=capacity), LIMITS, was)
            told.append(was)
        assert told == [False, False, False, True, True, True, True, False, False, False, True]

    def test_without_marks_never_even_on_a_full_pool(self) -> None:
        assert not is_draining(replace(FULL, capacity=100), PoolLimits(), was=True)


class TestWhatGoes:
    def test_the_oldest_of_all_datasets_of_the_pool_at_most_the_share_of_a_round(self) -> None:
        made = {
            "tank/a": history("tank/a", 41),
            "tank/b": history("tank/b", 21),
            "pond/c": history("pond/c", 9),
        }
        assert gone(made) == ["tank/a@1", "tank/b@1", "tank/a@2"]

    def test_one_goes_where_the_share_is_less_than_that(self) -> None:
        assert gone({"tank/a": history("tank/a", 3)}) == ["tank/a@1"]

    def test_it_says_why(self) -> None:
        (verdict,) = victims(FULL, LIMITS, {"tank/a": history("tank/a", 3)}, rules("tank/a"))
        assert verdict.reasons == ("space guard: tank is 92 % full, 90 % is too much",)
        assert not verdict.keep

    def test_never_the_newest_of_a_dataset(self) -> None:
        assert gone({"tank/a": history("tank/a", 1)}) == []

    def test_the_newest_is_the_last_made_whatever_the_clock_said(self) -> None:
        made = [snap("tank/a", 1), replace(snap("tank/a", 2), creation=0)]
        assert gone({"tank/a": made}) == ["tank/a@1"]

    def test_never_a_base_nor_what_is_held_nor_what_is_not_ours(self) -> None:
        made = [
            snap("tank/a", 1, holds=1),
            snap("tank/a", 2),
            snap("tank/a", 3, name="before-upgrade"),
            snap("tank/a", 4, name="autosnap_x_hourly"),
            snap("tank/a", 5),
            snap("tank/a", 6),
        ]
        assert gone({"tank/a": made}, needed={1002: "cloud"}) == ["tank/a@5"]

    def test_loose_names_are_ours_where_the_policy_says_so(self) -> None:
        made = [snap("tank/a", 4, name="autosnap_x_hourly"), snap("tank/a", 5)]
        loose = rules("tank/a", policy=replace(POLICY, loose_names=True))
        assert gone({"tank/a": made}, resolution=loose) == ["tank/a@4"]

    def test_nothing_where_autoprune_is_off_or_no_rule_is(self) -> None:
        made = {"tank/a": history("tank/a", 9)}
        assert gone(made, resolution=rules("tank/a", policy=replace(POLICY, autoprune=False))) == []
        assert gone(made, resolution=rules("tank/b")) == []

    def test_it_stops_where_what_they_use_alone_reaches_the_low_mark(self) -> None:
        # 92 % of 1,000 are to become 80 %: 120.
        assert len(gone({"tank/a": history("tank/a", 101, used=60)})) == 2
        assert len(gone({"tank/a": history("tank/a", 101, used=59)})) == 3

    def test_at_the_low_mark_nothing_goes(self) -> None:
        assert gone({"tank/a": history("tank/a", 99)}, pool=replace(FULL, capacity=80)) == []


@st.composite
def pools(draw: st.DrawFn) -> dict[str, list[Snapshot]]:
    found: dict[str, list[Snapshot]] = {}
    for dataset in draw(st.sets(st.sampled_from(["tank", "tank/a", "tank/b", "pond/a"]))):
        found[dataset] = [
            replace(
                snap(dataset, number, draw(st.integers(0, 40)), draw(st.sampled_from([0, 0, 1]))),
                name=draw(st.sampled_from([snapshot_name("daily", number), f"mine{number}"])),
                creation=draw(st.integers(0, 99)),
            )
            for number in range(draw(st.integers(0, 30)))
        ]
    return found


@given(pools(), st.sets(st.integers(1000, 1030)), st.integers(0, 100))
def test_for_any_pool_nothing_goes_that_must_not(
    made: dict[str, list[Snapshot]], bases: set[int], capacity: int
) -> None:
    pool = replace(FULL, capacity=capacity)
    going = [one.snapshot for one in victims(pool, LIMITS, made, rules(*made), dict.fromkeys(bases, "cloud"))]
    newest = {dataset: max(have, key=lambda one: one.createtxg) for dataset, have in made.items() if have}
    for one in going:
        assert one.full_name.startswith("tank")
        assert kind_of(one.name)
        assert not one.holds
        assert one.guid not in bases
        assert one is not newest[one.dataset]
    free = [
        one
        for dataset, have in made.items()
        if dataset.startswith("tank")
        for one in have
        if kind_of(one.name) and not one.holds and one.guid not in bases and one is not newest[dataset]
    ]
    ordered = sorted(free, key=lambda one: (one.creation, one.createtxg))
    assert [one.creation for one in going] == [one.creation for one in ordered[: len(going)]]
    assert len(going) <= max(1, len(free) // 20)
    if capacity <= LIMITS.space_low:
        assert going == []
    if going:
        assert sum(one.used for one in going[:-1]) < pool.size * (capacity - LIMITS.space_low) // 100


@given(pools())
def test_round_after_round_ends_with_what_must_stay(made: dict[str, list[Snapshot]]) -> None:
    left = dict(made)
    for _ in range(200):
        going = {one.snapshot.full_name for one in victims(FULL, LIMITS, left, rules(*left))}
        if not going:
            break
        left = {name: [one for one in have if one.full_name not in going] for name, have in left.items()}
    assert going == set()
    assert all(bool(left[name]) == bool(have) for name, have in made.items())


class TestProgress:
    POOL = Pool("tank", "ONLINE", size=100_000, free=5_000, capacity=95)

    def test_rounds_that_free_next_to_nothing_end_it(self) -> None:
        made = Progress(5_000)
        for _ in range(PATIENCE):
            assert made.helps
            made = made.after(replace(self.POOL, free=5_099))
        assert not made.helps

    def test_a_round_that_frees_something_begins_the_count_anew(self) -> None:
        made = Progress(5_000, PATIENCE - 1).after(replace(self.POOL, free=5_100))
        assert made == Progress(5_100)

    def test_a_pool_that_fills_as_fast_as_it_is_freed_gets_no_credit(self) -> None:
        made = Progress(5_000)
        for free in (4_000, 4_900, 4_500, 4_999, 5_000):
            made = made.after(replace(self.POOL, free=free))
        assert not made.helps


def test_what_keep_last_and_keep_every_keep_stays() -> None:
    history = [
        replace(snap("tank/a", n), name=snapshot_name("hourly", n * 3600), creation=n * 3600)
        for n in range(1, 30)
    ]
    policy = Policy(name="p", hourly=100, keep_last=20, keep_every=(KeepEvery(86400, 9),))
    resolution = resolve([Assignment("tank/a", policy)], ["tank/a"])
    left = {"tank/a": history}
    for _ in range(50):
        going = {one.snapshot.name for one in victims(FULL, LIMITS, left, resolution)}
        left = {"tank/a": [one for one in left["tank/a"] if one.name not in going]}
    assert [one.creation // 3600 for one in left["tank/a"]] == [1, *range(10, 30)]
