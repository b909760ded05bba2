"""Root of a source, with its real keys, against what a vault holds: tests/lab/red_team tries, here it is judged.

The tests share three hosts and run in order. Afterwards everything that was stored opens with the original passphrase.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from .host import Guest, Host
from .lab import Lab
from .red_team.catalogue import GROUPS
from .story import PASSPHRASE, admit, alive, encrypted_dataset, eventually, meshkeep, snapshots, sums

pytestmark = [pytest.mark.lab, pytest.mark.soak]

HERE = Path(__file__).parent / "red_team"
DATASETS = ("tank/photos", "tank/deep/inner", "tank/rotated", "tank/clocked", "tank/endless")
SHARE = 42
"""Canaries of each kind in each snapshot: more than a thousand in all."""

ASIDE = "/tank/rotated@"
"""What is kept aside at the thief's wish is looked for under its new name."""

CONTROL = "canary-control-canary"
QUOTA = "150M"
STAND_IN = "ssh rpcbind nfs-server"


@dataclass
class Seen:
    """What the vault held before anybody attacked it, and how the attacks ended."""

    lab: Lab
    sums: dict[str, str] = field(default_factory=dict)
    stored: dict[str, dict[str, str]] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    pid: str = ""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __getitem__(self, name: str) -> Guest:
        return self.lab[name]


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """home (an admin, the thief's) and laptop (a member) each store on cloud, a vault with SSH, RPC and NFS running."""
    hosts = [Host("home", pool="tank", nat="easy"), Host("cloud", pool="tank"), Host("laptop", pool="data")]
    with Lab(hosts) as lab:
        home, cloud, laptop = lab["home"], lab["cloud"], lab["laptop"]
        made = meshkeep(home, "init", "--mesh", "family", "--name", "home").value
        admit(home, cloud, ["--role", "vault", "--name", "cloud", "--quota", QUOTA])
        admit(home, laptop, ["--role", "member", "--name", "laptop"])
        alive(home, "cloud", "laptop")
        alive(laptop, "cloud")
        found = Seen(lab)
        fill(home, laptop, found)
        said_and_taken_back(home, cloud, " ".join(made["recovery_words"]))
        for host in (home, laptop):
            host.run("mkdir -p /opt/red-team && tar -x -C /opt/red-team", input=packed())
            host.run("sysctl -qw net.ipv4.tcp_tw_reuse=1")
        cloud.run(f"systemctl start {STAND_IN}; ss -Hltn > /root/listening", check=False)
        found.stored, found.pid = stored(cloud), agent(cloud)
        yield found


def packed() -> bytes:
    """The attacks, as a package."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted(HERE.glob("*.py")):
            tar.add(path, f"red_team/{path.name}")
    return buffer.getvalue()


def fill(home: Guest, laptop: Guest, found: Seen) -> None:
    """Files with canaries in them and in their names, snapshots of them, and replicas; then the rules rest."""
    home.run("zfs create tank/deep")
    for host, datasets in ((home, DATASETS), (laptop, ("data/letters",))):
        for dataset in datasets:
            encrypted_dataset(host, dataset)
            host.run(
                " && ".join(
                    line for number, name in enumerate("abcd") for line in write(dataset, number, name)
                )
            )
            for name in "abcd":
                found.sums[f"{dataset}@{name}"] = sums(host, f"/{dataset}/.zfs/snapshot/{name}")
            meshkeep(host, "replicate", "add", dataset, "cloud")
            meshkeep(host, "replicate", "run", dataset, "cloud", "--wait")
    for dataset in DATASETS:
        meshkeep(home, "replicate", "pause", dataset, "cloud")


def write(dataset: str, number: int, name: str) -> list[str]:
    """The commands for noise, what is this snapshot's of a thousand canaries as text and as many as names, and it."""
    place = f"{dataset.replace('/', '.')}-{number}"
    return [
        f"cd /{dataset}",
        f"head -c 300K /dev/urandom > noise{number}",
        f"for n in $(seq {SHARE}); do echo canary-text-{place}-$n-canary > file-$n;"
        f" : > canary-name-{place}-$n-canary; done",
        f"zfs snapshot {dataset}@{name}",
    ]


def canaries() -> list[str]:
    """All of them."""
    return [
        f"canary-{kind}-{dataset.replace('/', '.')}-{number}-{n}-canary"
        for kind in ("text", "name")
        for dataset in (*DATASETS, "data/letters")
        for number in range(4)
        for n in range(1, SHARE + 1)
    ]


