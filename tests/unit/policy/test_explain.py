"""What the rules come to, in words: counts, reasons, and when the next of each kind is due."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.due import due, latest_slots
from policy.explain import explain, keep_line, next_due, others, plan_body, policy_body, waits
from policy.naming import snapshot_name
from policy.rules import KINDS, Chosen, KeepEvery, Kind, Policy, resolve
from policy.rules import Assignment as Rule
from policy.tick import Inventory, plan_tick
from zfs.model import Pool, Snapshot

NOW = int(datetime.fromisoformat("2026-11-03T10:00:07Z").timestamp())
HOUR, DAY = 3600, 86400
POLICY = Policy(name="p", hourly=3, daily=2, monthly=0)


def snap(kind: Kind, age: int, *, guid: int = 1, holds: int = 0) -> Snapshot:
    at = NOW - age
    return Snapshot("tank/a", snapshot_name(kind, at), guid, at, at, 0, holds)


def utc(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp())


class TestExplain:
    def test_counts_each_kind_and_what_goes(self) -> None:
        history = [snap("hourly", hours * HOUR) for hours in range(1, 6)] + [snap("daily", DAY)]
        told = explain(Chosen(POLICY, "why"), history, NOW, {})
        lines = {line.kind: (line.keep, line.present, line.going) for line in told.kinds}
        assert lines == {"hourly": (3, 5, 2), "daily": (2, 1, 0)}
        assert told.kept == 4
        assert [one.reasons for one in told.going] == [
            ("hourly 4 of 3, older than 3 hours",),
            ("hourly 5 of 3, older than 3 hours",),
        ]

    def test_pinned_is_what_a_hold_or_a_replica_keeps_and_nothing_else(self) -> None:
        held, base = snap("hourly", 9 * HOUR, guid=7, holds=1), snap("hourly", 8 * HOUR, guid=8)
        policy = Policy(name="p", hourly=1, daily=0, monthly=0, keep_last=5)
        told = explain(Chosen(policy, ""), [held, base, snap("hourly", 60, guid=9)], NOW, {8: "cloud"})
        assert [(one.snapshot.guid, one.reasons) for one in told.pinned] == [
            (7, ("held",)),
            (8, ("needed by cloud",)),
        ]

    def test_says_why_nothing_is_pruned_now(self) -> None:
        policy = Policy(name="p", prune_defer=80)
        assert "more than 80 %" in explain(Chosen(policy, ""), [], NOW, {}, 80).deferred
        assert explain(Chosen(policy, ""), [], NOW, {}, 81).deferred == ""

    def test_a_kind_that_is_not_kept_any_more_is_told_while_there_are_some(self) -> None:
        told = explain(Chosen(POLICY, ""), [snap("weekly", DAY)], NOW, {})
        assert [(line.kind, line.keep, line.next_due) for line in told.kinds if line.kind == "weekly"] == [
            ("weekly", 0, None)
        ]

    def test_as_json_has_the_reasons_as_one_line(self) -> None:
        told = explain(Chosen(POLICY, ""), [snap("weekly", 9 * DAY)], NOW, {}).as_json()
        assert told["going"] == [
            {
                "snapshot": f"tank/a@{snapshot_name('weekly', NOW - 9 * DAY)}",
                "reason": "weekly 1, none is kept",
            }
        ]


class TestOthers:
    def test_are_counted_by_the_part_before_the_first_digit(self) -> None:
        names = ["zfs-auto-snap_daily-2026-01-01", "zfs-auto-snap_daily-2026-01-02", "mine", "2026"]
        assert others(names) == (("zfs-auto-snap_daily-*", 2), ("mine", 1), ("2026", 1))

    def test_the_rare_ones_are_told_together(self) -> None:
        names = ["a1", "a2"] + [f"{letter}x" for letter in "bcdefg"]
        assert others(names) == (("a*", 2), ("bx", 1), ("cx", 1), ("dx", 1), ("other names", 3))


class TestNextDue:
    @pytest.mark.parametrize(
        ("kind", "newest", "expected"),
        [
            ("hourly", "2026-11-03T10:00:03", "2026-11-03T11:00:00"),
            ("hourly", "2026-11-03T09:59:59", "2026-11-03T10:00:07"),
            ("daily", "2026-11-03T00:00:00", "2026-11-03T23:59:00"),
            ("weekly", "2026-11-02T23:30:10", "2026-11-09T23:30:00"),
            ("monthly", "2026-11-01T00:00:05", "2026-12-01T00:00:00"),
            ("yearly", "2026-01-01T00:00:05", "2027-01-01T00:00:00"),
            ("hourly", "2026-11-03T12:10:00", "2026-11-03T13:00:00"),
        ],
    )
    def test_is_the_first_slot_behind_the_newest(self, kind: Kind, newest: str, expected: str) -> None:
        policy = Policy(name="p", **{one: int(one == kind) for one in KINDS})  # type: ignore[arg-type]
        assert next_due(policy, {kind: utc(newest)}, NOW) == {kind: utc(expected)}

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("newest", [253_370_764_799, 253_402_300_799, 253_402_300_800, 2**63, 2**64 - 1])
    def test_behind_one_of_the_end_of_the_calendar_none_is_due(self, kind: Kind, newest: int) -> None:
        policy = Policy(name="p", timezone="Pacific/Auckland", **{one: int(one == kind) for one in KINDS})  # type: ignore[arg-type]
        assert next_due(policy, {kind: newest}, NOW) == {}
        far = Snapshot("tank/a", snapshot_name(kind, NOW), 1, 1, newest)
        told = explain(Chosen(policy, "why"), [far, snap(kind, HOUR, guid=2)], NOW, {})
        assert [line.next_due for line in told.kinds] == [None]
        assert plan_tick(Inventory((far,)), resolve([Rule("tank/a", policy)], ["tank/a"]), NOW).take == ()

    def test_the_year_3000_is_a_year_like_others(self) -> None:
        policy = Policy(name="p", hourly=0, daily=1, monthly=0)
        newest = utc("3000-06-01T12:00:00")
        assert next_due(policy, {"daily": newest}, NOW) == {"daily": utc("3000-06-01T23:59:00")}

    def test_without_a_snapshot_it_is_now(self) -> None:
        assert next_due(POLICY, {}, NOW) == {"daily": NOW, "hourly": NOW}

    def test_without_autosnap_there_is_none(self) -> None:
        assert next_due(Policy(name="p", autosnap=False), {}, NOW) == {}

    def test_goes_by_the_clocks_of_the_zone(self) -> None:
        policy = Policy(name="p", hourly=0, daily=1, monthly=0, timezone="Europe/Berlin")
        found = next_due(policy, {"daily": NOW}, NOW)["daily"]
        assert f"{datetime.fromtimestamp(found, ZoneInfo('Europe/Berlin')):%H:%M}" == "23:59"

    @given(
        st.sampled_from(KINDS),
        st.integers(0, 400 * DAY),
        st.integers(0, 400 * DAY),
        st.integers(1, 31),
        st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"]),
    )
    def test_nothing_is_due_the_second_before_and_it_is_then(
        self, kind: Kind, age: int, later: int, mday: int, zone: str
    ) -> None:
        counts: dict[str, int] = {one: int(one == kind) for one in KINDS}
        policy = Policy(name="p", monthly_mday=mday, yearly_mday=mday, timezone=zone, **counts)  # type: ignore[arg-type]
        now = NOW + later
        newest: dict[Kind, int] = {kind: now - age}
        at = next_due(policy, newest, now)[kind]
        assert due(policy, newest, at)
        assert at == now or not due(policy, newest, at - 1)
        assert at == now or latest_slots(policy, at)[kind] == at


class TestPlanBody:
    def test_has_the_fields_of_the_contract(self) -> None:
        resolution = resolve(
            [Rule("tank", Policy(name="p", hourly=1, daily=0, monthly=0), "zfs"), Rule("gone", POLICY)],
            ["tank", "tank/a"],
        )
        old = Snapshot("tank/a", snapshot_name("daily", NOW - 9 * DAY), 5, 5, NOW - 9 * DAY)
        pools = (Pool("tank", "ONLINE", 0, 0, 50),)
        body = plan_body(plan_tick(Inventory((old,), pools), resolution, NOW))
        assert body["take"] == [
            {"dataset": "tank", "type": "hourly", "recursive": True, "reason": "no hourly snapshot yet"}
        ]
        assert body["prune"] == [{"snapshot": old.full_name, "reason": "daily 1, none is kept"}]
        assert [(one["code"], one["subject"]) for one in body["warnings"]] == [("rule_unmatched", "gone")]

    def test_the_brake_is_a_warning(self) -> None:
        resolution = resolve([Rule("tank/a", POLICY)], ["tank/a"])
        many = tuple(snap("weekly", (days + 9) * DAY, guid=days) for days in range(1, 40))
        decided = plan_tick(Inventory(many), resolution, NOW)
        (notice,) = waits(decided, {"tank/a": 39}, resolution)
        assert (notice.code, notice.subject) == ("prune_waits", "tank/a")
        assert waits(decided, {"tank/a": 100}, resolution) == ()


class TestPolicies:
    def test_the_body_has_every_key_of_the_configuration(self) -> None:
        from node.settings_model import PolicySection

        policy = Policy(name="p", keep_every=(KeepEvery(7 * DAY, 4),))
        body = policy_body(policy)
        assert body.keys() == PolicySection.model_fields.keys() - {"extends"}
        assert body["keep_every"] == {"1w": 4}

    def test_the_line_says_what_is_kept_shortest_period_first(self) -> None:
        policy = Policy(
            name="p", hourly=36, daily=30, monthly=0, keep_last=3, keep_every=(KeepEvery(DAY, 9),)
        )
        assert keep_line(policy) == "hourly 36 · daily 30 · last 3 · one per 1d, 9 of them"
        assert keep_line(Policy(name="p", hourly=0, daily=0, monthly=0)) == "nothing"
