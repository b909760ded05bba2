"""A source with all its keys, and nothing but lies: what the target keeps, what it lets go, and when."""

import itertools
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replication.target_clock import (
    AHEAD,
    BEHIND,
    MOST_GAPS,
    SLACK,
    Gap,
    Marks,
    Reading,
    begin,
    dump,
    load,
    look,
    unexplained,
    vouched,
    why,
)
from replication.target_retention import DAY, Keep, Stored, Verdict, this_run, verdicts
from zfs.model import Snapshot

HOUR = 3600
NOW = 1_790_000_000
FLOOR = 30 * DAY
KEEP = Keep()


def stored(place: int, creation: int, received: int) -> Stored:
    """The *place*-th arrival."""
    return Stored(Snapshot("v/m/n/t", f"s{place:05}", 1000 + place, 10 + place, creation), received)


def history(pairs: Iterable[tuple[int, int]]) -> list[Stored]:
    """(creation, receipt) of each arrival, in the order of arrival."""
    return [stored(place, *pair) for place, pair in enumerate(pairs)]


def honest(days: int, end: int = NOW, step: int = DAY) -> list[Stored]:
    """One a day up to *end*, each received a minute after it was taken."""
    return history((at, at + 60) for at in range(end - days * DAY, end - 60, step))


def gone(found: Sequence[Verdict]) -> set[str]:
    return {verdict.snapshot.name for verdict in found if verdict.goes}


def kept(found: Sequence[Verdict]) -> set[str]:
    return {verdict.snapshot.name for verdict in found if not verdict.goes}


def without(those: Sequence[Stored], names: set[str]) -> list[Stored]:
    return [one for one in those if one.snapshot.name not in names]


def reasons(found: Sequence[Verdict], place: int) -> tuple[str, ...]:
    return found[place].reasons


# What of an honest history must stay: written once more, from the words of the policy and in local dates.


