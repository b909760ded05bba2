"""A vault whose root feeds back what was not sent, on real pools: none of it reaches ZFS unseen.

The tests share the hosts and run in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .host import Guest, Host
from .lab import Lab
from .story import PASSPHRASE, Answer, admit, alive, encrypted_dataset, eventually, meshkeep

# A minute and more of its own.
pytestmark = [pytest.mark.lab, pytest.mark.soak]

LIAR = Path(__file__).parent / "guest" / "liar.py"
HOOK = "\nimport liar\nLibZfsStreams.send = liar.lying(LibZfsStreams.send)\n"


@pytest.fixture(scope="module")
def mesh() -> Iterator[Lab]:
    """tank/photos and tank/other are on cloud, each with @first and @second; cloud's root has put the liar there."""
    with Lab([Host("home", pool="tank", nat="easy"), Host("cloud", pool="tank")]) as lab:
        home, cloud = lab["home"], lab["cloud"]
        meshkeep(home, "init", "--mesh", "family", "--name", "home")
        admit(home, cloud, ["--role", "vault", "--name", "cloud"])
        alive(home, "cloud")
        for dataset in ("tank/photos", "tank/other"):
            encrypted_dataset(home, dataset)
            for name in ("first", "second"):
                home.run(f"head -c 200K /dev/urandom > /{dataset}/{name} && sync")
                meshkeep(home, "snapshot", "take", dataset, "--name", name)
            meshkeep(home, "replicate", "add", dataset, "cloud")
            meshkeep(home, "replicate", "run", dataset, "cloud", "--wait")
            meshkeep(home, "replicate", "pause", dataset, "cloud")
        home.put("/root/key", f"{PASSPHRASE}\n".encode())
        cloud.put("/usr/lib/meshkeep/liar.py", LIAR.read_bytes())
        cloud.put("/tmp/hook", HOOK.encode())
        cloud.run("cat /tmp/hook >> /usr/lib/meshkeep/zfs/libzfs.py && systemctl restart meshkeep-agent")
        yield lab


def place(cloud: Guest, dataset: str) -> str:
    """Where the replica lies."""
    names = cloud.run("zfs list -H -o name -r tank").stdout.split()
    (found,) = [one for one in names if one.endswith(f"/{dataset}") and "/meshkeep/" in one]
    return found


def restore(home: Guest, to: str, *words: str) -> Answer:
    return meshkeep(
        home, "restore", "dataset", "tank/photos", "--from", "cloud", "--to", to, *words, check=False
    )


def refused(home: Guest, *words: str) -> str:
    """The code of a restore that is refused before ZFS has made anything."""
    answer = restore(home, "tank/back", *words)
    assert answer.code != 0, answer.value
    assert home.run("zfs list tank/back", check=False).code != 0
    return str(answer.value["code"])


def lie(cloud: Guest, how: str) -> None:
    cloud.run(f"echo {how} > /run/lie" if how else "rm -f /run/lie")


def test_what_was_sent_is_listed_and_comes_back(mesh: Lab) -> None:
    home = mesh["home"]
    eventually("cloud is back", lambda: restore(home, "tank/back", "-n").code == 0 or None)
    plan = restore(home, "tank/back", "-n").value["vouched"]
    assert (plan["list"], plan["age"], plan["list_from"], plan["left_out"]) == (
        "listed",
        "witnessed",
        "this host",
        [],
    )
    report = restore(home, "tank/genuine").value
    assert (report["state"], report["snapshots"]) == ("restored, unproven", 2)
    home.run("zfs load-key tank/genuine && zfs mount tank/genuine", input=f"{PASSPHRASE}\n".encode())
    home.run("cmp /tank/photos/second /tank/genuine/second")


@pytest.mark.parametrize("how", ["key", "ivset"])
def test_another_key_or_other_ciphertext_under_a_genuine_guid(mesh: Lab, how: str) -> None:
    lie(mesh["cloud"], how)
    assert refused(mesh["home"]) == "not_as_listed"
    lie(mesh["cloud"], "")


def test_altered_bytes_behind_a_genuine_beginning_are_unproven_until_they_are_read(mesh: Lab) -> None:
    home = mesh["home"]
    lie(mesh["cloud"], "bytes")
    report = restore(home, "tank/altered").value
    assert (report["state"], report["vouched"]["list"]) == ("restored, unproven", "listed")
    home.run("zfs load-key tank/altered && zfs mount tank/altered", input=f"{PASSPHRASE}\n".encode())
    assert home.run("cat /tank/altered/second > /dev/null", check=False).code != 0
    drill = meshkeep(
        home,
        "restore",
        "drill",
        "tank/photos",
        "--from",
        "cloud",
        "--key-file",
        "/root/key",
        "--all",
        check=False,
    )
    assert (drill.code, drill.value["code"]) == (1, "unreadable")
    lie(mesh["cloud"], "")


def test_an_older_snapshot_under_the_name_of_a_newer_one(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    replica = place(cloud, "tank/photos")
    cloud.run(f"zfs rename {replica}@second {replica}@x && zfs rename {replica}@first {replica}@second")
    assert refused(home) == "not_as_listed"
    assert refused(home, "--accept-unlisted") == "not_as_listed"
    cloud.run(f"zfs rename {replica}@second {replica}@first && zfs rename {replica}@x {replica}@second")


def test_another_dataset_under_this_name(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    photos, other = place(cloud, "tank/photos"), place(cloud, "tank/other")
    cloud.run(f"zfs rename {photos} {photos}x && zfs rename {other} {photos}")
    assert refused(home) == "unlisted"
    cloud.run(f"zfs rename {photos} {other} && zfs rename {photos}x {photos}")


def test_newer_ones_that_are_held_back(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    replica = place(cloud, "tank/photos")
    cloud.run(
        f"zfs holds -H {replica}@second | cut -f2 | xargs -rI T zfs release T {replica}@second"
        f" && zfs destroy {replica}@second"
    )
    assert refused(home) == "stale_replica"
    report = restore(home, "tank/older", "--older").value
    assert (report["newest"], report["vouched"]["age"]) == ("first", "stale")
