"""What the double of ZFS can do beyond the contract, for tests of what must be survived."""

import asyncio
import os

import pytest

from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_streams import FakeStreams
from zfs import errors
from zfs.stream import HEADER_SIZE, crypt_payload, read_begin

PASSPHRASE = b"correct horse battery"


def stream(zfs: FakeZfs, snapshot: str, base: str | None = None) -> bytes:
    """All of a small raw stream."""
    read, write = os.pipe()
    FakeStreams(zfs).send(snapshot, base, write, raw=True)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        return pipe.read()


def receive(zfs: FakeZfs, snapshot: str, data: bytes) -> None:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    try:
        FakeStreams(zfs).receive(snapshot, read, raw=True)
    finally:
        os.close(read)


def fingerprint(data: bytes) -> str:
    begin = read_begin(data[:HEADER_SIZE])
    keys = crypt_payload(data[HEADER_SIZE : HEADER_SIZE + begin.payload_size])
    assert keys is not None
    return keys.fingerprint()


async def home_and_cloud() -> tuple[FakeZfs, FakeZfs]:
    """Two hosts; home has an encrypted tank/home@a, and cloud a replica of it as tank/copy@a."""
    home, cloud = FakeZfs(seed=1, clock=lambda: 1000.0), FakeZfs(seed=2, clock=lambda: 2000.0)
    await home.create("tank/home", {}, passphrase=PASSPHRASE)
    home.write("tank/home", b"first")
    await home.snapshot(["tank/home@a"])
    receive(cloud, "tank/copy@a", stream(home, "tank/home@a"))
    return home, cloud


async def test_a_replica_on_another_host_holds_the_same_and_reads_only_with_the_passphrase() -> None:
    home, cloud = await home_and_cloud()
    (there,) = await cloud.snapshots("tank/copy")
    assert [(there.guid, there.creation)] == [(one.guid, 1000) for one in await home.snapshots("tank/home")]
    with pytest.raises(errors.KeyUnavailable):
        cloud.read("tank/copy@a")
    await cloud.load_key("tank/copy", PASSPHRASE)
    assert cloud.read("tank/copy@a") == b"first"


async def test_a_changed_passphrase_travels_with_the_next_stream_and_locks_out_the_old_one() -> None:
    home, cloud = await home_and_cloud()
    before = fingerprint(stream(home, "tank/home@a"))
    home.change_passphrase("tank/home", b"the thief's own words")
    await home.snapshot(["tank/home@b"])
    data = stream(home, "tank/home@b", "tank/home@a")
    assert fingerprint(data) != before
    receive(cloud, "tank/copy@b", data)
    with pytest.raises(errors.WrongKey):
        await cloud.load_key("tank/copy", PASSPHRASE)


async def test_a_damaged_stream_leaves_no_snapshot() -> None:
    home, cloud = await home_and_cloud()
    await home.snapshot(["tank/home@b"])
    data = bytearray(stream(home, "tank/home@b", "tank/home@a"))
    data[-1] ^= 1
    with pytest.raises(errors.BadStream, match="checksum"):
        receive(cloud, "tank/copy@b", bytes(data))
    assert len(await cloud.snapshots("tank/copy")) == 1


async def test_a_suspended_pool_fails_everything_until_it_is_back() -> None:
    home, _ = await home_and_cloud()
    home.suspend("tank")
    for doing in (home.dataset("tank/home"), home.snapshots("tank/home"), home.snapshot(["tank/home@b"])):
        with pytest.raises(errors.PoolUnavailable):
            await doing
    assert [pool.health for pool in await home.pools()] == ["SUSPENDED"]
    home.resume("tank")
    await home.snapshot(["tank/home@b"])


async def test_a_readonly_pool_is_read_and_not_written() -> None:
    home, _ = await home_and_cloud()
    home.make_readonly("tank")
    assert len(await home.snapshots("tank/home")) == 1
    for doing in (home.snapshot(["tank/home@b"]), home.create("tank/x", {}), home.hold("t", ["tank/home@a"])):
        with pytest.raises(errors.ReadOnly):
            await doing


async def test_a_readonly_dataset_and_a_quota_stop_a_write() -> None:
    zfs = FakeZfs()
    await zfs.create("tank/a", {"quota": "10"})
    await zfs.create("tank/a/b", {})
    zfs.write("tank/a/b", b"12345678")
    with pytest.raises(errors.NoSpace):
        zfs.write("tank/a", b"123")
    await zfs.set("tank/a", {"readonly": "on"})
    with pytest.raises(errors.ReadOnly):
        zfs.write("tank/a/b", b"1")
    assert (await zfs.dataset("tank/a")).used == 8
    assert (await zfs.dataset("tank/a/b")).available == 2


async def test_what_arrived_before_the_quota_stays_to_be_resumed() -> None:
    home, cloud = FakeZfs(seed=1), FakeZfs(seed=2)
    await home.create("tank/home", {}, passphrase=PASSPHRASE)
    home.write("tank/home", bytes(200_000))
    await home.snapshot(["tank/home@a"])
    await cloud.create("tank/small", {"quota": "100000"})
    read, write = os.pipe()

    def send() -> None:
        with pytest.raises(errors.BadStream):
            FakeStreams(home).send("tank/home@a", None, write, raw=True)
        os.close(write)

    def take() -> None:
        with pytest.raises(errors.NoSpace):
            FakeStreams(cloud).receive("tank/small/copy@a", read, raw=True)
        os.close(read)

    await asyncio.gather(asyncio.to_thread(send), asyncio.to_thread(take))
    state = await cloud.resume_state("tank/small/copy")
    assert state is not None
    assert 0 < state.bytes <= 100_000


async def test_a_child_is_locked_with_its_encryption_root() -> None:
    zfs = FakeZfs()
    await zfs.create("tank/enc", {}, passphrase=PASSPHRASE)
    await zfs.create("tank/enc/child", {})
    zfs.unload_key("tank/enc")
    with pytest.raises(errors.KeyUnavailable):
        zfs.read("tank/enc/child")
    with pytest.raises(errors.KeyUnavailable):
        await zfs.create("tank/enc/other", {})
    with pytest.raises(errors.Unexpected, match="root"):
        await zfs.load_key("tank/enc/child", PASSPHRASE)
    await zfs.load_key("tank/enc", PASSPHRASE)
    assert (await zfs.dataset("tank/enc/child")).keystatus == "available"


async def test_the_same_seed_gives_the_same_guids() -> None:
    one, two = FakeZfs(seed=7), FakeZfs(seed=7)
    for zfs in (one, two):
        await zfs.snapshot(["tank@a"])
    assert await one.snapshots("tank") == await two.snapshots("tank")