def said_and_taken_back(home: Guest, cloud: Guest, words: str) -> None:
    """A genuine word of the recovery key that shortens the floor, opposed at the vault's console: to be replayed."""
    shorten = ["meshkeep", "vault", "shorten", "cloud", "--floor", "2d", "--words-file", "-", "--json"]
    home.run(shorten, input=f"{words}\n".encode())
    waits = lambda: terms(cloud)[0]["waiting"]  # noqa: E731
    eventually("cloud hears of the shorter floor", waits, timeout=120)
    meshkeep(cloud, "vault", "cancel", "--owner", "home")
    assert not any(one["waiting"] for one in terms(cloud))


def terms(cloud: Guest) -> list[dict[str, Any]]:
    """Those of home first."""
    owners: list[dict[str, Any]] = meshkeep(cloud, "vault", "terms").value["owners"]
    return sorted(owners, key=lambda one: one["node"] != "home")


def stored(cloud: Guest) -> dict[str, dict[str, str]]:
    """What ZFS on the vault says of every stored snapshot, by owner, dataset and name. Not by guid: hosts of the lab
    begin with the same random numbers.
    """
    columns = ("guid", "name", "userrefs", "creation", "meshkeep:received", "meshkeep:wrap", "keystatus")
    listed = cloud.run(f"zfs list -Hp -t snapshot -r -o {','.join(columns)} tank/meshkeep").stdout
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in listed.splitlines()]
    return {row["name"].removeprefix("tank/meshkeep/"): row for row in rows}


def agent(cloud: Guest) -> str:
    return cloud.run("systemctl show -p MainPID -p NRestarts meshkeep-agent").stdout


def verdicts(cloud: Guest, found: Seen) -> dict[str, bool]:
    """What the vault's own retention would do with each snapshot that was there before."""
    plan = meshkeep(cloud, "vault", "keep").value["replicas"]
    told = {
        f"{one['owner']}/{one['dataset']}@{s['name']}": s["goes"] for one in plan for s in one["snapshots"]
    }
    return {name: goes for name, goes in told.items() if name in found.stored and ASIDE not in name}


def try_all(host: Guest, group: str, **options: Any) -> list[dict[str, Any]]:
    return outcomes(host.run(command(group, options), timeout=900).stdout)


def command(group: str, options: dict[str, Any]) -> list[str]:
    path = "PYTHONPATH=/opt/red-team:/usr/lib/meshkeep"
    return ["env", path, "python3", "-m", "red_team", group, json.dumps(options)]


