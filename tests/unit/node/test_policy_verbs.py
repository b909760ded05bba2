"""The verbs about rules, pruning and single snapshots, over the double of ZFS."""

import asyncio
import threading
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from node import paper
from node.errors import Exit, MeshkeepError
from policy.naming import snapshot_name
from policy.rules import Resolution
from replication.guard import cursor_name, hold_tag
from tests.fakes.rules import DAY, HOUR, NOW, RuledHost, asked
from zfs import errors

RULES = """
[policy.base]
hourly = 3
daily = 9

[policy.home]
extends = "base"
daily = 2
monthly = 0

[dataset."tank/home"]
policy = "home"
recursive = true
exclude = ["tank/home/tmp"]
"""
SANOID = """
[pond]
use_template = t
recursive = yes
process_children_only = yes
[template_t]
hourly = 5
monthly = 0
"""


@pytest.fixture
async def home(tmp_path: Path) -> RuledHost:
    made = RuledHost(tmp_path)
    for name in ("tank/home", "tank/home/photos", "tank/home/tmp", "tank/other", "pond/x"):
        await made.zfs.create(name, {})
    made.rules(RULES)
    return made


async def refused(call: Any) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await call
    return caught.value


async def full(home: RuledHost) -> list[str]:
    """tank/home with three hourly ones too many and nothing due; those that go, oldest first."""
    await home.has("tank/home", "daily", [HOUR])
    names = await home.has("tank/home", "hourly", [hours * HOUR + 60 for hours in range(6)])
    return names[:3]


class TestList:
    async def test_has_every_policy_where_it_stands_and_how_many_have_it(self, home: RuledHost) -> None:
        told = await home.policies.listing(asked())
        file = str(home.path / "meshkeep.toml")
        assert [
            (one["name"], one["datasets"], one["keep"], one["at"]["file"]) for one in told["policies"]
        ] == [
            ("base", 0, "hourly 3 · daily 9 · monthly 6", file),
            ("home", 2, "hourly 3 · daily 2", file),
        ]
        assert [one["at"]["line"] for one in told["policies"]] == [2, 6]

    async def test_has_those_of_sanoid_conf_too(self, home: RuledHost) -> None:
        home.rules(RULES, SANOID)
        told = {one["name"]: one for one in (await home.policies.listing(asked()))["policies"]}
        assert told["pond"]["datasets"] == 1
        assert told["pond"]["at"] == {"file": str(home.path / "sanoid" / "sanoid.conf"), "line": 2}

    async def test_a_dataset_whose_snapshots_come_from_above_has_the_same_policy(
        self, home: RuledHost
    ) -> None:
        home.rules(
            '[policy.p]\n[dataset."tank/home"]\npolicy = "p"\nrecursive = "zfs"\n'
            '[dataset."tank/home/photos"]\npolicy = "p"\n'
        )
        told = (await home.policies.listing(asked()))["policies"]
        assert [(one["name"], one["datasets"]) for one in told] == [("p", 3)]


class TestShow:
    async def test_every_value_says_where_it_is_set_inherited_ones_too(self, home: RuledHost) -> None:
        (found,) = (await home.policies.show(asked(policy="home")))["policies"]
        lines = {key: one["at"]["line"] for key, one in found["values"].items() if one["at"]}
        assert lines == {"hourly": 3, "daily": 8, "monthly": 9}
        assert found["values"]["weekly"] == {"value": 0, "at": None}
        assert found["datasets"] == 2

    async def test_of_a_section_of_sanoid_conf_its_templates_count(self, home: RuledHost) -> None:
        home.rules(RULES, SANOID)
        (found,) = (await home.policies.show(asked(policy="pond")))["policies"]
        assert found["values"]["hourly"]["value"] == 5
        assert found["values"]["hourly"]["at"]["line"] == 7
        assert found["values"]["daily"]["at"] is None

    async def test_one_that_does_not_exist_is_not_found(self, home: RuledHost) -> None:
        error = await refused(home.policies.show(asked(policy="nope")))
        assert (error.code, error.exit) == ("no_policy", Exit.NOT_FOUND)


