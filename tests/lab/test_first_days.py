"""The first days on real pools: a copy of zfs send is adopted, a seed is carried, a plaintext dataset is encrypted.

The tests share the hosts and run in order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from .host import Guest, Host
from .lab import Lab
from .story import (
    PASSPHRASE,
    admit,
    alive,
    encrypted_dataset,
    eventually,
    fill,
    meshkeep,
    replica,
    snapshots,
    sums,
)

pytestmark = [pytest.mark.lab, pytest.mark.soak]

MEGABYTES = 8
FULL = MEGABYTES << 20


@pytest.fixture(scope="module")
def mesh() -> Iterator[Lab]:
    """home founded the mesh, cloud is a vault."""
    with Lab([Host("home", pool="tank", nat="easy"), Host("cloud", pool="tank")]) as lab:
        home = lab["home"]
        meshkeep(home, "init", "--mesh", "family", "--name", "home")
        admit(home, lab["cloud"], ["--role", "vault", "--name", "cloud"])
        alive(home, "cloud")
        home.put("/root/key", f"{PASSPHRASE}\n".encode())
        yield lab


def carry(source: Guest, target: Guest, path: str) -> None:
    """What lies there, to the same place on the other host, as a disk would take it."""
    data = source.get(path) if source.run(["test", "-f", path], check=False).code == 0 else None
    if data is not None:
        target.put(path, data)
        return
    for name in source.run(["ls", "-A", path]).stdout.split():
        target.run(["mkdir", "-p", path])
        target.put(f"{path}/{name}", source.get(f"{path}/{name}"))


def test_a_copy_of_zfs_send_is_adopted_and_goes_on_incrementally(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    encrypted_dataset(home, "tank/photos")
    fill(home, "/tank/photos", files=5, megabytes=MEGABYTES)
    home.run("zfs snapshot tank/photos@one && zfs send -w tank/photos@one > /root/stream")
    carry(home, cloud, "/root/stream")
    cloud.run("zfs create -o mountpoint=none tank/backup && zfs receive -u tank/backup/photos < /root/stream")
    cloud.run("zfs set sharenfs=off mountpoint=/srv com.example:by=syncoid tank/backup/photos")
    home.run("zfs list -Hp -t snapshot -o guid tank/photos > /root/guids")
    carry(home, cloud, "/root/guids")
    words = ("replicate", "adopt", "tank/backup/photos", "--of", "home:tank/photos")
    assert meshkeep(cloud, *words, "--yes", check=False).value["code"] == "guids_needed"
    planned = meshkeep(cloud, *words, "--guids", "/root/guids", "-n").value
    assert (planned["done"], planned["datasets"][0]["common"]) == (False, "one")
    done = meshkeep(cloud, *words, "--guids", "/root/guids", "--yes").value
    assert done["datasets"][0]["clears"] == {
        "com.example:by": "syncoid",
        "mountpoint": "/srv",
        "sharenfs": "off",
    }
    cloud.run("! zfs list tank/backup/photos")
    safe = cloud.run(f"zfs get -H -o value mountpoint,readonly,canmount,com.example:by {done['to']}").stdout
    assert safe.split() == ["none", "on", "noauto", "-"]
    assert cloud.run(f"zfs holds -H {done['to']}@one").stdout.split()[1] == "meshkeep:floor"
    home.run("echo more > /tank/photos/more && zfs snapshot tank/photos@two")
    sent = meshkeep(home, "replicate", "add", "tank/photos", "cloud").value
    assert 0 < sent["bytes"] < FULL // 4
    assert snapshots(cloud, done["to"]) == snapshots(home, "tank/photos")


def test_its_key_is_pinned_as_it_was_adopted(mesh: Lab) -> None:
    home = mesh["home"]
    home.run("zfs change-key -o keyformat=passphrase tank/photos", input=b"another passphrase\n")
    home.run("zfs snapshot tank/photos@three")
    refused = meshkeep(home, "replicate", "run", "tank/photos", "cloud", "--wait", check=False)
    assert (refused.code, refused.value["code"]) == (7, "key_changed")
    home.run("zfs change-key -o keyformat=passphrase tank/photos", input=f"{PASSPHRASE}\n".encode())
    meshkeep(home, "replicate", "remove", "tank/photos", "cloud")


def test_a_seed_is_carried_and_goes_on_incrementally(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    encrypted_dataset(home, "tank/films")
    fill(home, "/tank/films", files=3, megabytes=MEGABYTES)
    home.run("zfs snapshot tank/films@one && echo more > /tank/films/more && zfs snapshot tank/films@two")
    made = meshkeep(home, "replicate", "seed", "export", "tank/films", "--to", "/root/seed").value
    assert (made["streams"], made["kept"], made["newest"]) == (2, 0, "two")
    again = meshkeep(home, "replicate", "seed", "export", "tank/films", "--to", "/root/seed").value
    assert again["kept"] == 2
    carry(home, cloud, "/root/seed")
    first = sorted(name for name in cloud.run("ls /root/seed").stdout.split() if name.endswith(".zfs"))[0]
    cloud.run(
        f"cp /root/seed/{first} /root/good && printf x | dd of=/root/seed/{first} bs=1 seek=99999 conv=notrunc"
    )
    damaged = meshkeep(cloud, "replicate", "seed", "import", "/root/seed", "--yes", check=False)
    assert (damaged.code, damaged.value["code"]) == (7, "damaged_seed")
    cloud.run(f"cp /root/good /root/seed/{first}")
    stored = meshkeep(cloud, "replicate", "seed", "import", "/root/seed", "--yes").value
    assert (stored["owner"], stored["stored"]) == ("home", 2)
    home.run("echo later > /tank/films/later && zfs snapshot tank/films@three")
    sent = meshkeep(home, "replicate", "add", "tank/films", "cloud").value
    assert 0 < sent["bytes"] < FULL // 4
    place = cloud.run("zfs list -H -o name | grep tank/films$").stdout.strip()
    assert snapshots(cloud, place) == snapshots(home, "tank/films")


def test_a_plaintext_dataset_is_encrypted_and_goes_to_the_vault(mesh: Lab) -> None:
    home = mesh["home"]
    home.run("zfs create -o mountpoint=/srv/letters -o atime=off tank/letters")
    fill(home, "/srv/letters", files=20, megabytes=3, canary="letter")
    home.run("zfs snapshot tank/letters@old && rm /srv/letters/photos/1.jpg && zfs snapshot tank/letters@new")
    before, was = sums(home, "/srv/letters"), snapshots(home, "tank/letters")
    assert meshkeep(home, "replicate", "add", "tank/letters", "cloud", check=False).code == 7
    words = ("encrypt", "tank/letters", "--key-file", "/root/key", "--yes")
    holding = home.spawn(["sh", "-c", "exec sleep 600 < /srv/letters/notes/diary.txt"])
    busy = meshkeep(home, *words, check=False)
    assert (busy.code, busy.value["code"]) == (7, "in_use")
    home.run("echo still > /srv/letters/still-mine")
    holding.kill()
    done = eventually("it is free", lambda: _unless_busy(home, words), timeout=60)
    assert "files read and compared" in done["checked"][0]
    now = home.run("zfs get -H -o value encryptionroot,mountpoint,atime,mounted,readonly tank/letters").stdout
    assert now.split() == ["tank/letters", "/srv/letters", "off", "yes", "off"]
    home.run("rm /srv/letters/still-mine")
    assert sums(home, "/srv/letters") == before
    assert snapshots(home, "tank/letters") == snapshots(home, done["old"]) == was
    home.run("! zfs list tank/letters-encrypted")
    meshkeep(home, "key", "verify", "tank/letters", "--key-file", "/root/key")
    meshkeep(home, "replicate", "add", "tank/letters", "cloud")
    told = replica(home, "tank/letters", "cloud")
    assert told is not None
    home.run(
        "zfs unmount tank/letters && zfs unload-key tank/letters && zfs load-key tank/letters < /root/key"
    )
    home.run("zfs mount tank/letters && zfs destroy -r " + done["old"])
    assert sums(home, "/srv/letters") == before


def _unless_busy(home: Guest, words: tuple[str, ...]) -> dict[str, Any] | None:
    tried = meshkeep(home, *words, check=False)
    if tried.code == 7 and tried.value["code"] == "in_use":
        return None
    assert tried.code == 0, tried.value
    return tried.value
