"""Floors: lengthened at once, shortened at the console or by a word that stood for seven days that were seen."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.target_clock import SLACK, Marks, Reading, begin, look, vouched
from replication.terms import (
    DAMAGED,
    DAY,
    FOREVER,
    NOTICE,
    Agreed,
    Ask,
    Waiting,
    corrected,
    dropped,
    dump,
    heard,
    left,
    lengthened,
    load,
    settled,
    shortened,
)

BEGAN = 1_790_000_000
HOUR = 3600
LONG = 180 * DAY
ASK = Ask("aa", 10, 30 * DAY)
AGREED = Agreed(LONG, "owner", BEGAN)
WAITS = replace(AGREED, waiting=Waiting("aa", 10, 30 * DAY, BEGAN))


class Clock:
    """A host's clocks, looked at once an hour."""

    def __init__(self) -> None:
        self.wall, self.up, self.boot = BEGAN, 1000, "one"
        self.marks = begin(self.reading())

    def reading(self) -> Reading:
        return Reading(self.wall, self.boot, self.up)

    def look(self, newest: int = 0) -> Marks:
        self.marks = look(self.marks, self.reading(), newest, max(LONG, NOTICE))
        return self.marks

    def hours(self, count: int) -> None:
        for _ in range(count):
            self.wall += HOUR
            self.up += HOUR
            self.look()

    def off(self, seconds: int) -> None:
        """Switched off for so long, or the clock was set and it was started anew: nobody can tell."""
        self.wall += seconds
        self.up, self.boot = 0, self.boot + "+"
        self.look()

    def settle(self, agreed: Agreed) -> Agreed:
        return settled(agreed, self.marks, self.wall)


class TestLengthening:
    def test_is_at_once(self) -> None:
        assert lengthened(Agreed(), LONG, "owner", 5) == Agreed(LONG, "owner", 5)

    @pytest.mark.parametrize("floor", [1, LONG - 1, LONG])
    def test_never_shortens(self, floor: int) -> None:
        assert lengthened(AGREED, floor, "owner", 5) == AGREED

    def test_does_not_stop_what_waits(self) -> None:
        """Whoever lengthens may be the thief that is to be overruled."""
        assert lengthened(WAITS, 2 * LONG, "owner", 5).waiting == WAITS.waiting


class TestAWord:
    def test_waits_for_seven_days_and_takes_effect_then(self) -> None:
        clock = Clock()
        agreed = heard(AGREED, ASK, (), clock.wall, LONG)
        clock.hours(7 * 24 - 1)
        assert clock.settle(agreed) == agreed
        clock.hours(1)
        assert clock.settle(agreed) == Agreed(30 * DAY, "recovery key", clock.wall, None, 10)

    def test_waits_not_a_second_less(self) -> None:
        clock = Clock()
        clock.wall += NOTICE - 1
        clock.up += NOTICE - 1
        clock.look()
        assert clock.settle(WAITS) == WAITS
        assert left(WAITS.waiting or Waiting("", 0, 0, 0), clock.marks, clock.wall) == 1

    def test_heard_again_goes_on_waiting(self) -> None:
        assert heard(WAITS, ASK, (), BEGAN + 5 * DAY, LONG) == WAITS

    @pytest.mark.parametrize("ask", [Ask("bb", 11, DAY), Ask("bb", 10, DAY)])
    def test_that_is_another_begins_anew(self, ask: Ask) -> None:
        found = heard(WAITS, ask, (), BEGAN + 6 * DAY, LONG)
        assert found.waiting == Waiting("bb", ask.version, DAY, BEGAN + 6 * DAY)

    def test_that_is_older_changes_nothing(self) -> None:
        assert heard(WAITS, Ask("bb", 9, DAY), (), BEGAN + 6 * DAY, LONG) == WAITS

    def test_that_ended_comes_back_no_more(self) -> None:
        """It took effect, the floor was lengthened again, and it is still in the mesh."""
        ended = Agreed(LONG, "owner", BEGAN, None, 10)
        assert heard(ended, ASK, (), BEGAN, LONG) == ended
        assert heard(ended, Ask("cc", 9, DAY), (), BEGAN, LONG) == ended

    def test_that_shortens_nothing_is_done_with(self) -> None:
        assert heard(AGREED, Ask("aa", 10, LONG), (), BEGAN, LONG) == replace(AGREED, done=10)

    def test_goes_on_waiting_although_it_is_not_heard_any_more(self) -> None:
        assert heard(WAITS, None, (), BEGAN, LONG) == WAITS