class TestExplain:
    async def test_says_which_policy_and_why_with_file_and_line(self, home: RuledHost) -> None:
        told = await home.policies.explain(asked(dataset="tank/home/photos"))
        assert (told["policy"], told["rule"], told["rule_at"]["line"]) == ("home", "tank/home", 12)
        assert told["policy_at"]["line"] == 6
        assert told["reason"] == "policy home, inherited from tank/home"

    async def test_has_the_counts_what_goes_and_what_comes_next(self, home: RuledHost) -> None:
        going = await full(home)
        told = await home.policies.explain(asked(dataset="tank/home"))
        assert [one["snapshot"] for one in told["going"]] == going
        assert (told["kept"], told["waiting"], told["deferred"]) == (4, 0, "")
        hourly = next(one for one in told["kinds"] if one["type"] == "hourly")
        assert (hourly["keep"], hourly["present"], hourly["going"]) == (3, 6, 3)
        assert NOW < hourly["next_due"] <= NOW + HOUR

    async def test_pinned_ones_have_their_tags(self, home: RuledHost) -> None:
        held, base, _ = await full(home)
        await home.zfs.hold("mine", [held])
        home.needed[home.guid(base)] = "cloud"
        told = await home.policies.explain(asked(dataset="tank/home"))
        assert told["pinned"] == [
            {"snapshot": held, "reason": "held", "tags": ["mine"]},
            {"snapshot": base, "reason": "needed by cloud", "tags": []},
        ]

    async def test_what_is_not_ours_is_counted(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@zfs-auto-snap_daily-2026"])
        told = await home.policies.explain(asked(dataset="tank/home"))
        assert told["others"] == [{"pattern": "zfs-auto-snap_daily-*", "count": 1}]

    async def test_without_a_policy_it_says_why(self, home: RuledHost) -> None:
        excluded = await home.policies.explain(asked(dataset="tank/home/tmp"))
        assert excluded["policy"] is None
        assert "excluded" in excluded["reason"]
        assert (await home.policies.explain(asked(dataset="tank/other")))["reason"] == "no rule is for it"

    async def test_of_a_dataset_that_is_not_there_it_knows_nothing(self, home: RuledHost) -> None:
        assert (await refused(home.policies.explain(asked(dataset="tank/gone")))).exit is Exit.NOT_FOUND
        assert (await refused(home.policies.explain(asked(dataset="tank//x")))).exit is Exit.USAGE

    async def test_says_what_the_brake_holds_back(self, home: RuledHost) -> None:
        await home.has("tank/home", "hourly", [(hours + 9) * HOUR for hours in range(40)])
        await home.snapshotter.tick()
        assert (await home.policies.explain(asked(dataset="tank/home")))["waiting"] == 37


class TestPlan:
    async def test_is_what_the_next_tick_does(self, home: RuledHost) -> None:
        going = await full(home)
        told = await home.policies.plan(asked())
        assert [one["snapshot"] for one in told["prune"]] == going
        assert {(one["dataset"], one["type"]) for one in told["take"]} == {
            ("tank/home/photos", "hourly"),
            ("tank/home/photos", "daily"),
        }
        before = home.there("tank/home")
        await home.snapshotter.tick()
        assert home.there("tank/home") == [name for name in before if name not in going]
        assert len(home.there("tank/home/photos")) == 2

    async def test_changes_nothing(self, home: RuledHost) -> None:
        await full(home)
        before = home.there("tank/home")
        await home.policies.plan(asked())
        assert home.there("tank/home") == before

    async def test_warns_of_what_the_brake_would_hold_back(self, home: RuledHost) -> None:
        await home.has("tank/home", "hourly", [(hours + 9) * HOUR for hours in range(40)])
        told = await home.policies.plan(asked())
        assert [(one["code"], one["subject"]) for one in told["warnings"]] == [("prune_waits", "tank/home")]


class TestTest:
    OTHER = '[policy.o]\nhourly = 1\ndaily = 2\nmonthly = 0\n[dataset."tank/home"]\npolicy = "o"\n'

    async def test_says_how_it_differs_from_the_rules_in_force(self, home: RuledHost) -> None:
        going = await full(home)
        more = home.there("tank/home")[-3:-1]
        told = await home.policies.test(asked(form="toml", texts=[["x.toml", self.OTHER]]))
        assert [one["snapshot"] for one in told["prune"]] == [*going, *more]
        assert told["difference"]["prune_more"] == more
        assert told["difference"]["prune_less"] == []
        assert {one["dataset"] for one in told["difference"]["take_less"]} == {"tank/home/photos"}
        assert told["changed"] == [
            {"dataset": "tank/home", "was": "home", "becomes": "o"},
            {"dataset": "tank/home/photos", "was": "home", "becomes": None},
        ]

    async def test_the_same_rules_make_no_difference(self, home: RuledHost) -> None:
        await full(home)
        told = await home.policies.test(asked(form="toml", texts=[["x.toml", RULES]]))
        assert told["changed"] == []
        assert not any(told["difference"].values())

    async def test_the_agent_goes_on_while_rules_are_read_one_request_at_a_time(
        self, home: RuledHost, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        began, may_end = threading.Semaphore(0), threading.Event()
        reading = paper.resolve_texts
        count = [0, 0]

        def slowly(*args: Any) -> Resolution:
            count[0] += 1
            count[1] = max(count)
            began.release()
            may_end.wait(10)
            count[0] -= 1
            return reading(*args)

        monkeypatch.setattr(paper, "resolve_texts", slowly)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(home.policies.test(asked(form="sanoid", texts=[["a", SANOID]])))
            await asyncio.to_thread(began.acquire)
            assert (await home.policies.listing(asked()))["policies"]
            may_end.set()
        assert count == [0, 1]

    async def test_takes_a_sanoid_conf(self, home: RuledHost) -> None:
        told = await home.policies.test(asked(form="sanoid", texts=[["sanoid.conf", SANOID]]))
        assert {one["dataset"] for one in told["take"]} == {"pond/x"}

    async def test_times_of_day_in_a_sanoid_conf_are_those_of_the_settings(self, home: RuledHost) -> None:
        local = datetime.fromtimestamp(NOW, ZoneInfo("Asia/Kolkata"))
        await home.has("pond/x", "daily", [HOUR])
        text = (
            "[pond/x]\nhourly = 0\ndaily = 1\nmonthly = 0\n"
            f"daily_hour = {local.hour}\ndaily_min = {local.minute}\n"
        )
        request = asked(form="sanoid", texts=[["sanoid.conf", text]])
        assert [one["dataset"] for one in (await home.policies.test(request))["take"]] == []
        home.rules(RULES + '[snapshots]\ntimezone = "Asia/Kolkata"\n')
        assert {one["dataset"] for one in (await home.policies.test(request))["take"]} == {"pond/x"}

    async def test_it_is_compared_with_what_was_read_and_not_with_what_is_on_disk(
        self, home: RuledHost
    ) -> None:
        home.rules("", SANOID)
        assert "pond/x" in (await home.snapshotter.resolution()).chosen
        conf = home.path / "sanoid" / "sanoid.conf"
        conf.write_text("\n\n" + SANOID.replace("hourly = 5", "hourly = 6"))
        told = await home.policies.test(asked(form="sanoid", texts=[[str(conf), conf.read_text()]]))
        assert [one["dataset"] for one in told["changed"]] == ["pond/x"]
        (shown,) = (await home.policies.show(asked(policy="pond")))["policies"]
        assert shown["at"] == {"file": str(conf), "line": 2}
        assert shown["values"]["hourly"] == {"value": 5, "at": {"file": str(conf), "line": 7}}

    async def test_changes_nothing(self, home: RuledHost) -> None:
        await full(home)
        before, rules = home.there("tank/home"), await home.policies.listing(asked())
        await home.policies.test(asked(form="toml", texts=[["x.toml", self.OTHER]]))
        assert home.there("tank/home") == before
        assert await home.policies.listing(asked()) == rules

    async def test_says_what_the_brake_would_hold_back(self, home: RuledHost) -> None:
        await home.has("tank/other", "hourly", [(hours + 9) * HOUR for hours in range(40)])
        text = self.OTHER.replace("tank/home", "tank/other")
        told = await home.policies.test(asked(form="toml", texts=[["x.toml", text]]))
        assert told["waiting"] == {"tank/other": 39}

    @pytest.mark.parametrize(
        ("form", "text", "said"),
        [
            ("toml", "[policy.p]\nhurly = 1\ndaily = 'x'\n", ["f:2: policy.p.hurly", "f:3: policy.p.daily"]),
            ("sanoid", "[tank]\nhurly = 1\nfoo = 2\n", ["f:2: [tank] hurly", "f:3: [tank] foo"]),
        ],
    )
    async def test_all_mistakes_are_told(
        self, home: RuledHost, form: str, text: str, said: list[str]
    ) -> None:
        error = await refused(home.policies.test(asked(form=form, texts=[["f", text]])))
        assert error.exit is Exit.CONFIG
        assert [line.startswith(begin) for line, begin in zip(error.why.splitlines(), said, strict=True)] == [
            True,
            True,
        ]

    @pytest.mark.parametrize("args", [{}, {"form": "x", "texts": []}, {"form": "toml", "texts": [1]}])
    async def test_a_request_that_makes_no_sense_is_a_usage_error(
        self, home: RuledHost, args: dict[str, Any]
    ) -> None:
        assert (await refused(home.policies.test(asked(**args)))).exit is Exit.USAGE

    async def test_replicas_get_no_policy_from_it_either(self, home: RuledHost) -> None:
        home.roots = ("pond/x",)
        told = await home.policies.test(asked(form="sanoid", texts=[["sanoid.conf", SANOID]]))
        assert told["take"] == []


class TestPrune:
    async def test_what_was_shown_is_what_goes(self, home: RuledHost) -> None:
        going = await full(home)
        shown = await home.prunes.plan(asked())
        assert set(going) <= set(home.there("tank/home"))
        told = next(one for one in shown["datasets"] if one["dataset"] == "tank/home")
        assert [one["snapshot"] for one in told["destroy"]] == going
        assert (told["keep"], told["frees_at_least"], told["autoprune"]) == (4, 0, True)
        assert shown["valid_until"] == NOW + 900
        done = await home.prunes.run(asked(plan=shown["plan"]))
        assert (done["destroyed"], done["failed"]) == (going, [])
        assert not set(going) & set(home.there("tank/home"))
        assert (await refused(home.prunes.run(asked(plan=shown["plan"])))).code == "no_plan"

    async def test_nothing_runs_when_something_came_between(self, home: RuledHost) -> None:
        going = await full(home)
        shown = await home.prunes.plan(asked())
        await home.zfs.snapshot(["tank/home@new"])
        before = home.there("tank/home")
        error = await refused(home.prunes.run(asked(plan=shown["plan"])))
        assert (error.code, error.exit, error.why) == ("plan_changed", Exit.REFUSED, "tank/home@new came")
        assert home.there("tank/home") == before
        assert going[0] in before

    async def test_nothing_runs_when_one_is_held_now_though_no_snapshot_changed(
        self, home: RuledHost
    ) -> None:
        going = await full(home)
        shown = await home.prunes.plan(asked())
        await home.zfs.hold("mine", going[:1])
        error = await refused(home.prunes.run(asked(plan=shown["plan"])))
        assert error.why == f"{going[0]} is held now"
        assert set(going) <= set(home.there("tank/home"))

    async def test_an_old_plan_does_not_run(self, home: RuledHost) -> None:
        await full(home)
        shown = await home.prunes.plan(asked())
        home.now += 901
        assert (await refused(home.prunes.run(asked(plan=shown["plan"])))).code == "plan_expired"

    async def test_without_anything_to_go_there_is_no_plan(self, home: RuledHost) -> None:
        shown = await home.prunes.plan(asked())
        assert (shown["plan"], shown["valid_until"]) == (None, None)

    async def test_only_the_dataset_that_was_named_or_all_below_it(self, home: RuledHost) -> None:
        async def datasets(**args: Any) -> list[str]:
            return [one["dataset"] for one in (await home.prunes.plan(asked(**args)))["datasets"]]

        assert await datasets() == ["tank/home", "tank/home/photos"]
        assert await datasets(dataset="tank/home") == ["tank/home"]
        assert await datasets(dataset="tank/home", recursive=True) == ["tank/home", "tank/home/photos"]
        assert await datasets(dataset="tank", recursive=True) == ["tank/home", "tank/home/photos"]

    async def test_a_dataset_without_a_policy_is_refused(self, home: RuledHost) -> None:
        error = await refused(home.prunes.plan(asked(dataset="tank/home/tmp")))
        assert (error.code, error.exit) == ("no_policy", Exit.REFUSED)
        assert "excluded" in error.why
        assert (await refused(home.prunes.plan(asked(dataset="tank/gone")))).exit is Exit.NOT_FOUND

    async def test_autoprune_off_is_no_matter_by_hand_and_is_said(self, home: RuledHost) -> None:
        home.rules(RULES.replace("daily = 2", "daily = 2\nautoprune = false"))
        going = await full(home)
        await home.snapshotter.tick()
        assert set(going) <= set(home.there("tank/home"))
        shown = await home.prunes.plan(asked(dataset="tank/home"))
        assert shown["datasets"][0]["autoprune"] is False
        await home.prunes.run(asked(plan=shown["plan"]))
        assert not set(going) & set(home.there("tank/home"))

    async def test_a_deferral_holds_unless_forced(self, home: RuledHost) -> None:
        home.rules(RULES.replace("daily = 2", "daily = 2\nprune_defer = 80"))
        going = await full(home)
        shown = await home.prunes.plan(asked(dataset="tank/home"))
        assert (shown["plan"], shown["datasets"]) == (None, [])
        assert [one["dataset"] for one in shown["deferred"]] == ["tank/home"]
        assert "80 %" in shown["deferred"][0]["reason"]
        forced = await home.prunes.plan(asked(dataset="tank/home", force=True))
        assert [one["snapshot"] for one in forced["datasets"][0]["destroy"]] == going

    async def test_what_the_brake_holds_back_goes_by_hand(self, home: RuledHost) -> None:
        await home.has("tank/home", "hourly", [(hours + 9) * HOUR for hours in range(40)])
        await home.snapshotter.tick()
        assert len(home.there("tank/home")) > 40
        shown = await home.prunes.plan(asked(dataset="tank/home"))
        assert shown["datasets"][0]["waiting"] == 37
        assert len((await home.prunes.run(asked(plan=shown["plan"])))["destroyed"]) == 38
        home.now += 60
        await home.snapshotter.tick()
        assert home.snapshotter.waiting == {}

    async def test_what_only_a_replica_keeps_is_told_with_the_reason(self, home: RuledHost) -> None:
        going = await full(home)
        home.needed[home.guid(going[1])] = "cloud"
        shown = await home.prunes.plan(asked(dataset="tank/home"))
        assert [one["snapshot"] for one in shown["datasets"][0]["destroy"]] == [going[0], going[2]]
        (spared,) = shown["datasets"][0]["spared"]
        assert spared["snapshot"] == going[1]
        assert spared["reason"].endswith("older than 3 hours, needed by cloud")

    async def test_one_pool_that_cannot_be_listed_does_not_hide_the_others(self, home: RuledHost) -> None:
        going = await full(home)
        home.rules(RULES + '[dataset."pond/x"]\npolicy = "home"\n')

        async def histories(datasets: list[str]) -> dict[str, Any]:
            found: dict[str, Any] = await type(home.zfs).histories(home.zfs, datasets)
            return {**found, "pond/x": errors.PoolUnavailable("pond/x")}

        home.zfs.histories = histories  # type: ignore[method-assign,assignment]
        shown = await home.prunes.plan(asked())
        assert [one["dataset"] for one in shown["failed"]] == ["pond/x"]
        assert [one["snapshot"] for one in shown["datasets"][0]["destroy"]] == going


class TestTake:
    async def test_one_or_with_all_below_in_the_same_instant_but_no_replica(self, home: RuledHost) -> None:
        await home.zfs.create("tank/home/meshkeep", {})
        await home.zfs.create("tank/home/meshkeep/abcdefghijklmnop", {})
        one = await home.snapshots.take(asked(dataset="tank/home", name="x"))
        assert one["snapshots"] == ["tank/home@x"]
        tree = await home.snapshots.take(asked(dataset="tank/home", name="y", recursive=True))
        assert sorted(tree["snapshots"]) == [
            "tank/home/meshkeep@y",
            "tank/home/photos@y",
            "tank/home/tmp@y",
            "tank/home@y",
        ]
        assert len({home.zfs.state.snap(name).createtxg for name in tree["snapshots"]}) == 1
        assert set(home.woken) >= {"tank/home", "tank/home/photos"}

    async def test_a_name_that_is_taken_anywhere_below_is_refused_and_nothing_is_taken(
        self, home: RuledHost
    ) -> None:
        await home.zfs.snapshot(["tank/home/tmp@x"])
        error = await refused(home.snapshots.take(asked(dataset="tank/home", name="x", recursive=True)))
        assert (error.code, error.exit) == ("already_exists", Exit.REFUSED)
        assert home.there("tank/home") == []

    async def test_bad_names_and_missing_datasets(self, home: RuledHost) -> None:
        assert (await refused(home.snapshots.take(asked(dataset="tank/home", name="a@b")))).exit is Exit.USAGE
        assert (await refused(home.snapshots.take(asked(dataset="tank/gone")))).exit is Exit.NOT_FOUND


class TestListing:
    async def test_says_of_each_its_kind_and_why_it_is_kept_or_goes(self, home: RuledHost) -> None:
        going = await full(home)
        await home.zfs.snapshot(["tank/home@mine"])
        home.needed[home.guid(going[2])] = "cloud"
        told = await home.snapshots.listing(asked(dataset="tank/home"))
        rows = {one["name"]: one for one in told["snapshots"]}
        assert told["policy"] == "home"
        gone = rows[going[0].partition("@")[2]]
        assert (gone["kind"], gone["keep"], gone["reason"]) == (
            "hourly", False, "hourly 6 of 3, older than 3 hours",
        )  # fmt: skip
        spared = rows[going[2].partition("@")[2]]
        assert spared["keep"] is True
        assert spared["reason"].endswith(", needed by cloud")
        newest = rows[snapshot_name("hourly", NOW - 60)]
        assert newest["reason"] == "hourly 1 of 3"
        assert (rows["mine"]["kind"], rows["mine"]["reason"]) == (None, "not ours")

    async def test_without_a_policy_all_are_kept(self, home: RuledHost) -> None:
        (name,) = await home.has("tank/other", "daily", [900 * DAY])
        await home.zfs.hold("x", [name])
        (row,) = (await home.snapshots.listing(asked(dataset="tank/other")))["snapshots"]
        assert (row["kind"], row["keep"], row["reason"]) == ("daily", True, "no policy, held")


class TestHolds:
    async def test_a_hold_keeps_until_its_tag_is_released(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        held = await home.snapshots.hold(asked(snapshots=["tank/home@a"]))
        assert held["snapshots"] == [{"snapshot": "tank/home@a", "new": True, "tags": ["keep"]}]
        again = await home.snapshots.hold(asked(snapshots=["tank/home@a"], tag="other"))
        assert again["snapshots"][0]["tags"] == ["keep", "other"]
        free = await home.snapshots.release(asked(snapshots=["tank/home@a"]))
        assert free["snapshots"] == [{"snapshot": "tank/home@a", "released": True, "tags": ["other"]}]
        assert await home.zfs.holds("tank/home@a") == ["other"]

    @pytest.mark.parametrize("verb", ["hold", "release"])
    async def test_the_tags_that_guard_replication_are_not_for_people(
        self, home: RuledHost, verb: str
    ) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        await home.zfs.hold("meshkeep:abc", ["tank/home@a"])
        args = asked(snapshots=["tank/home@a"], tag="meshkeep:abc")
        error = await refused(getattr(home.snapshots, verb)(args))
        assert (error.code, error.exit) == ("tag_reserved", Exit.REFUSED)
        assert "replication" in error.why
        assert await home.zfs.holds("tank/home@a") == ["meshkeep:abc"]

    @pytest.mark.parametrize("tag", [".hidden", "a\nb", "x" * 201])
    async def test_a_tag_that_zfs_does_not_take_is_a_usage_error(self, home: RuledHost, tag: str) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        error = await refused(home.snapshots.hold(asked(snapshots=["tank/home@a"], tag=tag)))
        assert error.exit is Exit.USAGE

    async def test_one_that_is_missing_stops_all(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        error = await refused(home.snapshots.hold(asked(snapshots=["tank/home@a", "tank/home@b"])))
        assert (error.exit, "tank/home@b" in error.what) == (Exit.NOT_FOUND, True)
        assert await home.zfs.holds("tank/home@a") == []

    async def test_a_release_of_what_is_not_held_by_it_says_what_holds(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        await home.zfs.hold("other", ["tank/home@a"])
        error = await refused(home.snapshots.release(asked(snapshots=["tank/home@a"])))
        assert (error.exit, error.why) == (Exit.NOT_FOUND, "what holds: other")


class TestDestroy:
    async def test_several_at_once(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a", "tank/other@b"])
        done = await home.snapshots.destroy(asked(snapshots=["tank/home@a", "tank/other@b"]))
        assert done["snapshots"] == ["tank/home@a", "tank/other@b"]
        assert home.there("tank/home") + home.there("tank/other") == []

    async def test_a_dry_run_changes_nothing(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        done = await home.snapshots.destroy(asked(snapshots=["tank/home@a"], dry_run=True))
        assert (done["snapshots"], done["dry_run"]) == (["tank/home@a"], True)
        assert home.there("tank/home") == ["tank/home@a"]

    async def test_none_goes_when_one_is_held_and_it_says_by_what(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a", "tank/other@b"])
        await home.zfs.hold("mine", ["tank/other@b"])
        error = await refused(home.snapshots.destroy(asked(snapshots=["tank/home@a", "tank/other@b"])))
        assert (error.code, error.exit) == ("held", Exit.REFUSED)
        assert error.why == 'tank/other@b: held by "mine"'
        assert error.hint == "meshkeep snapshot release tank/other@b --tag 'mine'"
        assert home.there("tank/home") == ["tank/home@a"]

    async def test_a_hold_of_a_transfer_is_not_offered_for_release(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        await home.zfs.hold(hold_tag("abcdefghijklmnop"), ["tank/home@a"])
        error = await refused(home.snapshots.destroy(asked(snapshots=["tank/home@a"])))
        assert "a transfer to abcdefghijklmnop is running or can be resumed" in error.why
        assert "release" not in error.hint

    async def test_the_base_of_a_replica_leaves_a_bookmark(self, home: RuledHost) -> None:
        await home.host.init(name="home")
        me = home.host.mesh.me()
        await home.zfs.snapshot(["tank/home@a"])
        guid = home.guid("tank/home@a")
        home.needed[guid] = "home"
        done = await home.snapshots.destroy(asked(snapshots=["tank/home@a"]))
        assert done["bookmarks"] == [f"tank/home#{cursor_name(me.id, guid)}"]
        assert [mark.guid for mark in await home.zfs.bookmarks("tank/home")] == [guid]
        assert home.there("tank/home") == []

    async def test_a_base_that_has_its_bookmark_gets_no_second(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        home.needed[home.guid("tank/home@a")] = "cloud"
        await home.zfs.bookmark("tank/home@a", "tank/home#cursor")
        done = await home.snapshots.destroy(asked(snapshots=["tank/home@a"]))
        assert (done["bookmarks"], home.there("tank/home")) == ([], [])

    async def test_a_base_whose_node_is_unknown_stays(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        home.needed[home.guid("tank/home@a")] = "cloud"
        error = await refused(home.snapshots.destroy(asked(snapshots=["tank/home@a"])))
        assert (error.code, error.exit) == ("needed", Exit.REFUSED)
        assert "replicate remove tank/home cloud" in error.hint
        assert home.there("tank/home") == ["tank/home@a"]

    async def test_one_in_use_stays_and_the_others_go(self, home: RuledHost) -> None:
        await home.zfs.snapshot(["tank/home@a", "tank/other@b"])
        home.zfs.state.snap("tank/home@a").sending = 1
        done = await home.snapshots.destroy(asked(snapshots=["tank/home@a", "tank/other@b"]))
        assert done["snapshots"] == ["tank/other@b"]
        assert [one["snapshot"] for one in done["failed"]] == ["tank/home@a"]
        error = await refused(home.snapshots.destroy(asked(snapshots=["tank/home@a"])))
        assert (error.code, error.exit) == ("busy", Exit.REFUSED)

    @pytest.mark.parametrize("args", [{}, {"snapshots": ["tank/home"]}, {"snapshots": "x"}])
    async def test_without_a_snapshot_it_is_a_usage_error(
        self, home: RuledHost, args: dict[str, Any]
    ) -> None:
        assert (await refused(home.snapshots.destroy(asked(**args)))).exit is Exit.USAGE
