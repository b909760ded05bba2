"""Inventories on paper: what is read, and every mistake at once."""

import json
from typing import Any

import pytest

from policy.inventory import MANY, InventoryError, read

SNAPSHOT = {"name": "tank/a@autosnap_2026-01-01_00:00:00_daily", "creation": 5, "createtxg": 6, "guid": 7}


def inventory(**more: Any) -> dict[str, Any]:
    return {
        "datasets": [{"name": "tank", "type": "filesystem"}, {"name": "tank/a b:c", "type": "volume"}],
        "snapshots": [dict(SNAPSHOT)],
        "pools": [{"name": "tank", "capacity": 81}],
        **more,
    }


def mistakes(raw: object) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        read(raw)
    return list(caught.value.problems)


class TestWhatIsRead:
    def test_is_what_stands_there(self) -> None:
        paper = read(inventory())
        assert paper.datasets == ("tank", "tank/a b:c")
        (snapshot,) = paper.inventory.snapshots
        assert snapshot.full_name == SNAPSHOT["name"]
        assert (snapshot.creation, snapshot.createtxg, snapshot.guid) == (5, 6, 7)
        assert (snapshot.used, snapshot.holds) == (0, 0)
        (pool,) = paper.inventory.pools
        assert (pool.name, pool.capacity, pool.health, pool.readonly) == ("tank", 81, "ONLINE", False)

    def test_has_what_may_be_there_besides(self) -> None:
        raw = inventory(
            datasets=[{"name": "tank", "written": 0}, {"name": "tank/a", "written": 9, "mountpoint": "/a"}],
            snapshots=[{**SNAPSHOT, "used": 512, "holds": 1, "userrefs": "x"}],
            pools=[{"name": "tank", "capacity": 1, "health": "SUSPENDED", "readonly": True}],
            more={"a": 1},
        )
        found = read(raw).inventory
        assert found.unchanged == {"tank"}
        assert (found.snapshots[0].used, found.snapshots[0].holds) == (512, 1)
        assert (found.pools[0].health, found.pools[0].readonly) == ("SUSPENDED", True)

    def test_needs_no_pools(self) -> None:
        raw = inventory()
        del raw["pools"]
        assert read(raw).inventory.pools == ()


class TestMistakes:
    @pytest.mark.parametrize("raw", [None, [], "x", 7])
    def test_it_must_be_an_object(self, raw: object) -> None:
        assert mistakes(raw) == ["the inventory must be an object"]

    def test_all_are_told_at_once_with_their_places(self) -> None:
        raw = {
            "datasets": [{"name": "tank//a", "type": "filesystem"}, {"name": "tank", "type": "snapshot"}, 7],
            "snapshots": [
                {"name": "tank", "creation": "5", "createtxg": 6},
                {**SNAPSHOT, "name": "tank@a@b", "creation": True},
                {**SNAPSHOT, "name": "tank@a/b"},
                {**SNAPSHOT, "name": 9},
            ],
            "pools": [{"name": "tank/a", "capacity": 101}, {"name": "tank"}],
        }
        assert [text.partition(": ")[0] for text in mistakes(raw)] == [
            "datasets[0].name",
            "datasets[1].type",
            "datasets[2]",
            "snapshots[0].name",
            "snapshots[0].guid",
            "snapshots[0].creation",
            "snapshots[1].name",
            "snapshots[1].creation",
            "snapshots[2].name",
            "snapshots[3].name",
            "pools[0].name",
            "pools[0].capacity",
            "pools[1].capacity",
        ]

    @pytest.mark.parametrize("value", [-1, -99999999999999999, 2**64, 10**400])
    def test_a_number_that_zfs_cannot_have(self, value: int) -> None:
        assert mistakes(inventory(snapshots=[{**SNAPSHOT, "creation": value}])) == [
            "snapshots[0].creation: must be from 0 to 18446744073709551615"
        ]

    @pytest.mark.parametrize("name", ["\ud800", "tank/\ud800"])
    def test_half_a_surrogate_pair_is_no_name(self, name: str) -> None:
        raw = inventory(datasets=[{"name": name}], snapshots=[{**SNAPSHOT, "name": f"{name}@a"}])
        assert [text.partition(": ")[0] for text in mistakes(raw)] == [
            "datasets[0].name",
            "snapshots[0].name",
        ]
        raw = inventory(snapshots=[{**SNAPSHOT, "name": f"tank@{name[-1]}"}])
        assert mistakes(raw) == ["snapshots[0].name: 'tank@\\ud800' is not of the form DATASET@SNAPSHOT"]

    def test_what_is_missing_and_what_is_no_list(self) -> None:
        assert mistakes({"datasets": {}}) == ["datasets: must be a list", "snapshots: is missing"]

    def test_what_is_there_twice(self) -> None:
        raw = inventory(
            datasets=[{"name": "tank"}, {"name": "tank"}],
            snapshots=[SNAPSHOT, SNAPSHOT],
            pools=[{"name": "tank", "capacity": 1}] * 2,
        )
        assert mistakes(raw) == [
            "datasets: tank is there twice",
            f"snapshots: {SNAPSHOT['name']} is there twice",
            "pools: tank is there twice",
        ]

    def test_a_name_that_is_too_long_even_if_its_short_part_was_seen(self) -> None:
        short = "x" * 100
        raw = inventory(
            datasets=[],
            snapshots=[{**SNAPSHOT, "name": f"tank@{short}"}, {**SNAPSHOT, "name": f"t{'a' * 160}@{short}"}],
        )
        (text,) = mistakes(raw)
        assert text.startswith("snapshots[1].name: ")
        assert "longer than 255" in text

    def test_of_very_many_only_some_are_written_out(self) -> None:
        raw = inventory(datasets=[7] * (MANY + 5))
        with pytest.raises(InventoryError) as caught:
            read(raw)
        assert len(caught.value.problems) == MANY + 5
        assert str(caught.value).splitlines()[-1] == "and 5 more"


def test_what_json_makes_of_nan_is_no_number() -> None:
    raw = json.loads('{"datasets": [], "snapshots": [], "pools": [{"name": "tank", "capacity": NaN}]}')
    assert mistakes(raw) == ["pools[0].capacity: must be a whole number, not nan"]
