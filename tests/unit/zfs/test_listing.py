"""Reading what the zfs and zpool commands print."""

import json

import pytest

from zfs.listing import (
    BadListing,
    bookmarks,
    clones,
    dataset,
    datasets,
    mountpoint,
    mountpoints,
    own_properties,
    pool_status,
    pools,
    properties,
    snapshot_property,
    snapshots,
    version,
)
from zfs.model import Bookmark, Dataset, Pool, PoolStatus, Property, Snapshot, Vdev


def test_pools_have_sizes_unless_faulted() -> None:
    text = "tank\tONLINE\t1000\t900\t10\toff\t70\ncold\tONLINE\t5\t5\t0\ton\t0\nbad\tFAULTED\t-\t-\t-\t-\t-\n"
    assert pools(text) == [
        Pool("bad", "FAULTED", 0, 0, 0, False),
        Pool("cold", "ONLINE", 5, 5, 0, True),
        Pool("tank", "ONLINE", 1000, 900, 10, False, 70),
    ]


TANK = Pool("tank", "DEGRADED", 1000, 900, 10)


def _status(**more: object) -> str:
    """As OpenZFS 2.3 prints it, but for what nobody reads."""
    errors = {"read_errors": 0, "write_errors": 0, "checksum_errors": 0}
    disks = {
        "sda": {"name": "sda", "vdev_type": "disk", "state": "ONLINE", **errors, "slow_ios": 0},
        "sdb": {"name": "sdb", "state": "FAULTED", "read_errors": 3, "write_errors": 1, "checksum_errors": 2},
    }
    mirror = {"name": "mirror-0", "vdev_type": "mirror", "state": "DEGRADED", **errors, "vdevs": disks}
    root = {"name": "tank", "vdev_type": "root", "state": "DEGRADED", **errors, "vdevs": {"mirror-0": mirror}}
    pool = {"name": "tank", "state": "DEGRADED", "txg": 9, "vdevs": {"tank": root}, "error_count": 0, **more}
    return json.dumps({"output_version": {"command": "zpool status"}, "pools": {"tank": pool}})


def test_the_status_of_a_pool_has_every_device_as_zpool_prints_them() -> None:
    spare = {"sdc": {"name": "sdc", "class": "spare", "state": "AVAIL"}}
    log = {"sdd": {"name": "sdd", "class": "log", "state": "ONLINE", "read_errors": 0, "write_errors": 4}}
    found = pool_status(_status(spares=spare, logs=log), TANK)
    assert found == PoolStatus(
        "tank",
        "DEGRADED",
        (
            Vdev("tank", "DEGRADED"),
            Vdev("mirror-0", "DEGRADED"),
            Vdev("sda", "ONLINE"),
            Vdev("sdb", "FAULTED", 3, 1, 2),
            Vdev("sdd", "ONLINE", 0, 4, 0),
            Vdev("sdc", "AVAIL"),
        ),
        None,
        1000,
        900,
        10,
    )


@pytest.mark.parametrize(
    ("function", "state", "end", "told"),
    [
        ("SCRUB", "FINISHED", 1767829343, 1767829343),
        ("SCRUB", "SCANNING", 0, None),
        ("SCRUB", "CANCELED", 1767829343, None),
        ("RESILVER", "FINISHED", 1767829343, None),
    ],
)
def test_the_end_of_a_scrub_is_told(function: str, state: str, end: int, told: int | None) -> None:
    scan = {"function": function, "state": state, "start_time": 1, "end_time": end}
    assert pool_status(_status(scan_stats=scan), TANK).scrub_end == told


@pytest.mark.parametrize("text", ["", "[]", '{"pools": {}}', '{"pools": {"tank": {"vdevs": 3}}}'])
def test_another_status_is_refused(text: str) -> None:
    with pytest.raises(BadListing, match="status of tank"):
        pool_status(text, TANK)


def test_datasets_come_parents_first_whatever_sorts_between() -> None:
    row = "{}\tfilesystem\t1\t2\t3\t4\t5\t-\t-\tno\t-\n"
    text = "".join(row.format(name) for name in ("t/a-b", "t/a/x", "t", "t/a"))
    assert [one.name for one in datasets(text)[0]] == ["t", "t/a", "t/a/x", "t/a-b"]


def test_a_dataset_says_what_locks_it_and_whether_it_is_mounted() -> None:
    text = (
        "t/enc a\tfilesystem\t1\t2\t3\t4\t5\tt/enc a\tunavailable\tno\t1700000000\n"
        "t/legacy\tfilesystem\t1\t2\t3\t4\t5\t\tnone\tyes\t-\n"
        "t/vol\tvolume\t1\t2\t3\t-\t5\t-\t-\t-\t-\n"
    )
    assert datasets(text) == (
        [
            Dataset("t/enc a", "filesystem", 1, 2, 3, 4, 5, "t/enc a", "unavailable", False, 1700000000),
            Dataset("t/legacy", "filesystem", 1, 2, 3, 4, 5, None, None, True),
            Dataset("t/vol", "volume", 1, 2, 3, 0, 5, None, None, False),
        ],
        [],
    )


