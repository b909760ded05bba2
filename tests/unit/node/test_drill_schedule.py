"""When a drill is due, begins, and is overdue."""

from dataclasses import replace

import pytest

from node.drill_schedule import DAY, PATIENCE, RETRY, Case, due, late_after, next_of, overdue, ready
from replication.window import Window

NIGHT = 1_799_979_000  # 2027-01-15 02:50 UTC
NOON = NIGHT + 9 * 3600
MONTH = 30 * DAY
CASE = Case("tank/home", "cloud", MONTH, Window.parse("01:00-06:00"), since=NIGHT)


def proven(ago: int, **more: object) -> Case:
    return replace(
        CASE, since=NIGHT - 90 * DAY, proven=NIGHT - ago, state="proven", tried=NIGHT - ago, **more
    )


class TestDue:
    def test_at_once_where_it_was_never_done(self) -> None:
        assert due(CASE, NIGHT) == NIGHT

    @pytest.mark.parametrize(("ago", "is_due"), [(MONTH - 1, False), (MONTH, True), (MONTH + 5 * DAY, True)])
    def test_so_long_after_the_last_proof_however_many_rounds_were_lost(self, ago: int, is_due: bool) -> None:
        assert (due(proven(ago), NIGHT) <= NIGHT) is is_due

    def test_one_that_failed_is_tried_again_the_next_day_and_not_the_next_minute(self) -> None:
        failed = replace(proven(40 * DAY), tried=NIGHT, state="failed")
        assert due(failed, NIGHT) == NIGHT + RETRY

    def test_a_failure_does_not_wait_for_the_next_month(self) -> None:
        failed = replace(proven(DAY), tried=NIGHT - DAY, state="failed")
        assert due(failed, NIGHT) == NIGHT

    def test_one_that_stays_closed_moves_no_bytes_every_night(self) -> None:
        closed = replace(CASE, tried=NIGHT - DAY, state="received, unproven")
        assert due(closed, NIGHT) == NIGHT - DAY + MONTH

    def test_a_proof_in_the_future_is_a_mistake_of_a_clock_and_no_proof(self) -> None:
        assert due(proven(-400 * DAY), NIGHT) <= NIGHT
        assert due(replace(proven(-400 * DAY), state="failed"), NIGHT) <= NIGHT

    def test_of_two_the_later_counts(self) -> None:
        """A person ran one, and then a closed one came, or the other way round."""
        assert due(replace(proven(DAY), tried=NIGHT - 50 * DAY), NIGHT) == NIGHT - DAY + MONTH


class TestReady:
    def test_at_night_while_nothing_else_goes_there(self) -> None:
        assert ready(CASE, NIGHT, busy=False)
        assert not ready(CASE, NIGHT, busy=True)

    def test_not_by_day(self) -> None:
        assert not ready(CASE, NOON, busy=False)

    def test_a_host_that_sleeps_at_night_does_it_by_day_in_the_end(self) -> None:
        waiting = replace(CASE, since=NOON - PATIENCE)
        assert ready(waiting, NOON, busy=True)
        assert not ready(replace(waiting, since=NOON - PATIENCE + 1), NOON, busy=False)

    def test_not_before_it_is_due(self) -> None:
        assert not ready(proven(DAY), NIGHT, busy=False)


class TestWhich:
    def test_who_has_waited_longest(self) -> None:
        cases = [
            proven(31 * DAY),
            replace(proven(35 * DAY), node="nas"),
            replace(proven(2 * DAY), node="desk"),
        ]
        found = next_of(cases, NIGHT)
        assert found is not None
        assert found.node == "nas"

    def test_a_busy_node_does_not_keep_the_others_waiting(self) -> None:
        found = next_of(
            [replace(proven(31 * DAY), node="nas"), proven(31 * DAY - 1), proven(31 * DAY)], NIGHT, ["nas"]
        )
        assert found is not None
        assert found.node == "cloud"

    def test_none_where_nothing_is_due(self) -> None:
        assert next_of([proven(DAY)], NIGHT) is None


class TestOverdue:
    @pytest.mark.parametrize(
        ("every", "late"), [(DAY, 3 * DAY), (7 * DAY, 9 * DAY), (30 * DAY, 37.5 * DAY), (80 * DAY, 100 * DAY)]
    )
    def test_a_quarter_more_or_two_days(self, every: int, late: float) -> None:
        assert late_after(every) == late

    def test_after_the_last_proof(self) -> None:
        assert not overdue(proven(late_after(MONTH)), NIGHT)
        assert overdue(proven(late_after(MONTH) + 1), NIGHT)

    def test_that_one_was_received_is_no_proof(self) -> None:
        closed = replace(proven(40 * DAY), tried=NIGHT - DAY, state="received, unproven")
        assert overdue(closed, NIGHT)

    def test_never_proven_has_some_days_from_when_it_was_first_wanted(self) -> None:
        new = replace(CASE, since=NIGHT - 7 * DAY)
        assert not overdue(new, NIGHT)
        assert overdue(replace(CASE, since=NIGHT - 8 * DAY), NIGHT)
