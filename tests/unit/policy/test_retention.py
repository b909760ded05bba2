"""What is kept, what goes, and why."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policy.naming import kind_of, snapshot_name
from policy.retention import doomed, guards_of, verdicts
from policy.rules import KINDS, KeepEvery, Kind, Policy
from zfs.model import Snapshot

NOW = 1_800_000_000
HOUR, DAY = 3600, 86400
KEEP = Policy(name="p", frequently=2, hourly=2, daily=2, weekly=1, monthly=1, yearly=1)


def snap(name: str, age: int, number: int = 0, holds: int = 0) -> Snapshot:
    return Snapshot("tank/a", name, 10_000 + number, 5_000 + number, NOW - age, holds=holds)


def ours(kind: Kind, *ages: int) -> list[Snapshot]:
    """The given ages, oldest first."""
    return [snap(snapshot_name(kind, NOW - age), age, n) for n, age in enumerate(sorted(ages, reverse=True))]


def ages_pruned(snapshots: Sequence[Snapshot], policy: Policy = KEEP) -> list[int]:
    return [NOW - verdict.snapshot.creation for verdict in doomed(policy, snapshots, NOW)]


def reasons(snapshots: Sequence[Snapshot], policy: Policy = KEEP) -> list[str]:
    return ["; ".join(verdict.reasons) for verdict in verdicts(policy, snapshots, NOW)]


class TestSanoidsRule:
    def test_old_and_more_than_enough_goes(self) -> None:
        assert ages_pruned(ours("hourly", HOUR, 2 * HOUR, 3 * HOUR, 9 * HOUR)) == [9 * HOUR, 3 * HOUR]

    def test_old_but_not_more_than_enough_stays(self) -> None:
        assert ages_pruned(ours("hourly", 900 * DAY, 901 * DAY)) == []

    def test_more_than_enough_but_young_stays(self) -> None:
        assert ages_pruned(ours("hourly", 1, 2, 3, 4, 5)) == []

    def test_exactly_as_old_as_the_limit_stays(self) -> None:
        assert ages_pruned(ours("hourly", 0, 1, 2 * HOUR)) == []
        assert ages_pruned(ours("hourly", 0, 1, 2 * HOUR + 1)) == [2 * HOUR + 1]

    def test_a_count_of_zero_lets_all_of_a_kind_go_at_once(self) -> None:
        none = replace(KEEP, hourly=0)
        assert ages_pruned([*ours("hourly", 1, 2), snap("manual", 0, 9)], none) == [2, 1]

    def test_without_autoprune_nothing_goes(self) -> None:
        many = ours("hourly", *range(0, 99 * DAY, DAY))
        assert ages_pruned(many, replace(KEEP, autoprune=False)) == []
        assert reasons(many, replace(KEEP, autoprune=False))[0] == "hourly 99 of 2, autoprune is off"


class TestBeyondSanoid:
    OLD = ours("hourly", HOUR, 2 * HOUR, 5 * HOUR, 6 * HOUR)

    def test_a_hold_keeps(self) -> None:
        held = [replace(self.OLD[0], holds=1), *self.OLD[1:]]
        assert ages_pruned(held) == [5 * HOUR]
        assert reasons(held)[0] == "hourly 4 of 2, older than 2 hours; held"

    def test_what_a_replica_needs_as_its_base_stays(self) -> None:
        needed = {self.OLD[1].guid: "cloud"}
        assert [verdict.snapshot for verdict in doomed(KEEP, self.OLD, NOW, needed)] == [self.OLD[0]]
        kept = verdicts(KEEP, self.OLD, NOW, needed)[1]
        assert (kept.keep, kept.reasons[-1]) == (True, "needed by cloud")

    def test_where_none_is_kept_even_the_newest_of_the_dataset_goes_as_with_sanoid(self) -> None:
        none = replace(KEEP, hourly=0)
        assert ages_pruned(self.OLD, none) == [6 * HOUR, 5 * HOUR, 2 * HOUR, HOUR]
        assert reasons(self.OLD, none)[-1] == "hourly 1, none is kept"

    def test_what_is_not_ours_stays_and_does_not_count(self) -> None:
        others = [snap(name, 900 * DAY, 50 + n) for n, name in enumerate(("manual", "x_hourly"))]
        assert ages_pruned([*others, *self.OLD]) == [6 * HOUR, 5 * HOUR]
        assert reasons([*others, *self.OLD])[0] == "not ours"

    def test_every_verdict_says_why(self) -> None:
        assert reasons(ours("daily", 0, 1, 2, 9 * DAY)) == [
            "daily 4 of 2, older than 2 days",
            "daily 3 of 2, not older than 2 days",
            "daily 2 of 2",
            "daily 1 of 2",
        ]
        assert reasons(ours("weekly", 0, 8 * DAY))[0] == "weekly 2 of 1, older than 1 week"


class TestKeepLast:
    def test_the_newest_of_all_kinds_stay(self) -> None:
        none = replace(KEEP, hourly=0, daily=0, keep_last=2)
        mixed = [*ours("daily", 5 * HOUR, 3 * HOUR), *ours("hourly", 4 * HOUR, 6 * HOUR)]
        assert ages_pruned(mixed, none) == [6 * HOUR, 5 * HOUR]
        assert reasons(mixed, none)[1] == "daily 1, none is kept; last 1 of 2"

    def test_what_is_not_ours_is_not_counted(self) -> None:
        none = replace(KEEP, hourly=0, keep_last=1)
        assert ages_pruned([*ours("hourly", 1, 2), snap("mine", 0, 9)], none) == [2]

    def test_it_does_not_add_to_what_is_kept_anyway(self) -> None:
        young = ours("hourly", HOUR, 2 * HOUR, 5 * HOUR)
        assert ages_pruned(young, replace(KEEP, keep_last=2)) == [5 * HOUR]
        assert reasons(young, replace(KEEP, keep_last=2))[-1] == "hourly 1 of 2; last 1 of 2"


class TestKeepEvery:
    NONE = replace(KEEP, hourly=0)
    MIDNIGHT = NOW - NOW % DAY
    """The start of today; ages below are counted from it."""

    def kept(self, rule: KeepEvery, *ages: int) -> list[int]:
        """Of snapshots *ages* before this midnight, those that stay."""
        since = NOW - self.MIDNIGHT
        snapshots = ours("hourly", *(age + since for age in ages))
        gone = ages_pruned(snapshots, replace(self.NONE, keep_every=(rule,)))
        return sorted(set(ages) - {age - since for age in gone})

    def test_the_first_of_each_of_the_newest_periods_stays(self) -> None:
        three_a_day = [day * DAY - hour * HOUR for day in range(1, 6) for hour in (1, 8, 20)]
        assert self.kept(KeepEvery(DAY, 3), *three_a_day) == [day * DAY - HOUR for day in (1, 2, 3)]

    def test_a_period_begins_with_its_first_second(self) -> None:
        assert self.kept(KeepEvery(DAY, 9), 1, 0, -1) == [0, 1]

    def test_periods_without_any_do_not_count(self) -> None:
        assert self.kept(KeepEvery(DAY, 2), 1, 100 * DAY, 300 * DAY) == [1, 100 * DAY]

    def test_rules_add_up_and_each_says_so(self) -> None:
        both = replace(self.NONE, keep_every=(KeepEvery(DAY, 1), KeepEvery(7 * DAY, 2)))
        told = reasons(ours("hourly", 1, 20 * DAY), both)
        assert told == [
            "hourly 2, none is kept; one per 1w, 2 of 2",
            "hourly 1, none is kept; one per 1d, 1 of 1; one per 1w, 1 of 2",
        ]

    def test_periods_are_written_in_the_largest_unit(self) -> None:
        texts = [str(KeepEvery(seconds, 1)) for seconds in (14 * DAY, 3 * DAY, 12 * HOUR, 90 * 60, 61)]
        assert texts == ["one per 2w", "one per 3d", "one per 12h", "one per 90m", "one per 61s"]


class TestLooseNames:
    ODD = (snap("autosnap_x_hourly", 900 * DAY, 1), snap("autosnap_2020-01-01_hourly", 800 * DAY, 2))

    def test_what_sanoid_takes_for_its_own_is_ours_only_with_them(self) -> None:
        none = replace(KEEP, hourly=0)
        assert ages_pruned(self.ODD, none) == []
        assert reasons(self.ODD, none) == ["not ours", "not ours"]
        assert ages_pruned(self.ODD, replace(none, loose_names=True)) == [900 * DAY, 800 * DAY]

    def test_they_count_for_what_else_is_kept(self) -> None:
        loose = replace(KEEP, hourly=1, loose_names=True)
        assert ages_pruned([*self.ODD, *ours("hourly", 700 * DAY)], loose) == [900 * DAY, 800 * DAY]
        last = replace(KEEP, hourly=0, keep_last=1)
        assert ages_pruned([*ours("hourly", 950 * DAY), *self.ODD], last) == []


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """Snapshots in order of their transactions, with creations that may tie, jump back or lie ahead."""
    found = []
    for number in range(draw(st.integers(0, 14))):
        age = draw(st.integers(-DAY, 5 * DAY) | st.integers(0, 900 * DAY))
        kind = draw(st.sampled_from([*KINDS, None]))
        name = f"manual{number}" if kind is None else snapshot_name(kind, 1_000_000_000 + number)
        found.append(snap(name, age, number, draw(st.sampled_from([0, 0, 0, 1]))))
    return found


COUNTS = st.integers(0, 4)
SANOIDS = st.builds(
    lambda counts: Policy(name="p", **dict(zip(KINDS, counts, strict=True))),
    st.tuples(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS, COUNTS),
)
RULES = st.builds(KeepEvery, st.sampled_from([HOUR, 7 * HOUR, DAY, 30 * DAY]), st.integers(1, 4))
POLICIES = st.builds(
    lambda policy, last, every: replace(policy, keep_last=last, keep_every=tuple(every)),
    SANOIDS,
    COUNTS,
    st.lists(RULES, max_size=2),
)


def naive(policy: Policy, snapshots: Sequence[Snapshot], needed: dict[int, str]) -> set[str]:
    """Sanoid's loop, written down as it is described, and then what must stay is taken out."""
    gone: set[str] = set()
    for kind in KINDS:
        of_kind = sorted(
            (s for s in snapshots if kind_of(s.name) == kind), key=lambda s: (s.creation, s.createtxg)
        )
        left = len(of_kind)
        for snapshot in of_kind:
            old = snapshot.creation < NOW - policy.count(kind) * policy.period(kind)
            if old and left > policy.count(kind):
                gone.add(snapshot.name)
                left -= 1
    stays = {s.name for s in snapshots if s.holds or s.guid in needed}
    return gone - stays


