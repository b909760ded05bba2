"""After the fire: the host that was restored goes on replicating to the same vault, and a stolen key is undone.

On real pools. The tests share the hosts and run in order; the first loses home, the last its passphrase.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .host import Guest, Host
from .lab import Lab
from .story import PASSPHRASE, admit, alive, encrypted_dataset, eventually, fill, meshkeep, snapshots, sums

# Minutes: a mesh, a host that burns, and three restores.
pytestmark = [pytest.mark.lab, pytest.mark.soak]

TREE = ("tank/photos", "tank/photos/raw")
KEY = f"{PASSPHRASE}\n".encode()
STOLEN = b"the thief's own words\n"
MEGABYTES = 6


@pytest.fixture(scope="module")
def mesh() -> Iterator[Lab]:
    """home founded it, cloud is a vault, laptop an admin. tank/photos and a child that has its key are on cloud."""
    with Lab(
        [Host("home", pool="tank", nat="easy"), Host("cloud", pool="tank"), Host("laptop", disks=0)]
    ) as lab:
        home = lab["home"]
        meshkeep(home, "init", "--mesh", "family", "--name", "home")
        admit(home, lab["cloud"], ["--role", "vault", "--name", "cloud"])
        admit(home, lab["laptop"], ["--role", "admin", "--name", "laptop"])
        alive(home, "cloud", "laptop")
        encrypted_dataset(home, "tank/photos")
        home.run("zfs create tank/photos/raw")
        for place in TREE:
            fill(home, f"/{place}", files=5, megabytes=MEGABYTES)
            meshkeep(home, "snapshot", "take", place, "--name", "first")
        meshkeep(home, "replicate", "add", "tank/photos", "cloud", "-r")
        yield lab


def add(home: Guest, name: str) -> None:
    """A little more in both datasets, and a snapshot of each."""
    for place in TREE:
        home.run(f"head -c 300K /dev/urandom > /{place}/{name} && sync")
        meshkeep(home, "snapshot", "take", place, "--name", name)


def stored(cloud: Guest, dataset: str) -> dict[str, int]:
    """The snapshots of the one replica of *dataset* that cloud has."""
    names = cloud.run("zfs list -H -o name -r tank").stdout.split()
    (place,) = [one for one in names if one.endswith(f"/{dataset}") and "/meshkeep/" in one]
    return snapshots(cloud, place)


def opened(home: Guest, dataset: str, key: bytes = KEY) -> bool:
    return home.run(f"zfs load-key -n -L prompt {dataset}", input=key, check=False).code == 0


def mount(home: Guest, *datasets: str, key: bytes = KEY) -> None:
    for dataset in datasets:
        status = home.run(f"zfs get -H -o value keystatus {dataset}").stdout.strip()
        if status != "available":
            home.run(f"zfs load-key -L prompt {dataset}", input=key)
        if home.run(f"zfs get -H -o value mounted {dataset}").stdout.strip() != "yes":
            home.run(f"zfs mount {dataset}")


def test_the_restored_host_goes_on_where_the_burned_one_stopped(mesh: Lab) -> None:
    home, laptop, cloud = mesh["home"], mesh["laptop"], mesh["cloud"]
    add(home, "second")
    meshkeep(home, "replicate", "run", "tank/photos", "cloud", "--wait")
    original = [sums(home, f"/{place}") for place in TREE]
    before = {place: stored(cloud, place) for place in TREE}
    find = "find /var/lib/meshkeep/manifests -name '*.sealed'"
    eventually("the manifest is there", lambda: cloud.run(find, check=False).stdout.strip(), timeout=300)
    home.wipe()
    home.boot()
    invite = meshkeep(laptop, "invite", "--role", "admin", "--succeeds", "home").value["invite"]
    meshkeep(home, "join", invite)
    alive(home, "cloud", "laptop")
    meshkeep(home, "restore", "host", "--apply-manifest")
    mount(home, *TREE)
    assert [sums(home, f"/{place}") for place in TREE] == original
    meshkeep(home, "config", "reload")
    for number in range(3):
        add(home, f"after-{number}")
        done = meshkeep(home, "replicate", "run", "tank/photos", "cloud", "--wait").value
        assert done["state"] == "ok"
        assert done["bytes"] < MEGABYTES << 20, "all of it went again"
    for place in TREE:
        now = stored(cloud, place)
        assert before[place].items() < now.items()
        assert list(now)[-3:] == ["after-0", "after-1", "after-2"]
        assert now == {name: guid for name, guid in snapshots(home, place).items() if name in now}


def test_and_back_again_it_mounts_and_reads(mesh: Lab) -> None:
    home = mesh["home"]
    for place, to in zip(TREE, ("tank/again", "tank/again/raw"), strict=True):
        meshkeep(home, "restore", "dataset", place, "--from", "cloud", "--to", to, "--wait")
    mount(home, "tank/again", "tank/again/raw")
    for place, to in zip(TREE, ("tank/again", "tank/again/raw"), strict=True):
        assert sums(home, f"/{to}") == sums(home, f"/{place}")
    home.run("zpool scrub -w tank")
    assert "No known data errors" in home.run("zpool status -v tank").stdout


def test_a_key_that_a_thief_changed_and_somebody_approved_is_undone_at_restore(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    home.put("/root/key", KEY)
    root = home.run("zfs get -H -o value encryptionroot tank/photos").stdout.strip()
    original = [line for line in sums(home, "/tank/photos").splitlines() if " ./raw/" not in line]
    home.run(f"zfs change-key {root}", input=STOLEN + STOLEN)
    meshkeep(home, "snapshot", "take", "tank/photos", "--name", "stolen")
    refused = meshkeep(home, "replicate", "run", "tank/photos", "cloud", "--wait", check=False)
    assert refused.code != 0
    waiting = meshkeep(cloud, "key", "pending").value["pending"]
    (one,) = [entry for entry in waiting if entry["dataset"] == "tank/photos"]
    meshkeep(cloud, "key", "approve", f"{one['node']}:tank/photos", one["offered"])
    meshkeep(home, "replicate", "run", "tank/photos", "cloud", "--wait", check=False)
    assert "stolen" in stored(cloud, "tank/photos")
    words = ("tank/photos", "--from", "cloud", "--to", "tank/rescued", "--wait")
    meshkeep(home, "restore", "dataset", *words)
    assert not opened(home, "tank/rescued")
    asked = ("restore", "wrap", "tank/rescued", "--from", "cloud", "--of", "tank/photos")
    wraps = meshkeep(home, *asked).value["wraps"]
    assert [one["current"] for one in wraps].count(True) == 1
    (older,) = [one["fingerprint"] for one in wraps if not one["current"]]
    home.put("/root/wrong", b"not the one at all\n")
    wrong = meshkeep(home, *asked, "--put", older, "--key-file", "/root/wrong", check=False)
    assert wrong.value["code"] == "key_does_not_open"
    assert opened(home, "tank/rescued", STOLEN), "what was there was not put back"
    done = meshkeep(home, *asked, "--put", older, "--key-file", "/root/key").value
    assert done["opens"]
    assert not opened(home, "tank/rescued", STOLEN)
    mount(home, "tank/rescued")
    assert sums(home, "/tank/rescued").splitlines() == original, "the child was not asked for"
    listed = cloud.run("zfs list -H -o name").stdout.split()
    place = next(one for one in listed if one.endswith("/tank/photos"))
    assert not opened(cloud, place), "the copy itself was touched"
    assert opened(cloud, place, STOLEN)