def must_stay(keep: Keep, those: Sequence[Stored], now: int) -> set[str]:
    """The first of each period within the windows that end where the floor begins."""
    edge = datetime.fromtimestamp(now - keep.floor, UTC)
    chosen = set()
    for count, key in (
        (keep.hourly, lambda at: at.toordinal() * 24 + at.hour),
        (keep.daily, lambda at: at.toordinal()),
        (keep.weekly, lambda at: (at.toordinal() - at.weekday()) // 7),
        (keep.monthly, lambda at: at.year * 12 + at.month),
        (keep.yearly, lambda at: at.year),
    ):
        firsts: dict[int, str] = {}
        for one in those:
            firsts.setdefault(key(datetime.fromtimestamp(one.snapshot.creation, UTC)), one.snapshot.name)
        chosen |= {name for period, name in firsts.items() if key(edge) - period < count}
    return chosen


class TestAnHonestHistory:
    def test_what_a_verdict_says(self) -> None:
        found = verdicts(replace(KEEP, weekly=0, monthly=0, yearly=0), honest(62), NOW)
        assert reasons(found, 61) == ("floor: 0 of 30 days since receipt",)
        assert reasons(found, 41) == ("floor: 20 of 30 days since receipt",)
        assert reasons(found, 31) == ("newest past the floor", "daily 1 of 30")
        assert reasons(found, 30) == ("daily 2 of 30",)
        assert reasons(found, 2) == ("daily 30 of 30",)
        assert reasons(found, 1) == ("past the floor, first of no period that is kept",)
        assert [verdict.goes for verdict in found] == [True, True] + [False] * 60

    def test_ten_years_of_hours_come_down_to_what_the_policy_says(self) -> None:
        those = honest(3650, step=6 * HOUR)
        left = without(those, gone(verdicts(KEEP, those, NOW)))
        young = [one for one in left if NOW - one.counted < FLOOR]
        assert len(young) == 30 * 4
        assert must_stay(KEEP, those, NOW) <= {one.snapshot.name for one in left}
        assert len(left) - len(young) <= 30 + 8 + 12 + 5 + 1

    def test_years_seeded_in_an_hour_stay_years(self) -> None:
        seeded = NOW - FLOOR - HOUR
        those = history((seeded - age * DAY, seeded + place) for place, age in enumerate(range(2000, 0, -1)))
        years = {
            datetime.fromtimestamp(one.snapshot.creation, UTC).year
            for one in without(those, gone(verdicts(KEEP, those, NOW)))
        }
        last = datetime.fromtimestamp(seeded, UTC).year
        assert years >= set(range(last - 4, last + 1))

    def test_time_alone_makes_nothing_go(self) -> None:
        those = honest(200)
        then = without(those, gone(verdicts(KEEP, those, NOW + FLOOR)))
        assert gone(verdicts(KEEP, then, NOW + 20 * 365 * DAY)) == set()

    def test_a_floor_in_hours_says_so(self) -> None:
        found = verdicts(replace(KEEP, floor=6 * HOUR), history([(NOW - 9000, NOW - 9000)]), NOW)
        assert found[0].reasons == ("floor: 2 of 6 hours since receipt",)

    @pytest.mark.parametrize(("age", "goes"), [(FLOOR - 1, False), (FLOOR, True)])
    def test_the_floor_is_over_when_it_is_over(self, age: int, goes: bool) -> None:
        nothing = Keep(FLOOR, 0, 0, 0, 0, 0)
        those = history([(NOW - age, NOW - age), (NOW - age, NOW - age)])
        assert verdicts(nothing, those, NOW)[0].goes == goes

    def test_of_no_snapshots_there_is_nothing_to_say(self) -> None:
        assert verdicts(KEEP, [], NOW) == []


class TestGuards:
    OLD = NOW - 300 * DAY
    NOTHING = Keep(FLOOR, 0, 0, 0, 0, 0)

    def test_the_newest_never_goes(self) -> None:
        found = verdicts(self.NOTHING, history([(5, self.OLD), (9, self.OLD), (1, self.OLD)]), NOW)
        assert kept(found) == {"s00002"}
        assert reasons(found, 2) == ("newest",)

    def test_one_that_just_came_does_not_take_that_place(self) -> None:
        found = verdicts(self.NOTHING, history([(5, self.OLD), (9, self.OLD), (NOW, NOW - 5)]), NOW)
        assert gone(found) == {"s00000"}
        assert reasons(found, 1) == ("newest past the floor",)

    def test_the_base_of_a_partial_stream_never_goes(self) -> None:
        those = history([(5, self.OLD)] * 4)
        assert gone(verdicts(self.NOTHING, those, NOW, base=1001)) == {"s00000", "s00002"}

    def test_what_others_hold_never_goes(self) -> None:
        those = history([(5, self.OLD)] * 4)
        found = verdicts(self.NOTHING, those, NOW, held={"s00002": ["mine"], "s00000": []})
        assert gone(found) == {"s00000", "s00001"}
        assert reasons(found, 2) == ("held: mine",)

    def test_a_receipt_older_than_an_earlier_arrivals_is_of_a_slow_clock(self) -> None:
        those = history([(5, NOW - 10 * DAY), (5, self.OLD), (5, self.OLD), (5, NOW - 5)])
        assert gone(verdicts(self.NOTHING, those, NOW)) == set()


# One strategy for all: what a source can make a target store. Receipts are the target's and grow.

claims = st.one_of(
    st.integers(0, 2**64 - 1),
    st.integers(NOW - 2000 * DAY, NOW + 2000 * DAY),
    st.sampled_from([0, 1, NOW, NOW - FLOOR, NOW - FLOOR - 1, 2_082_758_400]),
)
policies = st.builds(
    Keep,
    floor=st.sampled_from([HOUR, DAY, FLOOR, 90 * DAY]),
    hourly=st.integers(0, 48),
    daily=st.integers(0, 40),
    weekly=st.integers(0, 10),
    monthly=st.integers(0, 14),
    yearly=st.integers(0, 6),
)


@st.composite
def arrivals(draw: st.DrawFn, most: int = 40) -> list[Stored]:
    """Anything that a hostile source can have had stored up to NOW."""
    receipts = draw(st.lists(st.integers(NOW - 1200 * DAY, NOW), max_size=most))
    return history((draw(claims), received) for received in sorted(receipts))


@st.composite
def honest_ones(draw: st.DrawFn) -> list[Stored]:
    """Taken, then received, in order; in fits and starts, and some seeded late."""
    gaps = draw(
        st.lists(st.sampled_from([60, HOUR, 7 * HOUR, DAY, 3 * DAY, 40 * DAY]), min_size=1, max_size=60)
    )
    ends = list(itertools.accumulate(gaps))
    start = NOW - ends[-1] - draw(st.integers(1, 60 * DAY))
    seeded = start + ends[draw(st.integers(0, len(ends) - 1))]
    return history((start + end, max(start + end, seeded)) for end in ends)


class TestAHostileSource:
    @given(policies, arrivals())
    def test_nothing_goes_before_the_floor(self, keep: Keep, those: list[Stored]) -> None:
        names = gone(verdicts(keep, those, NOW))
        assert all(NOW - one.counted >= keep.floor for one in those if one.snapshot.name in names)

    @given(policies, arrivals())
    def test_what_stays_stays_again_and_what_goes_may_go_in_any_portions(
        self, keep: Keep, those: list[Stored]
    ) -> None:
        found = verdicts(keep, those, NOW)
        assert gone(verdicts(keep, without(those, gone(found)), NOW)) == set()
        some = {verdict.snapshot.name for verdict in this_run(found) if verdict.goes}
        assert kept(verdicts(keep, without(those, some), NOW)) == kept(found)

    @given(policies, arrivals(), st.data())
    def test_what_arrived_within_the_floor_changes_nothing_for_what_was_there(
        self, keep: Keep, those: list[Stored], data: st.DataObject
    ) -> None:
        before = [one for one in those if one.counted <= NOW - keep.floor]
        receipts = sorted(data.draw(st.lists(st.integers(NOW - keep.floor + 1, NOW), max_size=30)))
        flood = [stored(500 + at, data.draw(claims), received) for at, received in enumerate(receipts)]
        after = verdicts(keep, [*before, *flood], NOW)
        assert gone(after) == gone(verdicts(keep, before, NOW))

    @settings(max_examples=300)
    @given(policies, honest_ones(), st.data())
    def test_no_flood_at_any_time_displaces_the_first_of_a_period(
        self, keep: Keep, those: list[Stored], data: st.DataObject
    ) -> None:
        """Not in one round now, and not by rounds all the way to some day after it."""
        begun = those[-1].counted
        later = sorted(data.draw(st.lists(st.integers(begun, begun + 400 * DAY), max_size=25)))
        flood = [stored(500 + at, data.draw(claims), received) for at, received in enumerate(later)]
        present = list(those)
        for now in sorted(data.draw(st.lists(st.integers(begun, begun + 500 * DAY), min_size=1, max_size=5))):
            arrived = [one for one in flood if one.counted <= now and one not in present]
            present = sorted({*present, *arrived}, key=lambda one: one.snapshot.createtxg)
            present = without(present, gone(verdicts(keep, present, now)))
            missing = must_stay(keep, those, now) - {one.snapshot.name for one in present}
            assert not missing
            flood = [one for one in flood if one.counted > now]

    @given(policies, arrivals(), st.randoms(use_true_random=False))
    def test_the_order_in_which_they_are_listed_does_not_matter(
        self, keep: Keep, those: list[Stored], rng: random.Random
    ) -> None:
        mixed = rng.sample(those, len(those))
        assert verdicts(keep, mixed, NOW) == verdicts(keep, those, NOW)

    @given(policies, arrivals())
    def test_the_last_arrival_and_every_reason_are_there(self, keep: Keep, those: list[Stored]) -> None:
        found = verdicts(keep, those, NOW)
        assert [verdict.snapshot for verdict in found] == [one.snapshot for one in those]
        assert all(verdict.reasons for verdict in found)
        assert not those or not found[-1].goes

    @pytest.mark.parametrize("first", [0, NOW, 2**40])
    def test_a_flood_of_claimed_days_leaves_of_itself_what_its_real_days_are_worth(self, first: int) -> None:
        keep = Keep(FLOOR, 0, 30, 0, 0, 0)
        received = NOW - FLOOR - DAY
        those = history((first + place * DAY, received + place) for place in range(500))
        assert len(kept(verdicts(keep, those, NOW))) <= 2

    def test_every_small_history_of_liars_against_one_honest_snapshot(self) -> None:
        """All creations and orders of three arrivals around an honest one: it stays while its day is kept."""
        keep = Keep(FLOOR, 0, 3, 0, 0, 0)
        day = NOW // DAY * DAY - 40 * DAY
        moments = (0, day - DAY, day, day + HOUR, day + DAY, day + 9 * DAY, 2**63)
        for when in itertools.product(moments, repeat=3):
            those = history([(day + 5, day + 10), *((claim, day + 20) for claim in when)])
            assert "s00000" not in gone(verdicts(keep, those, NOW))


class TestTheShareOfARun:
    def test_the_earliest_arrivals_go_first(self) -> None:
        those = history([(5, NOW - 300 * DAY + place) for place in range(100)])
        found = this_run(verdicts(Keep(FLOOR, 0, 0, 0, 0, 0), those, NOW))
        assert gone(found) == {f"s{place:05}" for place in range(5)}
        assert reasons(found, 5)[-1] == "goes in a later run"

    @pytest.mark.parametrize(
        ("count", "share"), [(2, 1), (3, 1), (19, 1), (20, 1), (39, 1), (40, 2), (1000, 50)]
    )
    def test_is_one_of_twenty_and_never_none(self, count: int, share: int) -> None:
        those = history([(5, NOW - 300 * DAY)] * count)
        assert len(gone(this_run(verdicts(Keep(FLOOR, 0, 0, 0, 0, 0), those, NOW)))) == share

    @given(policies, arrivals(120))
    def test_is_never_exceeded_and_only_takes_back(self, keep: Keep, those: list[Stored]) -> None:
        found = verdicts(keep, those, NOW)
        limited = this_run(found)
        assert len(gone(limited)) <= max(1, len(those) // 20)
        assert gone(limited) <= gone(found)
        assert bool(gone(limited)) == bool(gone(found))


# -- the clock ---------------------------------------------------------------------------------------------------

START = Reading(NOW, "boot-1", 500_000)


@dataclass
class Host:
    """A host whose true time and wall clock can part."""

    true: int = NOW
    error: int = 0
    boots: int = 1
    booted: int = NOW - 500_000

    def reading(self) -> Reading:
        return Reading(self.true + self.error, f"boot-{self.boots}", self.true - self.booted)

    def reboot(self, off: int) -> None:
        self.true += off
        self.boots += 1
        self.booted = self.true


def after(marks: Marks, wall: int, up: int, boot: str = "boot-1", newest: int = 0) -> Marks:
    return look(marks, Reading(wall, boot, up), newest, FLOOR)


class TestAClock:
    def test_that_goes_on_as_the_uptime_does_is_believed(self) -> None:
        marks = after(begin(START), NOW + 90 * DAY, 500_000 + 90 * DAY)
        assert (marks.jump, marks.gaps, marks.since) == ("", (), NOW)

    @pytest.mark.parametrize(("beyond", "jump"), [(AHEAD, ""), (AHEAD + 1, "ahead")])
    def test_ahead_of_the_uptime_by_more_than_two_days_jumped(self, beyond: int, jump: str) -> None:
        assert after(begin(START), NOW + 60 + beyond, 500_060).jump == jump

    def test_of_a_host_that_was_off_for_long_did_not_jump_and_that_time_does_not_count(self) -> None:
        marks = after(begin(START), NOW + 60 + 400 * DAY, 60, "boot-2")
        assert (marks.jump, marks.gaps) == ("", (Gap(NOW + 60 + 400 * DAY, 400 * DAY),))
        assert marks.counted(NOW - 9 * DAY) == marks.counted(NOW) == NOW + 400 * DAY

    def test_time_that_was_not_seen_does_not_count_for_what_is_older_than_the_counting_either(self) -> None:
        """A day at a time, which is no jump: of what was there when counting began no floor passes by that."""
        marks = begin(START)
        for day in range(1, 41):
            marks = after(marks, NOW + day * DAY, 500_000 + day * 60)
            assert marks.jump == ""
        assert NOW + 40 * DAY - marks.counted(NOW - 30 * DAY) <= 40 * 60

    @pytest.mark.parametrize(("back", "jump"), [(BEHIND, ""), (BEHIND + 1, "behind")])
    def test_behind_the_uptime_jumped(self, back: int, jump: str) -> None:
        assert after(begin(START), NOW + 60 - back, 500_060).jump == jump
        assert after(begin(START), NOW + 60 - back, 60, "boot-2").jump == jump
        assert after(begin(START), NOW + 90 * DAY - back, 500_000 + 90 * DAY).jump == jump

    @pytest.mark.parametrize(("ahead", "jump"), [(BEHIND, ""), (BEHIND + 1, "behind")])
    def test_behind_a_receipt_jumped(self, ahead: int, jump: str) -> None:
        assert after(begin(START), NOW + 60, 500_060, newest=NOW + 60 + ahead).jump == jump

    def test_that_jumped_is_not_believed_again_by_itself(self) -> None:
        marks = after(begin(START), NOW + 9 * DAY, 500_060)
        again = after(marks, NOW + 9 * DAY + HOUR, 500_060 + HOUR)
        assert (again.jump, again.last) == ("ahead", START)
        right = after(again, NOW + 2 * HOUR, 500_000 + 2 * HOUR)
        assert (right.jump, right.last) == ("ahead", START), (
            "or what it was vouched for would be less than it was"
        )
        assert after(again, NOW - 2 * HOUR, 500_060 + 2 * HOUR).jump == "behind"

    def test_says_what_was_seen(self) -> None:
        now = Reading(NOW + 9 * DAY, "boot-1", 500_000 + HOUR)
        assert why(look(begin(START), now, 0, FLOOR), now) == (
            "the clock moved on by 9 days, this host was seen to be up for 1 hours of it"
        )
        assert "behind" in why(replace(begin(START), jump="behind"), now)
        assert why(begin(START), now) == ""


class TestTimeThatNobodySaw:
    def test_does_not_count_towards_the_floor(self) -> None:
        marks = after(begin(START), NOW + DAY, 3600, "boot-2")
        assert marks.gaps == (Gap(NOW + DAY, DAY - 3600),)
        late = after(marks, NOW + DAY + 50, 3650, "boot-2")
        assert late.counted(NOW + 10) == NOW + 10 + DAY - 3600
        assert late.counted(NOW + DAY + 20) == NOW + DAY + 20

    def test_a_clock_that_is_steered_leaves_no_gaps(self) -> None:
        assert after(begin(START), NOW + HOUR + SLACK, 500_000 + HOUR).gaps == ()

    def test_nothing_counts_from_before_the_counting_began(self) -> None:
        assert begin(START).counted(5) == NOW

    def test_many_gaps_become_few_and_take_from_no_receipt_less(self) -> None:
        marks, all_of_them = begin(Reading(0, "b", 0)), []
        for number in range(1, 3 * MOST_GAPS):
            marks = look(marks, Reading(number * HOUR, f"b{number}", 600), 0, 10**9)
            all_of_them.append(Gap(number * HOUR, HOUR - 600))
            assert len(marks.gaps) <= MOST_GAPS
        exact = replace(marks, gaps=tuple(all_of_them))
        for received in range(0, 3 * MOST_GAPS * HOUR, 1800):
            assert marks.counted(received) >= exact.counted(received)
        assert marks.counted(received) == exact.counted(received)

    def test_what_is_past_the_floor_with_a_gap_and_without_needs_it_no_more(self) -> None:
        marks = replace(begin(START), gaps=(Gap(NOW - 40 * DAY, DAY), Gap(NOW - 31 * DAY, 2 * DAY)))
        assert after(marks, NOW + 60, 500_060).gaps == (Gap(NOW - 31 * DAY, 2 * DAY),)

    @settings(max_examples=200)
    @given(st.lists(st.tuples(st.sampled_from(["run", "off", "step"]), st.integers(0, 2 * DAY)), max_size=60))
    def test_small_jumps_however_many_never_shorten_a_floor(self, story: list[tuple[str, int]]) -> None:
        """A receipt noted at the begin is past the floor only when a floor has truly passed."""
        host, marks = Host(), begin(START)
        for what, seconds in story:
            if what == "run":
                host.true += seconds
            elif what == "off":
                host.reboot(seconds)
            else:
                host.error += seconds
            host.true += HOUR
            now = host.reading()
            marks = look(marks, now, 0, FLOOR)
            if not marks.jump and now.wall - marks.counted(NOW) >= FLOOR:
                assert host.true - NOW >= FLOOR - SLACK * len(story)


class TestAPersonSaysThatTheClockIsRight:
    def test_after_days_off_only_those_days_do_not_count(self) -> None:
        now = Reading(NOW + 5 * DAY, "boot-2", 60)
        marks = vouched(look(begin(START), now, 0, FLOOR), now, FLOOR)
        assert (marks.jump, marks.last, marks.since) == ("", now, NOW)
        assert marks.counted(NOW) == NOW + 5 * DAY - 60

    @pytest.mark.parametrize("wall", [NOW + FLOOR + 60, NOW + 3000 * DAY, NOW - DAY])
    def test_after_more_than_a_floor_or_a_step_back_all_counts_from_now(self, wall: int) -> None:
        now = Reading(wall, "boot-1", 500_060)
        marks = vouched(look(begin(START), now, 0, FLOOR), now, FLOOR)
        assert marks == begin(now)
        assert marks.counted(NOW - 400 * DAY) == wall

    def test_after_a_step_back_and_forth_too(self) -> None:
        back, now = Reading(NOW - DAY, "boot-1", 500_060), Reading(NOW + 120, "boot-1", 500_120)
        marks = look(look(begin(START), back, 0, FLOOR), now, 0, FLOOR)
        assert vouched(marks, now, FLOOR) == begin(now)

    def test_is_believed_until_the_next_jump(self) -> None:
        now = Reading(NOW + 5 * DAY, "boot-2", 60)
        marks = vouched(look(begin(START), now, 0, FLOOR), now, FLOOR)
        assert after(marks, NOW + 5 * DAY + 60, 120, "boot-2").jump == ""
        assert after(marks, NOW + 9 * DAY, 120, "boot-2").jump == "ahead"


class TestMarksAsText:
    @given(
        st.builds(
            Marks,
            st.builds(Reading, st.integers(0, 2**40), st.text(max_size=40), st.integers(0, 2**40)),
            st.integers(0, 2**40),
            st.lists(st.builds(Gap, st.integers(0, 2**40), st.integers(0, 2**40)), max_size=MOST_GAPS).map(
                tuple
            ),
            st.sampled_from(["", "ahead", "behind"]),
        )
    )
    def test_come_back_as_they_were_and_fit_into_a_property(self, marks: Marks) -> None:
        text = dump(marks)
        assert load(text) == marks
        assert len(text) < 8192
        assert "\n" not in text
        assert "\t" not in text

    @pytest.mark.parametrize(
        "text",
        [
            "-",
            "",
            "{}",
            "[]",
            "7",
            '{"v":2,"last":[1,"b",1],"since":1,"gaps":[],"jump":""}',
            '{"v":1,"last":[1,"b"],"since":1,"gaps":[],"jump":""}',
            '{"v":1,"last":[1,"b",1],"since":1,"gaps":[[1,-5]],"jump":""}',
            '{"v":1,"last":[1,"b",1],"since":1,"gaps":[],"jump":"sideways"}',
        ],
    )
    def test_of_another_kind_are_as_good_as_lost(self, text: str) -> None:
        assert load(text) is None


def test_time_of_another_boot_is_known_since_that_boot_only() -> None:
    assert unexplained(START, Reading(NOW + 1000, "boot-2", 300)) == 700
    assert unexplained(START, Reading(NOW + 1000, "boot-1", 500_300)) == 700