TANK_ROW = "tank\tfilesystem\t1\t1\t0\t0\t0\t-\t-\tyes\t-\n"


@pytest.mark.parametrize(
    "bad",
    [
        "tank/a\tobject\t1\t2\t3\t4\t5\t-\t-\t-\t-",
        "tank/a\tfilesystem\tone\t1\t0\t0\t0\t-\t-\tyes\t-",
        "tank/a\tfilesystem\t1",
        "",
    ],
)
def test_a_row_that_cannot_be_read_costs_only_its_own_dataset(bad: str) -> None:
    found, rows = datasets(f"{bad}\n{TANK_ROW}")
    assert [one.name for one in found] == ["tank"]
    assert len(rows) == 1
    with pytest.raises(BadListing):
        datasets(bad + "\n")
    with pytest.raises(ValueError, match=r"columns|type|invalid literal"):
        dataset(bad + "\n")
    assert dataset(TANK_ROW).name == "tank"


@pytest.mark.parametrize("end", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_only_a_newline_ends_a_row(end: str) -> None:
    text = f"t\tDEGRADED{end}\t5\t5\t0\ton\t0\n"
    assert [one.health for one in pools(text)] == [f"DEGRADED{end}"]


def test_mountpoints_are_read_at_once_unless_one_has_a_newline() -> None:
    text = "t\t/t\tand tab\nt/a b\tnone\nt/l\tlegacy\nt/v\t-\n"
    names = ["t", "t/a b", "t/l", "t/v"]
    assert mountpoints(text, names) == {"t": "/t\tand tab", "t/a b": None, "t/l": "legacy", "t/v": None}
    assert mountpoints("t\t/x\nt/a\t/forged\nt/a\t/y\n", ["t", "t/a"]) is None
    assert mountpoints("t\t/x\nt/b\t/forged\n", ["t", "t/a"]) is None
    assert mountpoints("", []) == {}
    assert [mountpoint(one) for one in ("/a\nb\n", "none", "legacy")] == ["/a\nb\n", None, "legacy"]


def test_snapshots_are_ordered_by_transaction_then_creation_then_name() -> None:
    text = "t@d\t4\t9\t50\t0\t0\nt@c\t3\t7\t60\t0\t2\nt@b\t2\t7\t40\t1\t0\nt@a\t1\t7\t60\t0\t0\n"
    assert [one.name for one in snapshots(text)] == ["b", "a", "c", "d"]
    assert snapshots("t/a b@c:d\t1\t2\t3\t4\t5\n") == [Snapshot("t/a b", "c:d", 1, 2, 3, 4, 5)]
    assert snapshots("") == []


def test_bookmarks_are_read() -> None:
    assert bookmarks("t/a#m n\t1\t2\t3\n") == [Bookmark("t/a", "m n", 1, 2, 3)]


def test_a_property_may_hold_tabs_and_lines() -> None:
    text = "a:b\tone\ttwo\nthree\tlocal\nreadonly\ton\tinherited from t/x y\nc:d\t-\t-\nquota\t0\tdefault\n"
    assert properties(text) == {
        "a:b": Property("one\ttwo\nthree", "local"),
        "readonly": Property("on", "inherited from t/x y"),
        "c:d": Property("-", "-"),
        "quota": Property("0", "default"),
    }


def test_the_own_properties_of_several_datasets() -> None:
    text = "tank/a b\ttest:x\ttwo\twords\nand lines\tlocal\ntank/c\tquota\t5\treceived\ntank/c\ttest:x\t\tlocal\n"
    assert own_properties(text) == {
        "tank/a b": {"test:x": "two\twords\nand lines"},
        "tank/c": {"quota": "5", "test:x": ""},
    }
    assert own_properties("") == {}


def test_only_a_snapshots_own_property_counts() -> None:
    text = "t@a\t1\tlocal\nt@b\t-\t-\nt@c\t2\tinherited from t\nt@d e\t3\treceived\n"
    assert snapshot_property(text) == {"a": "1", "d e": "3"}


def test_versions_of_userland_and_module() -> None:
    assert version("zfs-2.3.9-1\nzfs-kmod-2.3.9-0+deb13u1\n") == ("2.3.9-1", "2.3.9-0+deb13u1")
    with pytest.raises(BadListing):
        version("zfs-2.3.9-1\n")


@pytest.mark.parametrize("text", ["t@a\t1\t2\n", "no datasets available\n", "t\tfilesystem\n"])
def test_other_columns_than_asked_for_are_refused(text: str) -> None:
    with pytest.raises(BadListing, match="columns"):
        snapshots(text)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(BadListing, match="type"):
        dataset("t\tobject\t1\t2\t3\t4\t5\t-\t-\t-\t-\n")


def test_clones_are_listed_by_the_snapshot_they_were_made_from() -> None:
    text = "tank/a@one\t-\ntank/a@two\ttank/b,tank/c d\ntank/a@three\t\n"
    assert clones(text) == {"two": ["tank/b", "tank/c d"]}