class TestAVeto:
    def test_ends_it_for_good(self) -> None:
        found = heard(WAITS, ASK, {"aa"}, BEGAN, LONG)
        assert found == replace(AGREED, done=10)
        # The admin who objected is evicted after that, and its veto with it.
        assert heard(found, ASK, (), BEGAN, LONG) == found

    def test_that_comes_with_it_ends_it_before_it_waits(self) -> None:
        assert heard(AGREED, ASK, {"aa"}, BEGAN, LONG) == replace(AGREED, done=10)

    def test_of_another_word_ends_nothing(self) -> None:
        assert heard(WAITS, ASK, {"bb"}, BEGAN, LONG) == WAITS

    def test_at_the_console_ends_it(self) -> None:
        assert dropped(WAITS, 10) == replace(AGREED, done=10)
        assert dropped(WAITS, 9) == replace(WAITS, done=9)


class TestTheConsole:
    def test_shortens_at_once_and_nothing_waits_any_more(self) -> None:
        assert shortened(WAITS, DAY, 12, 5) == Agreed(DAY, "console", 5, None, 12)
        assert shortened(WAITS, DAY, 0, 5).done == 10


class TestTheClock:
    def test_that_jumped_lets_nothing_take_effect(self) -> None:
        clock = Clock()
        clock.wall += 30 * DAY
        clock.look()
        assert clock.marks.jump == "ahead"
        assert clock.settle(WAITS) == WAITS

    def test_that_was_ahead_and_vouched_for_gives_no_day_that_was_not_seen(self) -> None:
        clock = Clock()
        clock.wall += 30 * DAY
        clock.look()
        clock.marks = vouched(clock.marks, clock.reading(), LONG)
        assert clock.settle(WAITS) == WAITS
        clock.hours(7 * 24 - 1)
        assert clock.settle(WAITS) == WAITS
        clock.hours(1)
        assert clock.settle(WAITS).floor == 30 * DAY

    def test_time_that_the_host_was_off_does_not_count(self) -> None:
        clock = Clock()
        clock.hours(24)
        clock.off(30 * DAY)
        assert clock.settle(WAITS) == WAITS
        clock.hours(6 * 24 - 1)
        assert clock.settle(WAITS) == WAITS
        clock.hours(2)
        assert clock.settle(WAITS).floor == 30 * DAY

    def test_of_which_nothing_is_remembered_begins_anew(self) -> None:
        clock = Clock()
        clock.wall += 30 * DAY
        clock.marks = begin(clock.reading())
        assert clock.settle(WAITS) == WAITS

    def test_that_was_ahead_when_it_was_heard_is_corrected(self) -> None:
        late = replace(WAITS, waiting=Waiting("aa", 10, 30 * DAY, BEGAN + 900 * DAY))
        found = corrected(late, BEGAN)
        assert found.waiting is not None
        assert found.waiting.since == BEGAN
        assert corrected(found, BEGAN + 1) == found

    @given(st.integers(0, 2**32))
    def test_whatever_it_does_seven_days_of_uptime_pass_first(self, seed: int) -> None:
        rng = random.Random(seed)
        clock, seen, agreed = Clock(), 0, WAITS
        for _ in range(60):
            step = rng.choice([HOUR, DAY, rng.randrange(3 * DAY)])
            match rng.choice(["pass", "pass", "set", "off"]):
                case "pass":
                    clock.wall, clock.up, seen = clock.wall + step, clock.up + step, seen + step
                case "set":
                    clock.wall += rng.choice([-1, 1]) * rng.randrange(30 * DAY)
                case "off":
                    clock.up, clock.boot = 0, clock.boot + "+"
                    clock.wall += rng.randrange(-2 * DAY, 30 * DAY)
            clock.look(BEGAN)
            if clock.marks.jump and rng.random() < 0.5:
                clock.marks = vouched(clock.marks, clock.reading(), LONG)
            agreed = clock.settle(agreed)
            if agreed.waiting is None:
                assert seen >= NOTICE - 60 * SLACK, seed
                return


class TestWhatIsRemembered:
    @pytest.mark.parametrize("agreed", [Agreed(), AGREED, WAITS, Agreed(None, "", 0, WAITS.waiting, 3)])
    def test_is_read_back(self, agreed: Agreed) -> None:
        assert load(dump(agreed)) == agreed

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "-",
            "null",
            "{}",
            "[" * 5000,
            dump(AGREED)[:-1],
            dump(AGREED).replace('"v":1', '"v":2'),
            dump(AGREED).replace("owner", "thief"),
            dump(AGREED).replace(str(LONG), "0"),
            dump(AGREED).replace(str(LONG), "true"),
            dump(AGREED).replace(str(BEGAN), "-1"),
            dump(WAITS).replace('["aa",10,', "["),
        ],
    )
    def test_and_what_cannot_be_read_keeps_everything(self, text: str) -> None:
        assert load(text) == DAMAGED
        assert load(text).floor == FOREVER
