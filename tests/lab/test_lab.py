"""The lab keeps its own promises: real NAT, real cuts, real power failures, hosts that share no secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import CommandFailed, Guest, Host, Lab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    hosts = [
        Host("home", pool="tank", nat="easy", disks=2, meshkeep=False),
        Host("cloud", pool="tank", meshkeep=False),
    ]
    with Lab(hosts=hosts) as lab:
        yield lab


@pytest.fixture
def home(lab: Lab) -> Guest:
    return lab["home"]


@pytest.fixture
def cloud(lab: Lab) -> Guest:
    return lab["cloud"]


def reaches(source: Guest, address: str) -> bool:
    return source.run(f"ping -c 1 -W 2 {address}", check=False).code == 0


def listening(guest: Guest, port: int) -> None:
    guest.run(f"until ss -Hltn sport = :{port} | grep -q .; do :; done")


def test_nat_lets_a_host_out_and_nobody_in(lab: Lab, home: Guest, cloud: Guest) -> None:
    nat = lab.nat(home)
    assert nat == "easy"
    assert nat is not None
    assert lab.nat(cloud) is None
    assert home.address == nat.public
    assert reaches(home, cloud.address)
    assert not reaches(cloud, nat.private)
    assert not reaches(cloud, nat.public)


def test_a_cut_stops_a_running_flow_and_healing_lets_it_go_on(lab: Lab, home: Guest, cloud: Guest) -> None:
    server = cloud.spawn("nc -l -p 7000 > /tmp/received")
    listening(cloud, 7000)
    home.run("mkfifo /tmp/flow /tmp/go")
    client = home.spawn(f"nc -q 0 {cloud.address} 7000 < /tmp/flow")
    writer = home.spawn("exec 3> /tmp/flow; echo before >&3; read < /tmp/go; echo after >&3")
    cloud.run("until grep -q before /tmp/received; do :; done")
    lab.cut("home", "cloud")
    assert not reaches(home, cloud.address)
    home.run("echo > /tmp/go")
    writer.wait(check=True)
    assert cloud.get("/tmp/received") == b"before\n"
    lab.heal()
    assert reaches(home, cloud.address)
    client.wait()
    server.wait(check=True)
    assert cloud.get("/tmp/received") == b"before\nafter\n"


def test_hosts_have_names_ids_random_numbers_and_a_clock_of_their_own(home: Guest, cloud: Guest) -> None:
    randomness = "head -c 32 /dev/urandom | base64"
    for command in ("hostname", "cat /etc/machine-id", "hostid", randomness, "ip link show eth0"):
        assert home.run(command).stdout != cloud.run(command).stdout, command
    assert abs(float(home.run("date +%s.%N").stdout) - float(cloud.run("date +%s.%N").stdout)) < 30


def test_a_raw_stream_carries_ciphertext_to_a_host_without_the_key(home: Guest, cloud: Guest) -> None:
    key = "-o encryption=on -o keyformat=passphrase -o pbkdf2iters=100000"
    home.run(f"zfs create {key} tank/secret", input=b"correct horse battery\n")
    home.run("head -c 1M /dev/urandom > /tank/secret/file && zfs snapshot tank/secret@one")
    receiver = cloud.spawn("nc -l -p 7001 | zfs receive -u tank/copy")
    listening(cloud, 7001)
    home.run(f"zfs send -w tank/secret@one | nc -N {cloud.address} 7001")
    receiver.wait(check=True)
    guid = "zfs get -H -o value guid"
    assert cloud.run(f"{guid} tank/copy@one").stdout == home.run(f"{guid} tank/secret@one").stdout
    assert cloud.run("zfs get -H -o value keystatus tank/copy").stdout.strip() == "unavailable"


def test_a_power_cut_leaves_what_was_synced_and_who_the_host_was(home: Guest, cloud: Guest) -> None:
    before = home.run("cat /etc/machine-id /etc/hostid").stdout
    home.run("echo kept > /tank/file && zpool sync tank")
    home.kill()
    home.boot()
    assert home.run("cat /tank/file").stdout == "kept\n"
    assert home.run("hostname").stdout == "home\n"
    assert home.run("cat /etc/machine-id /etc/hostid").stdout == before
    assert "mirror-0" in home.run("zpool status tank").stdout
    assert reaches(home, cloud.address)


def test_a_wiped_host_comes_back_new(cloud: Guest) -> None:
    cloud.run("echo old > /tank/file; echo old > /root/file")
    before = cloud.run("cat /etc/machine-id").stdout
    cloud.wipe()
    cloud.boot()
    assert cloud.run("cat /etc/machine-id").stdout != before
    assert cloud.run("hostname").stdout == "cloud\n"
    assert cloud.run("ls /tank /root/file", check=False).stdout == "/tank:\n"


def test_files_of_any_bytes_travel_both_ways_and_a_failed_command_says_why(home: Guest) -> None:
    data = bytes(range(256)) * 20_000
    home.put("/tmp/deep/er/file", data)
    assert home.get("/tmp/deep/er/file") == data
    with pytest.raises(CommandFailed, match="dataset does not exist"):
        home.run("zfs list tank/nothing")


def test_a_rented_vm_runs_its_cloud_init_file(lab: Lab, tmp_path: Path) -> None:
    script = tmp_path / "hello.sh"
    script.write_text("echo fetched > /root/fetched")
    url = lab.serve(script)
    user_data = f"#cloud-config\nruncmd:\n  - curl -fsS {url} | sh\n  - zpool create tank /dev/vdb\n"
    rented = lab.start(Host("rented", user_data=user_data))
    done = rented.cloud_init()
    assert done.code == 0, done.stdout
    assert rented.get("/root/fetched") == b"fetched\n"
    assert rented.run("hostname").stdout == "rented\n"
    assert rented.run("zpool list -H -o health tank").stdout == "ONLINE\n"