class TestForAnyHistory:
    @given(SANOIDS, histories(), st.sets(st.integers(10_000, 10_014)))
    def test_the_same_goes_as_by_sanoids_loop(
        self, policy: Policy, history: list[Snapshot], guids: set[int]
    ) -> None:
        needed = dict.fromkeys(guids, "cloud")
        assert {v.snapshot.name for v in doomed(policy, history, NOW, needed)} == naive(
            policy, history, needed
        )

    @given(POLICIES, histories(), st.sets(st.integers(10_000, 10_014)))
    def test_the_list_of_what_goes_is_what_the_verdicts_say(
        self, policy: Policy, history: list[Snapshot], guids: set[int]
    ) -> None:
        needed = dict.fromkeys(guids, "cloud")
        told = verdicts(policy, history, NOW, needed)
        assert [verdict.snapshot for verdict in told] == history
        assert all(verdict.reasons for verdict in told)
        going = [verdict for verdict in told if not verdict.keep]
        assert sorted(going, key=lambda v: (v.snapshot.creation, v.snapshot.createtxg)) == doomed(
            policy, history, NOW, needed
        )

    @given(POLICIES, histories())
    def test_the_newest_n_of_a_kind_never_go(self, policy: Policy, history: list[Snapshot]) -> None:
        gone = {verdict.snapshot.name for verdict in doomed(policy, history, NOW)}
        for kind in KINDS:
            of_kind = sorted(
                (s for s in history if kind_of(s.name) == kind), key=lambda s: (s.creation, s.createtxg)
            )
            count = policy.count(kind)
            assert not gone & {s.name for s in of_kind[len(of_kind) - min(count, len(of_kind)) :]}

    @given(POLICIES, histories())
    def test_doing_it_twice_does_nothing_more(self, policy: Policy, history: list[Snapshot]) -> None:
        gone = {verdict.snapshot.name for verdict in doomed(policy, history, NOW)}
        assert doomed(policy, [s for s in history if s.name not in gone], NOW) == []

    @given(POLICIES, histories(), st.sampled_from(KINDS))
    def test_keeping_more_never_loses_more(self, policy: Policy, history: list[Snapshot], kind: Kind) -> None:
        more = replace(policy, **{kind: policy.count(kind) + 1})
        fewer = {verdict.snapshot.name for verdict in doomed(more, history, NOW)}
        assert fewer <= {verdict.snapshot.name for verdict in doomed(policy, history, NOW)}

    @given(POLICIES, histories(), st.integers(0, 900 * DAY))
    def test_what_goes_now_goes_later_too(self, policy: Policy, history: list[Snapshot], later: int) -> None:
        now = {verdict.snapshot.name for verdict in doomed(policy, history, NOW)}
        assert now <= {verdict.snapshot.name for verdict in doomed(policy, history, NOW + later)}

    @given(POLICIES, histories(), st.lists(st.integers(0, 90 * DAY), max_size=4))
    def test_pruning_again_and_again_keeps_what_one_late_look_would_keep(
        self, policy: Policy, history: list[Snapshot], waits: list[int]
    ) -> None:
        left, now = list(history), NOW
        for wait in waits:
            gone = {verdict.snapshot.name for verdict in doomed(policy, left, now)}
            left, now = [one for one in left if one.name not in gone], now + wait
        at_once = {verdict.snapshot.name for verdict in doomed(policy, history, now)}
        gone = {verdict.snapshot.name for verdict in doomed(policy, left, now)}
        assert {s.name for s in left} - gone == {s.name for s in history} - at_once

    @given(POLICIES, histories(), st.integers(0, 900 * DAY))
    def test_what_the_rules_beyond_sanoid_keep_stays_while_no_younger_ones_come(
        self, policy: Policy, history: list[Snapshot], later: int
    ) -> None:
        chosen = set(guards_of(policy, history, {}))
        gone = {verdict.snapshot.name for verdict in doomed(policy, history, NOW + later)}
        left = [one for one in history if one.name not in gone]
        assert chosen == set(guards_of(policy, left, {}))
        assert not chosen & gone

    @given(POLICIES, histories())
    def test_they_only_ever_keep_more_than_sanoid(self, policy: Policy, history: list[Snapshot]) -> None:
        sanoids = replace(policy, keep_last=0, keep_every=())
        gone = {verdict.snapshot.name for verdict in doomed(policy, history, NOW)}
        assert gone <= {verdict.snapshot.name for verdict in doomed(sanoids, history, NOW)}

    @given(POLICIES, histories())
    def test_each_rule_keeps_one_of_each_of_its_newest_periods(
        self, policy: Policy, history: list[Snapshot]
    ) -> None:
        gone = {verdict.snapshot.name for verdict in doomed(policy, history, NOW)}
        mine = [one for one in history if kind_of(one.name)]
        for rule in policy.keep_every:
            periods = sorted({one.creation // rule.seconds for one in mine})[-rule.count :]
            left = {one.creation // rule.seconds for one in mine if one.name not in gone}
            assert set(periods) <= left

    @given(POLICIES, histories())
    def test_what_is_not_ours_never_goes(self, policy: Policy, history: list[Snapshot]) -> None:
        assert all(kind_of(verdict.snapshot.name) for verdict in doomed(policy, history, NOW + 10**9))
