"""The stories on real kernels, and what must go wrong well: one mesh of a home behind NAT, a vault and a laptop.

The tests share the hosts and run in order, each on datasets of its own; what one leaves behind is written at its end.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .host import Guest, Host
from .lab import Lab
from .story import (
    PASSPHRASE,
    admit,
    alive,
    answer_of,
    encrypted_dataset,
    eventually,
    fill,
    meshkeep,
    node,
    replica,
    snapshots,
    status,
    sums,
)

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    hosts = [
        Host("home", pool="tank", nat="easy"),
        Host("cloud", pool="tank"),
        Host("laptop", disks=0),
        Host("other", pool="data"),
    ]
    with Lab(hosts) as running:
        yield running


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Lab:
    """home founded it; cloud is a vault, laptop an admin; other is in no mesh."""
    meshkeep(lab["home"], "init", "--mesh", "family", "--name", "home")
    admit(lab["home"], lab["cloud"], ["--role", "vault", "--name", "cloud"])
    admit(lab["home"], lab["laptop"], ["--role", "admin", "--name", "laptop"])
    alive(lab["home"], "cloud", "laptop")
    return lab


def replicated(home: Guest, dataset: str, *, megabytes: int = 4) -> dict[str, int]:
    """An encrypted dataset with one snapshot that has arrived on the vault."""
    encrypted_dataset(home, dataset)
    fill(home, f"/{dataset}", files=5, megabytes=megabytes)
    meshkeep(home, "snapshot", "take", dataset, "--name", "first")
    meshkeep(home, "replicate", "add", dataset, "cloud")
    return snapshots(home, dataset)


def stored(cloud: Guest, source: str) -> str:
    listed = cloud.run("zfs list -Hp -o name").stdout.split()
    return next(name for name in listed if "/meshkeep/" in name and name.endswith(f"/{source}"))


# -- before there is a mesh --------------------------------------------------------------------------------------


def test_a_command_without_an_agent_says_how_to_start_it(lab: Lab) -> None:
    other = lab["other"]
    other.run("systemctl stop meshkeep-agent")
    refused = meshkeep(other, "status", check=False)
    assert refused.code == 5
    assert "systemctl start meshkeep-agent" in refused.value["try"]
    other.run("systemctl start meshkeep-agent")
    assert meshkeep(other, "status").value["mesh"] is None


def test_whoever_is_not_root_is_told_so(lab: Lab) -> None:
    refused = lab["other"].run("runuser -u nobody -- meshkeep init --mesh x --json", check=False)
    assert refused.code == 8
    assert answer_of(refused).value["exit"] == 8


@pytest.mark.parametrize(("text", "code"), [("mk1-aaaa", 2), ("hello", 2), ("", 2)])
def test_what_is_no_invite_is_refused_and_changes_nothing(lab: Lab, text: str, code: int) -> None:
    refused = meshkeep(lab["other"], "join", text, check=False)
    assert refused.code == code
    assert meshkeep(lab["other"], "status").value["mesh"] is None


def test_three_mistakes_in_a_configuration_are_shown_at_once_and_the_old_one_stays(lab: Lab) -> None:
    other = lab["other"]
    other.put(
        "/etc/meshkeep/conf.d/bad.toml",
        b'[policy.p]\nhurly = 3\ndaily = "many"\n[dataset."data"]\npolicy = "q"\n',
    )
    for words in (("config", "check"), ("config", "reload")):
        refused = meshkeep(other, *words, check=False)
        assert refused.code == 4
        said = refused.value["why"]
        assert "hurly" in said
        assert "hourly" in said
        assert "daily" in said
        assert '"q"' in said
    other.run("rm /etc/meshkeep/conf.d/bad.toml")
    assert meshkeep(other, "config", "reload").code == 0


# -- joining -----------------------------------------------------------------------------------------------------


def test_every_node_sees_every_other_and_how_it_is_reached(mesh: Lab) -> None:
    for name in ("home", "laptop"):
        alive(mesh[name], "home", "cloud", "laptop")
    seen = {n["name"]: n for n in status(mesh["home"])["nodes"]}
    assert seen["cloud"]["role"] == "vault"
    assert mesh["cloud"].address in seen["cloud"]["path"]
    assert mesh["home"].run("ip -d link show meshkeep0").stdout.count("wireguard") == 1
    assert mesh["laptop"].run(["getent", "hosts", "cloud.mesh"]).stdout.split()[0] == seen["cloud"]["address"]


def test_a_name_that_is_taken_is_refused(mesh: Lab) -> None:
    refused = meshkeep(mesh["home"], "invite", "--name", "laptop", check=False)
    assert (refused.code, refused.value["code"]) == (7, "name_taken")


def test_an_invite_that_is_used_or_expired_or_revoked_says_which(mesh: Lab) -> None:
    laptop, other = mesh["laptop"], mesh["other"]
    expired = meshkeep(laptop, "invite", "--ttl", "1s").value
    revoked = meshkeep(laptop, "invite").value
    meshkeep(laptop, "invite", "revoke", revoked["id"])
    refused = meshkeep(other, "join", revoked["invite"], "--name", "other", check=False)
    assert (refused.code, refused.value["code"]) == (7, "join_revoked")
    refused = meshkeep(other, "join", expired["invite"], "--name", "other", check=False)
    assert (refused.code, refused.value["code"]) == (7, "invite_expired")
    assert meshkeep(other, "status").value["mesh"] is None
    states = {one["id"]: one["state"] for one in meshkeep(laptop, "invite", "list").value["invites"]}
    assert (states[expired["id"]], states[revoked["id"]]) == ("expired", "revoked")


def test_an_invite_admits_one_of_two_that_redeem_it_at_once(mesh: Lab) -> None:
    laptop, other = mesh["laptop"], mesh["other"]
    twin = mesh.start(Host("twin", disks=0))
    invite = meshkeep(laptop, "invite", "--role", "member").value["invite"]
    both = [host.spawn(["meshkeep", "join", invite, "--name", host.name, "--json"]) for host in (other, twin)]
    codes = sorted(one.wait(120).code for one in both)
    assert codes == [0, 7]
    names = {n["name"] for n in status(laptop)["nodes"]}
    assert len(names & {"other", "twin"}) == 1
    twin.kill()


# -- replicating -------------------------------------------------------------------------------------------------


def test_plaintext_never_goes_to_a_vault(mesh: Lab) -> None:
    home = mesh["home"]
    home.run("zfs create tank/plain && zfs snapshot tank/plain@one")
    refused = meshkeep(home, "replicate", "add", "tank/plain", "cloud", check=False)
    assert (refused.code, refused.value["code"]) == (7, "plaintext_to_vault")
    assert "encryption=on" in refused.value["try"]
    assert meshkeep(home, "replicate", "list").value["rules"] == []


def test_a_dataset_arrives_and_later_snapshots_follow(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    first = replicated(home, "tank/photos")
    copy = stored(cloud, "tank/photos")
    assert snapshots(cloud, copy) == first
    for name in ("second", "third"):
        home.run(f"echo {name} > /tank/photos/{name}")
        meshkeep(home, "snapshot", "take", "tank/photos", "--name", name)
    wanted = snapshots(home, "tank/photos")
    eventually("the later ones follow", lambda: snapshots(cloud, copy) == wanted)
    assert meshkeep(home, "replicate", "run", "tank/photos", "cloud", "--wait").code == 0
    shown = replica(home, "tank/photos", "cloud")
    assert shown is not None
    assert shown["state"] == "ok"
    eventually("the laptop knows too", lambda: replica(mesh["laptop"], "tank/photos", "cloud"))


def test_the_vault_can_not_read_and_gives_nothing_up(mesh: Lab) -> None:
    home, cloud, laptop = mesh["home"], mesh["cloud"], mesh["laptop"]
    copy = stored(cloud, "tank/photos")
    assert cloud.run(["zfs", "get", "-H", "-o", "value", "keystatus", copy]).stdout.strip() == "unavailable"
    assert cloud.run(["zfs", "mount", copy], check=False).code != 0
    before = snapshots(cloud, copy)
    for host in (home, laptop):
        for words in (
            ("snapshot", "destroy", "cloud:tank/photos@first", "--yes"),
            ("snapshot", "destroy", f"cloud:{copy}@first", "--yes"),
            ("snapshot", "take", "cloud:tank/photos"),
            ("mount", "cloud:tank/photos", "/mnt/x"),
        ):
            assert meshkeep(host, *words, check=False).code == 7, words
    # Not even its own root is asked lightly: a hold stands on each.
    assert cloud.run(["zfs", "destroy", f"{copy}@first"], check=False).code != 0
    assert snapshots(cloud, copy) == before


def test_only_its_owner_gets_a_replica_back(mesh: Lab) -> None:
    refused = meshkeep(
        mesh["laptop"], "restore", "dataset", "tank/photos", "--from", "cloud", "--to", "data/x", check=False
    )
    assert refused.code == 9


def test_a_power_cut_of_the_vault_in_the_middle_resumes(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    encrypted_dataset(home, "tank/video")
    fill(home, "/tank/video", files=2, megabytes=64)
    meshkeep(home, "snapshot", "take", "tank/video", "--name", "first")
    meshkeep(home, "replicate", "add", "tank/video", "cloud", "--no-wait")

    def job() -> dict[str, int]:
        rules = meshkeep(home, "replicate", "list").value["rules"]
        return next(rule for rule in rules if rule["dataset"] == "tank/video")

    eventually("a part has gone out", lambda: job()["bytes_done"] > 16 << 20, every=0.1)
    cloud.run("zpool sync tank")
    cloud.kill()
    cloud.boot()
    eventually("it is complete", lambda: job()["state"] == "ok" and job()["as_of"], timeout=400)
    assert snapshots(cloud, stored(cloud, "tank/video")) == snapshots(home, "tank/video")
    assert job()["resumed"] >= 1
    assert job()["bytes_total_sent"] < 110 << 20


def test_a_source_that_was_rolled_back_is_a_conflict_and_nothing_is_overwritten(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    replicated(home, "tank/rolled", megabytes=1)
    meshkeep(home, "snapshot", "take", "tank/rolled", "--name", "second")
    meshkeep(home, "replicate", "run", "tank/rolled", "cloud", "--wait")
    before = snapshots(cloud, stored(cloud, "tank/rolled"))
    home.run(
        "zfs rollback -r tank/rolled@first; echo other > /tank/rolled/x; zfs snapshot tank/rolled@second"
    )
    refused = meshkeep(home, "replicate", "run", "tank/rolled", "cloud", "--wait", check=False)
    assert (refused.code, refused.value["code"]) == (7, "diverged")
    assert snapshots(cloud, stored(cloud, "tank/rolled")) == before
    meshkeep(home, "replicate", "remove", "tank/rolled", "cloud")


def test_a_changed_key_is_refused_by_the_vault(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    replicated(home, "tank/keyed", megabytes=1)
    before = snapshots(cloud, stored(cloud, "tank/keyed"))
    home.run("zfs change-key -o keyformat=passphrase tank/keyed", input=b"another one altogether\n" * 2)
    meshkeep(home, "snapshot", "take", "tank/keyed", "--name", "after")
    refused = meshkeep(home, "replicate", "run", "tank/keyed", "cloud", "--wait", check=False)
    assert (refused.code, refused.value["code"]) == (7, "key_changed")
    assert snapshots(cloud, stored(cloud, "tank/keyed")) == before
    meshkeep(home, "replicate", "remove", "tank/keyed", "cloud")


def test_a_target_without_room_says_so_and_goes_on_when_there_is_some(mesh: Lab) -> None:
    home, cloud = mesh["home"], mesh["cloud"]
    root = stored(cloud, "tank/photos").removesuffix("/tank/photos")
    used = int(cloud.run(["zfs", "get", "-Hp", "-o", "value", "used", root]).stdout)
    cloud.run(["zfs", "set", f"quota={used + (4 << 20)}", root])
    encrypted_dataset(home, "tank/big")
    fill(home, "/tank/big", files=1, megabytes=16)
    meshkeep(home, "snapshot", "take", "tank/big", "--name", "first")
    refused = meshkeep(home, "replicate", "add", "tank/big", "cloud", check=False)
    assert (refused.code, refused.value["code"]) == (1, "target_full")
    assert snapshots(cloud, stored(cloud, "tank/photos")) == snapshots(home, "tank/photos")
    cloud.run(["zfs", "set", "quota=none", root])
    assert meshkeep(home, "replicate", "run", "tank/big", "cloud", "--wait").code == 0


# -- sharing, and leaving ----------------------------------------------------------------------------------------


def test_a_share_is_read_by_whom_it_is_for_and_by_nobody_else(mesh: Lab) -> None:
    home, laptop = mesh["home"], mesh["laptop"]
    refused = meshkeep(laptop, "mount", "home:tank/photos", "/mnt/photos", check=False)
    assert refused.code == 9
    assert "share add" in refused.value["try"]
    meshkeep(home, "share", "add", "tank/photos", "--to", "laptop")
    meshkeep(laptop, "mount", "home:tank/photos", "/mnt/photos")
    assert sums(laptop, "/mnt/photos") == sums(home, "/tank/photos")
    stranger = mesh.start(Host("stranger", nat="easy", lan="home", disks=0, meshkeep=False))
    nat = mesh.nat("home")
    assert nat is not None
    command = f"mkdir -p /mnt/x; timeout 20 mount -t nfs4 -o retry=0,soft,timeo=30 {nat.private}:/tank/photos /mnt/x"
    assert stranger.run(command, check=False).code != 0
    stranger.kill()


def test_an_evicted_node_loses_what_it_had_mounted(mesh: Lab) -> None:
    home, laptop = mesh["home"], mesh["laptop"]
    refused = meshkeep(laptop, "evict", "home", "--yes", check=False)
    assert refused.code == 8
    assert meshkeep(home, "evict", "laptop", check=False).code == 7
    meshkeep(home, "evict", "laptop", "--yes")
    assert node(home, "laptop") is None
    assert laptop.run("timeout 60 cat /mnt/photos/first", check=False).code != 0
    assert (
        home.run("cat /proc/fs/nfsd/clients/*/info 2>/dev/null | grep -c address", check=False).stdout.strip()
        == "0"
    )
    assert "laptop" not in home.run("cat /etc/hosts").stdout


def test_a_succeeding_host_gets_everything_back(mesh: Lab) -> None:
    """home is lost; a member cannot help, so an admin is made first."""
    home, cloud, other = mesh["home"], mesh["cloud"], mesh["other"]
    if meshkeep(other, "status").value["mesh"] is not None:
        other.wipe()
        other.boot()
    admit(home, other, ["--role", "admin", "--name", "keeper"])
    alive(other, "home", "cloud")
    original = sums(home, "/tank/photos")
    home.wipe()
    home.boot()
    invite = meshkeep(other, "invite", "--role", "admin", "--succeeds", "home").value["invite"]
    meshkeep(home, "join", invite)
    alive(home, "cloud", "keeper")
    restored = meshkeep(
        home, "restore", "dataset", "tank/photos", "--from", "cloud", "--to", "tank/photos", "--wait"
    )
    assert restored.value["state"] == "restored, unproven"
    home.run("zfs load-key tank/photos && zfs mount tank/photos", input=f"{PASSPHRASE}\n".encode())
    assert sums(home, "/tank/photos") == original
    again = meshkeep(
        home,
        "restore",
        "dataset",
        "tank/video",
        "--from",
        "cloud",
        "--to",
        "tank/photos",
        "--wait",
        check=False,
    )
    assert again.code == 7
    # The chain goes on where it was: the next snapshot is an increment on the old replica.
    before = snapshots(cloud, stored(cloud, "tank/photos"))
    meshkeep(home, "snapshot", "take", "tank/photos", "--name", "reborn")
    meshkeep(home, "replicate", "add", "tank/photos", "cloud")
    after = snapshots(cloud, stored(cloud, "tank/photos"))
    assert set(after.values()) - set(before.values()) == {snapshots(home, "tank/photos")["reborn"]}
