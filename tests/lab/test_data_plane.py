"""Raw streams through the real data plane: planner, two workers, splice, and OpenZFS on both ends."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Guest, Host, Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
WHERE = "/opt/data-plane"
SOURCE, REPLICAS, TARGET = "tank/home", "tank/replicas", "tank/replicas/home"
USER = "transfer"
MB = 1 << 20

SETUP = f"""
set -e
useradd --system {USER}
echo first-passphrase > /root/key1; echo second-passphrase > /root/key2
zfs create -o encryption=on -o keyformat=passphrase -o keylocation=file:///root/key1 {SOURCE}
zfs create -o mountpoint=none -o readonly=on -o setuid=off -o exec=off -o devices=off {REPLICAS}
zfs allow -u {USER} create,mount,receive:append {REPLICAS}
"""


def packed() -> bytes:
    """What a worker needs, and the driver."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted([*ROOT.glob("zfs/*.py"), *ROOT.glob("replication/*.py")]):
            tar.add(path, path.relative_to(ROOT))
        for name in ("node/__init__.py", "node/worker.py"):
            tar.add(ROOT / name, name)
        tar.add(ROOT / "tests/lab/data_plane_driver.py", "driver.py")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def clean() -> Iterator[Guest]:
    with Lab(hosts=[Host("home", pool="tank", meshkeep=False)]) as lab:
        home = lab["home"]
        home.run(f"mkdir -p {WHERE} && tar -x -C {WHERE}", input=packed())
        home.run(SETUP)
        write(home, "first", 100)
        home.run(f"zfs snapshot {SOURCE}@a")
        assert [step["step"] for step in replicate(home)["steps"]] == ["Full"]
        home.save("replicated")
        yield home


@pytest.fixture
def home(clean: Guest) -> Guest:
    """`tank/home@a` with 100 MB, and its replica."""
    clean.load("replicated")
    return clean


def write(home: Guest, name: str, megabytes: int) -> None:
    home.run(f"head -c {megabytes}M /dev/urandom > /{SOURCE}/{name} && sync")


def replicate(home: Guest, **options: Any) -> dict[str, Any]:
    words = {"source": SOURCE, "target": TARGET, "user": USER, **options}
    done = home.run(["env", f"PYTHONPATH={WHERE}", "python3", f"{WHERE}/driver.py", json.dumps(words)])
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def got(answer: dict[str, Any]) -> list[str]:
    """How each step ended at the receiving side; empty for well."""
    return [step["got"].get("code", "") if "got" in step else "" for step in answer["steps"]]


def kinds(answer: dict[str, Any]) -> list[str]:
    return [step["step"] for step in answer["steps"]]


def guids(home: Guest, dataset: str) -> list[str]:
    return home.run(f"zfs list -Hp -t snapshot -d 1 -s createtxg -o guid {dataset}").stdout.split()


def prop(home: Guest, name: str, dataset: str) -> str:
    return home.run(f"zfs get -Hp -o value {name} {dataset}").stdout.strip()


def opens_with_first_passphrase(home: Guest) -> bool:
    return home.run(f"zfs load-key -n -L file:///root/key1 {TARGET}", check=False).code == 0


def test_the_replica_has_the_snapshot_and_no_key(home: Guest) -> None:
    assert guids(home, TARGET) == guids(home, SOURCE)
    assert prop(home, "keystatus", TARGET) == "unavailable"
    assert prop(home, "readonly", TARGET) == "on"
    assert prop(home, "mounted", TARGET) == "no"
    assert kinds(replicate(home)) == []


def test_several_snapshots_follow_in_one_go(home: Guest) -> None:
    for name in "bcd":
        write(home, name, 1)
        home.run(f"zfs snapshot {SOURCE}@{name}")
    answer = replicate(home)
    assert kinds(answer) == ["Incremental"] * 3
    assert got(answer) == ["", "", ""]
    assert guids(home, TARGET) == guids(home, SOURCE)


def test_a_hundred_small_snapshots_go_through_one_connection(home: Guest) -> None:
    home.run(f"for n in $(seq 100); do echo $n > /{SOURCE}/n; zfs snapshot {SOURCE}@s$n; done")
    (answer,) = replicate(home, together=True)["steps"]
    assert (answer["steps"], answer["got"]["code"], answer["sent"]["code"]) == (100, "", "")
    assert (answer["got"]["steps"], answer["sent"]["steps"]) == (100, 100)
    assert answer["through"] == list(range(100))
    assert answer["got"]["bytes"] == answer["sent"]["bytes"]
    assert guids(home, TARGET) == guids(home, SOURCE)
    assert opens_with_first_passphrase(home)
    print(f"100 steps in {answer['seconds']:.1f} s")


def test_a_worker_needs_little_memory(home: Guest) -> None:
    write(home, "b", 60)
    home.run(f"zfs snapshot {SOURCE}@b")
    (answer,) = replicate(home, limit=16 * MB)["steps"]
    print({name: f"{size / MB:.1f} MiB" for name, size in answer["resident"].items()})
    assert 0 < max(answer["resident"].values()) < 64 * MB


def test_of_many_steps_those_that_are_through_stay_and_the_rest_follows(home: Guest) -> None:
    for name in ("b", "c", "d"):
        write(home, name, 20)
        home.run(f"zfs snapshot {SOURCE}@{name}")
    (cut,) = replicate(home, together=True, limit=8 * MB, kill="send", kill_at=32 * MB)["steps"]
    assert (cut["got"]["code"], cut["got"]["steps"], cut["through"]) == ("interrupted", 1, [0])
    assert guids(home, TARGET) == guids(home, SOURCE)[:2]
    rest = replicate(home, together=True)
    assert kinds(rest) == ["Resume"]
    assert (rest["steps"][0]["steps"], got(rest)) == (2, [""])
    assert guids(home, TARGET) == guids(home, SOURCE)
    assert rest["steps"][0]["got"]["bytes"] < 36 * MB, "it started over"


def test_a_step_that_does_not_fit_ends_it_and_the_ones_before_stay(home: Guest) -> None:
    home.run(f"zfs set quota=125M {REPLICAS}")
    for name, size in (("b", 1), ("c", 60), ("d", 1)):
        write(home, name, size)
        home.run(f"zfs snapshot {SOURCE}@{name}")
    (answer,) = replicate(home, together=True)["steps"]
    assert (answer["got"]["code"], answer["through"]) == ("target_full", [0])
    assert guids(home, TARGET) == guids(home, SOURCE)[:2]


def test_a_bookmark_is_base_enough(home: Guest) -> None:
    home.run(f"zfs bookmark {SOURCE}@a {SOURCE}#a && zfs destroy {SOURCE}@a")
    write(home, "second", 1)
    home.run(f"zfs snapshot {SOURCE}@b")
    assert got(replicate(home)) == [""]
    assert guids(home, TARGET)[-1:] == guids(home, SOURCE)


@pytest.mark.parametrize(
    ("victim", "cause"), [("receive", ("worker_died", "peer_gone")), ("send", ("interrupted", "worker_died"))]
)
def test_either_side_killed_in_the_middle_it_goes_on_where_it_was(
    home: Guest, victim: str, cause: tuple[str, str]
) -> None:
    for name in ("b", "c"):
        write(home, name, 30)
        home.run(f"zfs snapshot {SOURCE}@{name}")
    cut = replicate(home, limit=8 * MB, kill=victim, kill_at=12 * MB)
    (step,) = cut["steps"]
    assert (step["got"]["code"], step["sent"]["code"]) == cause
    assert prop(home, "receive_resume_token", TARGET).startswith("1-")
    rest = replicate(home)
    assert kinds(rest) == ["Resume", "Incremental"]
    assert got(rest) == ["", ""]
    assert guids(home, TARGET) == guids(home, SOURCE)
    assert rest["steps"][0]["got"]["bytes"] < 24 * MB, "it started over"


def test_what_was_partly_received_of_a_vanished_snapshot_is_dropped(home: Guest) -> None:
    write(home, "b", 24)
    home.run(f"zfs snapshot {SOURCE}@b")
    replicate(home, limit=8 * MB, kill="send", kill_at=10 * MB)
    home.run(f"zfs snapshot {SOURCE}@c && zfs destroy {SOURCE}@b")
    answer = replicate(home)
    assert kinds(answer) == ["Abort", "Incremental"]
    assert guids(home, TARGET) == guids(home, SOURCE)


def test_another_wrapped_key_is_refused_and_the_replica_still_opens(home: Guest) -> None:
    write(home, "b", 1)
    home.run(f"zfs snapshot {SOURCE}@b")
    (first,) = replicate(home)["steps"]
    pinned = first["got"]["key_fingerprint"]
    home.run(f"zfs snapshot {SOURCE}@c")
    assert got(replicate(home, pinned=pinned)) == [""]
    home.run(f"zfs change-key -o keylocation=file:///root/key2 {SOURCE} && zfs snapshot {SOURCE}@d")
    before = guids(home, TARGET)
    (refused,) = replicate(home, pinned=pinned)["steps"]
    assert refused["got"]["code"] == "key_changed"
    assert refused["sent"]["code"] in ("", "peer_gone")
    assert guids(home, TARGET) == before
    assert prop(home, "receive_resume_token", TARGET) == "-"
    assert opens_with_first_passphrase(home)


def test_without_room_it_waits_and_then_goes_on(home: Guest) -> None:
    write(home, "b", 40)
    home.run(f"zfs snapshot {SOURCE}@b && zfs set quota=130M {REPLICAS}")
    assert got(replicate(home)) == ["target_full"]
    home.run(f"zfs set quota=none {REPLICAS}")
    answer = replicate(home)
    assert got(answer) == [""]
    assert guids(home, TARGET) == guids(home, SOURCE)


def test_the_workers_user_may_not_take_anything_away(home: Guest) -> None:
    for words in (
        f"destroy {TARGET}@a",
        f"rollback {TARGET}@a",
        f"destroy -r {TARGET}",
        f"snapshot {TARGET}@x",
    ):
        assert home.run(f"runuser -u {USER} -- zfs {words}", check=False).code != 0
    assert guids(home, TARGET) == guids(home, SOURCE)


def test_a_replica_that_someone_made_a_snapshot_of_is_a_conflict(home: Guest) -> None:
    home.run(f"zfs snapshot {TARGET}@mine && zfs snapshot {SOURCE}@b")
    answer = replicate(home)
    assert answer["conflict"] == "diverged"
    assert "mine" in answer["evidence"][0]