def outcomes(stdout: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(stdout.splitlines()[-1])
    return rows


def judge(found: Seen, rows: list[dict[str, Any]], group: str) -> None:
    """All ended as they should, and nothing is otherwise on the vault than it was."""
    found.rows += rows
    for row in rows:
        print(f"{'held' if row['as_expected'] else 'LOST':5} {row['name']:42} {row['code'][:100]}")
    assert [row["name"] for row in rows] == [one.name for one in GROUPS[group]]
    unharmed(found)
    assert [row for row in rows if not row["as_expected"]] == []


def unharmed(found: Seen) -> None:
    cloud, now = found["cloud"], stored(found["cloud"])
    aside = min((name.partition("@")[0] for name in now if ".rotated-" in name), default="")
    for name, before in found.stored.items():
        place = name if ASIDE not in name or not aside else f"{aside}@{name.partition('@')[2]}"
        assert place in now, f"{name} is gone"
        assert now[place] | {"name": ""} == before | {"name": ""}
    assert {row["keystatus"] for row in now.values()} == {"unavailable"}
    assert agent(cloud) == found.pid, "the agent did not live through it"
    assert cloud.run("zpool status -x tank").stdout.strip().endswith("is healthy")
    journal = cloud.run("journalctl -b -u meshkeep-agent --no-pager").stdout
    assert "Traceback" not in journal, journal[journal.index("Traceback") - 300 :][:3000]
    assert cloud.run("zfs list -H -o mounted -r tank/meshkeep").stdout.split().count("yes") == 0


def test_there_is_something_to_lose(seen: Seen) -> None:
    assert len(seen.stored) == 4 * (len(DATASETS) + 1)
    assert all("noise0" in one for one in seen.sums.values())
    listening = seen["cloud"].run("cat /root/listening").stdout
    assert ":22 " in listening
    assert ":2049 " in listening
    assert ":111 " in listening


@pytest.mark.parametrize("group", ["asking", "forging", "swearing", "sneaking"])
def test_whatever_is_asked_sent_signed_or_knocked_at(seen: Seen, group: str) -> None:
    seen.kept.setdefault("verdicts", verdicts(seen["cloud"], seen))
    judge(seen, try_all(seen["home"], group), group)
    assert not any(one["waiting"] for one in terms(seen["cloud"]))


def test_another_owner_goes_on_meanwhile(seen: Seen) -> None:
    laptop, rounds = seen["laptop"], 0
    holding = seen["home"].spawn(command("holding", {}))
    while holding.poll() is None:
        rounds += 1
        meshkeep(laptop, "snapshot", "take", "data/letters", "--name", f"meanwhile{rounds}")
        meshkeep(laptop, "replicate", "run", "data/letters", "cloud", "--wait", timeout=60)
    assert rounds >= 3
    judge(seen, outcomes(holding.wait(600, check=True).stdout), "holding")


def test_whatever_there_is_much_of(seen: Seen) -> None:
    judge(seen, try_all(seen["home"], "flooding"), "flooding")
    laptop = seen["laptop"]
    laptop.run("head -c 8M /dev/urandom > /data/letters/more && sync")
    meshkeep(laptop, "snapshot", "take", "data/letters", "--name", "after")
    meshkeep(laptop, "replicate", "run", "data/letters", "cloud", "--wait")
    assert verdicts(seen["cloud"], seen) == seen.kept["verdicts"]


def test_all_that_was_stored_opens_with_the_original_passphrase(seen: Seen) -> None:
    compared = set()
    for host, dataset in [*((seen["home"], one) for one in DATASETS), (seen["laptop"], "data/letters")]:
        back = f"{dataset.partition('/')[0]}/back-{dataset.rpartition('/')[2]}"
        copy = dataset if dataset != "tank/rotated" else first_aside(seen["cloud"])
        words = ["--accept-unlisted"] if copy != dataset else []
        meshkeep(host, "restore", "dataset", copy, "--from", "cloud", "--to", back, "--wait", *words)
        host.run(f"zfs load-key {back} && zfs mount {back}", input=f"{PASSPHRASE}\n".encode())
        for name in snapshots(host, back):
            if (wanted := seen.sums.get(f"{dataset}@{name}")) is not None:
                assert sums(host, f"/{back}/.zfs/snapshot/{name}") == wanted
                compared.add(f"{dataset}@{name}")
    assert compared == set(seen.sums)


def first_aside(cloud: Guest) -> str:
    """The replica that was kept aside first: the genuine one."""
    listed = cloud.run("zfs list -H -o name -r tank/meshkeep").stdout.split()
    return min(name.split("/", 3)[3] for name in listed if "/tank/rotated.rotated-" in name)


def test_a_node_that_was_evicted(seen: Seen) -> None:
    laptop = seen["laptop"]
    laptop.run("systemctl stop meshkeep-agent")
    meshkeep(seen["home"], "evict", "laptop", "--yes")
    eventually("cloud knows", lambda: "laptop" not in names(seen["cloud"]) or None, timeout=60)
    judge(seen, try_all(laptop, "leaving"), "leaving")


def names(host: Guest) -> list[str]:
    return [one["name"] for one in meshkeep(host, "status").value["nodes"] if one["state"] != "evicted"]


def test_with_root_on_the_vault_nothing_of_it_can_be_read(seen: Seen, tmp_path: Path) -> None:
    """A thousand canaries in files and their names; and one that the vault itself wrote, which has to be found."""
    cloud = seen["cloud"]
    cloud.run(f"zfs create -o compression=off tank/control && echo {CONTROL} > /tank/control/file && sync")
    cloud.run("zpool sync tank")
    cloud.shutdown()
    patterns = tmp_path / "canaries"
    patterns.write_text("\n".join([*canaries(), CONTROL]) + "\n")
    found = set()
    for disk in sorted(path for path in cloud.directory.iterdir() if path.suffix == ".qcow2"):
        grep = ["grep", "-a", "-o", "-h", "-F", "-f", str(patterns), str(disk)]
        found |= set(subprocess.run(grep, capture_output=True, text=True, errors="replace").stdout.split())
    assert found == {CONTROL}
    assert len(canaries()) > 2000


def test_the_table(seen: Seen) -> None:
    """What was tried, for a person to read."""
    for row in seen.rows:
        print(f"| {row['name']} | {row['code']} |")
    assert len(seen.rows) == sum(map(len, GROUPS.values()))
    assert len(seen.rows) >= 40
