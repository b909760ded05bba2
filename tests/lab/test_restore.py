"""Restore as the product, on real pools: a drill, the manifest, and a host that burned and comes back as a host.

The tests share the hosts and run in order; the last one loses home.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .host import Guest, Host
from .lab import Lab
from .story import PASSPHRASE, admit, alive, encrypted_dataset, eventually, fill, meshkeep, status, sums

# Minutes of its own: the first stories have the same roads, and these are for the long run.
pytestmark = [pytest.mark.lab, pytest.mark.soak]

CANARY = "canary-of-the-manifest"
POLICY = b'[policy.calm]\ndaily = 3\n\n[dataset."tank/photos"]\npolicy = "calm"\nrecursive = true\n'


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
        home.put("/etc/meshkeep/conf.d/policy.toml", POLICY)
        meshkeep(home, "config", "reload")
        encrypted_dataset(home, "tank/photos")
        home.run(f"zfs create tank/photos/raw && zfs set atime=off com.example:note={CANARY} tank/photos")
        for place in ("tank/photos", "tank/photos/raw"):
            fill(home, f"/{place}", files=5, megabytes=4)
            meshkeep(home, "snapshot", "take", place, "--name", "first")
        meshkeep(home, "replicate", "add", "tank/photos", "cloud", "-r")
        home.put("/root/key", f"{PASSPHRASE}\n".encode())
        home.put("/root/other-key", b"not the one at all\n")
        yield lab


def scratch(home: Guest) -> list[str]:
    """What a drill has left."""
    listed = home.run("zfs list -H -o name; find /run/meshkeep/drill -mindepth 1 2>/dev/null", check=False)
    return [line for line in listed.stdout.splitlines() if "drill" in line]


def test_a_drill_reads_every_file_with_the_key_and_leaves_nothing(mesh: Lab) -> None:
    home = mesh["home"]
    words = ("restore", "drill", "tank/photos", "--from", "cloud", "--key-file", "/root/key", "--all")
    found = meshkeep(home, *words).value
    assert found["state"] == "proven"
    assert found["files"] == found["of"] >= 7
    assert scratch(home) == []
    lines = [one for one in status(home)["datasets"] if one["name"] == "tank/photos"]
    assert lines[0]["replicas"][0]["proven"] == found["at"]


def test_a_key_that_does_not_open_it_is_found_out(mesh: Lab) -> None:
    home = mesh["home"]
    words = ("restore", "drill", "tank/photos", "--from", "cloud", "--key-file", "/root/other-key")
    refused = meshkeep(home, *words, check=False)
    assert (refused.code, refused.value["code"]) == (1, "key_does_not_open")
    assert meshkeep(home, "restore", "drill", "tank/photos", "--no-key", check=False).code == 3
    assert scratch(home) == []


def test_the_vault_keeps_a_manifest_that_it_cannot_read(mesh: Lab) -> None:
    cloud = mesh["cloud"]
    files = "find /var/lib/meshkeep/manifests -name '*.sealed'"
    eventually("the manifest is there", lambda: cloud.run(files, check=False).stdout.strip(), timeout=300)
    assert cloud.run(f"grep -rl {CANARY} /var/lib/meshkeep", check=False).stdout.strip() == ""


def test_a_host_that_burned_comes_back_with_its_properties_and_its_rules(mesh: Lab) -> None:
    home, laptop = mesh["home"], mesh["laptop"]
    original = sums(home, "/tank/photos")
    home.wipe()
    home.boot()
    invite = meshkeep(laptop, "invite", "--role", "admin", "--succeeds", "home").value["invite"]
    meshkeep(home, "join", invite)
    alive(home, "cloud", "laptop")
    planned = meshkeep(home, "restore", "host", "-n").value
    assert [one["state"] for one in planned["outcomes"]] == ["to restore", "to restore"]
    done = meshkeep(home, "restore", "host", "--apply-manifest").value
    assert [(one["to"], one["state"]) for one in done["outcomes"]] == [
        ("tank/photos", "restored"),
        ("tank/photos/raw", "restored"),
    ]
    assert done["manifest"]["found"][0]["opened_by"] == "laptop"
    for dataset in ("tank/photos", "tank/photos/raw"):
        home.run(f"zfs load-key {dataset} && zfs mount {dataset}", input=f"{PASSPHRASE}\n".encode())
    assert sums(home, "/tank/photos") == original
    got = home.run("zfs get -H -o value -s local atime,com.example:note tank/photos").stdout.split()
    assert sorted(got) == sorted(["off", CANARY])
    assert home.run("cat /etc/meshkeep/conf.d/policy.toml").stdout.encode() == POLICY
    meshkeep(home, "config", "reload")
    rules = meshkeep(home, "replicate", "list").value["rules"]
    assert {(one["dataset"], one["node"]) for one in rules} == {
        ("tank/photos", "cloud"),
        ("tank/photos/raw", "cloud"),
    }
    again = meshkeep(home, "restore", "host").value
    assert [one["state"] for one in again["outcomes"]] == ["present", "present"]
