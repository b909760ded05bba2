"""Snapshots by policy on real pools: one host with its agent and no mesh, and what a host can do to them.

The tests share the host and run in order; each begins with a configuration of its own. The last one takes a disk away.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from .host import Guest, Host
from .lab import Lab
from .story import eventually, meshkeep, status

pytestmark = pytest.mark.lab

HOURLY = "daily = 0\nmonthly = 0\n"
# What /dev/mapper/pond is made of: the disk, or "error", where every request fails.
TABLE = "0 $(blockdev --getsz /dev/vdd) {}"
ODD = "tank/odd/a name: of.all_sorts"


@pytest.fixture(scope="module")
def home() -> Iterator[Guest]:
    with Lab([Host("home", pool="tank", disks=3)]) as lab:
        home = lab["home"]
        home.run(f'dmsetup create pond --table "{TABLE.format("linear /dev/vdd 0")}"')
        home.run("zpool create -f pond /dev/mapper/pond")
        home.run("date -s 12:10:00")  # no hour ends in the next minutes, except where a test wants it
        yield home


def configure(home: Guest, rules: str) -> None:
    """A configuration with a tick as short as there is; the next tick is at once."""
    home.put("/etc/meshkeep/conf.d/policy.toml", f'[snapshots]\ntick = "10s"\n{rules}'.encode())
    meshkeep(home, "config", "reload")


def problems(home: Guest) -> dict[str, str]:
    """The texts of what `status` complains of, by code."""
    return {one["code"]: one["text"] for one in status(home)["problems"]}


def listed(home: Guest, dataset: str) -> list[tuple[str, int]]:
    """(name behind the @, createtxg), oldest first."""
    found = home.run(
        [
            "zfs",
            "list",
            "-Hp",
            "-d",
            "1",
            "-t",
            "snapshot",
            "-o",
            "name,createtxg",
            "-s",
            "createtxg",
            dataset,
        ]
    )
    rows = [line.split("\t") for line in found.stdout.splitlines()]
    return [(name.partition("@")[2], int(txg)) for name, txg in rows]


def kinds(home: Guest, dataset: str) -> list[str]:
    return [name.rpartition("_")[2] for name, _ in listed(home, dataset)]


def names(home: Guest, dataset: str) -> list[str]:
    return [name for name, _ in listed(home, dataset)]


def an_hour_later(home: Guest, dataset: str) -> None:
    """Turn the clock on; the agent is to notice by itself."""
    before = names(home, dataset)
    home.run("date -s '+1 hour'")
    eventually("an hourly snapshot", lambda: names(home, dataset)[-1:] != before[-1:], timeout=60)


def together(home: Guest, datasets: Sequence[str]) -> None:
    first, *others = ([txg for _, txg in listed(home, dataset)] for dataset in datasets)
    assert all(other == first for other in others)


def test_what_is_due_is_taken_at_one_moment_the_longest_first(home: Guest) -> None:
    home.run("zfs create tank/odd; zfs create tank/odd/child; zfs create pond/x")
    home.run(["zfs", "create", ODD])
    long = "tank/odd/" + 246 * "x"
    home.run(["zfs", "create", "-o", "mountpoint=none", long])
    configure(
        home,
        "[policy.p]\nhourly = 24\ndaily = 7\nmonthly = 2\nfrequently = 4\n"
        '[dataset."tank/odd"]\npolicy = "p"\nrecursive = true\n',
    )
    ours = ["tank/odd", "tank/odd/child", ODD]
    wanted = ["monthly", "daily", "hourly", "frequently"]
    eventually("one of each", lambda: all(kinds(home, one) == wanted for one in ours))
    together(home, ours)
    said = eventually("the long name is said", lambda: problems(home).get("snapshot_failed"))
    assert long in said
    assert "longer than 255 characters" in said
    assert names(home, long) == []
    home.run(["zfs", "destroy", long])


def test_a_zfs_recursion_takes_all_of_a_tree_at_one_moment(home: Guest) -> None:
    home.run("zfs create tank/tree; zfs create tank/tree/a; zfs create tank/tree/a/b")
    configure(
        home, f'[policy.p]\nhourly = 2\n{HOURLY}[dataset."tank/tree"]\npolicy = "p"\nrecursive = "zfs"\n'
    )
    ours = ["tank/tree", "tank/tree/a", "tank/tree/a/b"]
    eventually("all of them", lambda: all(len(names(home, one)) == 1 for one in ours))
    together(home, ours)


def test_what_is_held_or_cloned_survives_and_is_said(home: Guest) -> None:
    home.run("zfs create tank/few")
    configure(home, f'[policy.p]\nhourly = 2\n{HOURLY}[dataset."tank/few"]\npolicy = "p"\n')
    eventually("the first", lambda: names(home, "tank/few"))
    an_hour_later(home, "tank/few")
    held, cloned = names(home, "tank/few")
    home.run(["zfs", "hold", "mine", f"tank/few@{held}"])
    home.run(["zfs", "clone", f"tank/few@{cloned}", "tank/clone"])
    for _ in range(4):
        an_hour_later(home, "tank/few")
    said = eventually("the clone is said", lambda: problems(home).get("prune_failed"))
    assert cloned in said
    assert "cloned" in said
    eventually("the others go", lambda: len(names(home, "tank/few")) <= 5)
    assert names(home, "tank/few")[:2] == [held, cloned]
    assert "held" in meshkeep(home, "policy", "explain", "tank/few").result.stdout


def test_a_tick_on_an_unchanged_pool_lists_no_snapshots(home: Guest) -> None:
    configure(home, f'[policy.p]\nhourly = 100\n{HOURLY}[dataset."tank/few"]\npolicy = "p"\n')
    home.put("/run/zfs", b'#!/bin/bash\necho "$*" >> /run/zfs.log\nexec -a zfs /usr/sbin/zfs.real "$@"\n')
    home.run("chmod 755 /run/zfs && mv /usr/sbin/zfs /usr/sbin/zfs.real && cp -p /run/zfs /usr/sbin/zfs")

    def quiet() -> bool:
        """Three ticks in a row that asked for nothing but the datasets."""
        asked = home.run("cat /run/zfs.log", check=False).stdout.splitlines()[-3:]
        return len(asked) == 3 and all("-t filesystem,volume" in line for line in asked)

    try:
        eventually("ticks that list no snapshots", quiet, timeout=90, every=2)
    finally:
        home.run("mv /usr/sbin/zfs.real /usr/sbin/zfs")


def test_hooks_that_hang_fail_or_print_a_megabyte_cost_no_snapshot(home: Guest) -> None:
    for name in ("hangs", "fails", "prints", "strict"):
        home.run(f"zfs create tank/{name}")
    configure(
        home,
        f"[policy.p]\nhourly = 2\nscript_timeout = 2\npost_snapshot_script = 'env >> /run/hook.env'\n{HOURLY}"
        "[policy.hangs]\nextends = 'p'\npre_snapshot_script = 'sleep 4321 & sleep 4321'\n"
        "[policy.fails]\nextends = 'p'\npre_snapshot_script = 'echo database is locked; exit 3'\n"
        "[policy.strict]\nextends = 'fails'\nno_inconsistent_snapshot = true\n"
        "[policy.prints]\nextends = 'p'\npre_snapshot_script = 'head -c 1048576 /dev/zero'\n"
        + "".join(
            f'[dataset."tank/{name}"]\npolicy = "{name}"\n' for name in ("hangs", "fails", "prints", "strict")
        ),
    )
    for name in ("hangs", "fails", "prints"):
        eventually(f"a snapshot of {name}", lambda name=name: names(home, f"tank/{name}"))
    assert names(home, "tank/strict") == []
    told = [one["text"] for one in status(home)["problems"] if one["code"] == "hook_failed"]
    assert any("tank/strict" in text and "database is locked" in text for text in told)
    assert home.run("pgrep -f 'sleep 4321'", check=False).stdout == ""
    seen = home.run("cat /run/hook.env").stdout
    assert "SANOID_TARGET=tank/prints" in seen
    assert "SANOID_TYPES=hourly" in seen
    assert "SANOID_SCRIPT=post" in seen
    assert "SANOID_TARGET=tank/fails" not in seen


def test_a_pool_that_is_readonly_or_exported_is_said_and_comes_back(home: Guest) -> None:
    home.run("zfs create tank/beside")
    home.run("zpool export pond && zpool import -o readonly=on pond")
    configure(
        home,
        f'[policy.p]\nhourly = 2\n{HOURLY}[dataset."pond/x"]\npolicy = "p"\n[dataset."tank/beside"]\npolicy = "p"\n',
    )
    eventually("the other goes on", lambda: names(home, "tank/beside"))
    assert "pond" in eventually("it is said", lambda: problems(home).get("pool_readonly"))
    home.run("zpool export pond")
    assert "pond/x" in eventually("it is said", lambda: problems(home).get("rule_unmatched"))
    home.run("zpool import pond")
    eventually("it comes back", lambda: names(home, "pond/x"))
    eventually(
        "nothing is said any more", lambda: not {"rule_unmatched", "pool_readonly"} & set(problems(home))
    )


def test_a_clock_that_jumps_back_an_hour_stops_no_tick(home: Guest) -> None:
    home.run("zfs create tank/back")
    configure(
        home, f'[policy.p]\nhourly = 2\n{HOURLY}[dataset."tank/back"]\npolicy = "p"\nrecursive = true\n'
    )
    eventually("the first", lambda: names(home, "tank/back"))
    home.run("date -s '-1 hour'")
    home.run("zfs create tank/back/new")
    eventually("the agent still ticks", lambda: names(home, "tank/back/new"), timeout=60)
    assert len(names(home, "tank/back")) == 1, "nothing is due before the clock is there again"
    home.run("date -s '+3 hours'")
    eventually("then it goes on", lambda: len(names(home, "tank/back")) == 2, timeout=60)


def test_a_suspended_pool_is_said_and_hangs_nothing(home: Guest) -> None:
    home.run("zfs create tank/last")
    configure(
        home,
        f'[policy.p]\nhourly = 2\n{HOURLY}[dataset."pond/x"]\npolicy = "p"\n[dataset."tank/last"]\npolicy = "p"\n',
    )
    eventually("the first", lambda: names(home, "tank/last"))
    turn(home, "error")
    home.spawn("dd if=/dev/urandom of=/pond/x/file bs=1M count=8 conv=fsync")
    eventually(
        "the pool is suspended", lambda: "SUSPENDED" in home.run("zpool list -H -o health pond").stdout
    )
    said = eventually("it is said", lambda: problems(home).get("pool_unavailable"))
    assert "pond is SUSPENDED" in said
    an_hour_later(home, "tank/last")
    turn(home, "linear /dev/vdd 0")
    home.run("zpool clear pond")
    eventually("it comes back", lambda: not problems(home).get("pool_unavailable"))


def turn(home: Guest, target: str) -> None:
    """Let the disk below pond work, or fail every request."""
    home.run(f'dmsetup load pond --table "{TABLE.format(target)}"')
    home.run("dmsetup suspend --noflush --nolockfs pond; dmsetup resume pond")
