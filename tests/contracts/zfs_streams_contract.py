"""What every door keeps about streams: part of tests/contracts/zfs_contract.py, which runs it."""

import asyncio
import os

from tests.contracts.zfs_env import PASSPHRASE, Env, equal, move, raises
from zfs import errors
from zfs.stream import HEADER_SIZE


async def contract_a_full_and_an_incremental_raw_stream_arrive(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=300_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    full = await move(env, (source + "@a", None), target + "@a")
    await env.write(source, 100_000)
    await env.zfs.snapshot([source + "@b"])
    more = await move(env, (source + "@b", source + "@a"), target + "@b")
    guids = await env.guids(source)
    equal(await env.guids(target), guids)
    equal([full.begin.to_guid, more.begin.from_guid, more.begin.to_guid], [guids[0], *guids])
    equal(
        (full.begin.from_guid, full.begin.raw, full.begin.resuming, full.begin.compound),
        (None, True, False, False),
    )
    equal((full.begin.to_name, full.begin.kind, full.begin.unknown), (source + "@a", "filesystem", 0))
    snapshots = await env.zfs.snapshots(source)
    equal([full.begin.creation, more.begin.creation], [one.creation for one in snapshots])
    assert full.keys is not None
    assert more.keys is not None
    equal(full.keys.fingerprint(), more.keys.fingerprint())
    equal((full.keys.from_ivset_guid, more.keys.from_ivset_guid), (None, full.keys.to_ivset_guid))
    equal((full.keys.keyformat, len(full.keys.iv), len(full.keys.mac)), (3, 12, 16))
    ivsets = {"a": full.keys.to_ivset_guid, "b": more.keys.to_ivset_guid}
    equal(await env.zfs.ivset_guids(source), ivsets)
    equal(await env.zfs.ivset_guids(target), ivsets)
    equal(await env.zfs.ivset_guids(env.root), {})
    await raises(errors.NotFound, env.zfs.ivset_guids(env.name("gone")))
    equal(await env.zfs.resume_state(target), None)


async def contract_a_raw_replica_is_locked_until_its_passphrase_comes(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=50_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    await move(env, (source + "@a", None), target + "@a")
    replica = await env.zfs.dataset(target)
    equal((replica.encryption_root, replica.keystatus, replica.mounted), (target, "unavailable", False))
    await raises(errors.KeyUnavailable, env.zfs.mount(target))
    await raises(errors.WrongKey, env.zfs.load_key(target, b"wrong horse battery"))
    await raises(errors.WrongKey, env.zfs.check_key(target, b"wrong horse battery"))
    await env.zfs.check_key(target, PASSPHRASE)
    equal((await env.zfs.dataset(target)).keystatus, "unavailable")
    await env.zfs.load_key(target, PASSPHRASE)
    equal((await env.zfs.dataset(target)).keystatus, "available")


async def contract_a_locked_replica_is_sent_back_and_opens(env: Env) -> None:
    source, target, back = (
        await env.make("source", passphrase=PASSPHRASE, size=50_000),
        env.name("t"),
        env.name("b"),
    )
    await env.zfs.snapshot([source + "@a"])
    await move(env, (source + "@a", None), target + "@a")
    await raises(errors.KeyUnavailable, move(env, (target + "@a", None), back + "@a", raw=False))
    await move(env, (target + "@a", None), back + "@a")
    equal(await env.guids(back), await env.guids(source))
    await env.zfs.load_key(back, PASSPHRASE)
    await env.zfs.mount(back)
    equal((await env.zfs.dataset(back)).mounted, True)
    await env.zfs.unmount(back)


async def contract_a_snapshot_being_sent_is_busy(env: Env) -> None:
    source = await env.make("source", passphrase=PASSPHRASE, size=8_000_000)
    await env.zfs.snapshot([source + "@a"])
    read, write = os.pipe()
    sending = asyncio.create_task(  # noqa: TID251 - awaited below, and no TaskGroup since it must fail
        asyncio.to_thread(env.streams.send, source + "@a", None, write, raw=True)
    )
    try:
        await asyncio.to_thread(os.read, read, HEADER_SIZE)
        failed = await env.zfs.destroy_snapshots([source + "@a"])
        equal([type(one) for one in failed.values()], [errors.Busy])
    finally:
        os.close(read)
    await raises(errors.BadStream, sending)
    os.close(write)
    equal(await env.zfs.destroy_snapshots([source + "@a"]), {})


async def contract_several_streams_come_through_one_pipe(env: Env) -> None:
    """A receive reads up to the end of its stream and not a byte of the next one."""
    source, target = await env.make("source", passphrase=PASSPHRASE, size=300_000), env.name("target")
    steps: list[tuple[str, str | None]] = []
    for short in "abc":
        await env.write(source, 100_000)
        await env.zfs.snapshot([f"{source}@{short}"])
        steps.append((f"{source}@{short}", steps[-1][0] if steps else None))
    read, write = os.pipe()

    def send() -> None:
        try:
            for snapshot, base in steps:
                env.streams.send(snapshot, base, write, raw=True)
            os.write(write, b"what follows")
        finally:
            os.close(write)

    sending = asyncio.create_task(asyncio.to_thread(send))  # noqa: TID251 - awaited below
    try:
        for snapshot, _ in steps:
            name = f"{target}@{snapshot.partition('@')[2]}"
            await asyncio.to_thread(env.streams.receive, name, read, raw=True)
        rest = await asyncio.to_thread(os.read, read, 100)
    finally:
        os.close(read)
        await sending
    equal(rest, b"what follows")
    equal(await env.guids(target), await env.guids(source))


async def contract_a_plain_dataset_is_sent_plain(env: Env) -> None:
    source, target = await env.make("source", size=50_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    sent = await move(env, (source + "@a", None), target + "@a", raw=False)
    equal((sent.begin.raw, sent.keys), (False, None))
    equal(await env.guids(target), await env.guids(source))
    equal((await env.zfs.dataset(target)).encrypted, False)


async def contract_a_bookmark_serves_as_base(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=50_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    await env.zfs.bookmark(source + "@a", source + "#a")
    await move(env, (source + "@a", None), target + "@a")
    await env.zfs.destroy_snapshots([source + "@a"])
    await env.write(source, 50_000)
    await env.zfs.snapshot([source + "@b"])
    await move(env, (source + "@b", source + "#a"), target + "@b")
    equal((await env.guids(target))[1:], await env.guids(source))


async def contract_a_stream_that_was_cut_goes_on(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=8_000_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    cut = await move(env, (source + "@a", None), target + "@a", cut=5_000_000)
    assert isinstance(cut.receiver, errors.BadStream)
    assert isinstance(cut.sender, errors.BadStream)
    equal((await env.zfs.dataset(target)).keystatus, "unavailable")
    equal(await env.zfs.snapshots(target), [])
    await _finish(env, source, None, target)
    await env.write(source, 8_000_000)
    await env.zfs.snapshot([source + "@b"])
    await move(env, (source + "@b", source + "@a"), target + "@b", cut=5_000_000)
    await raises(errors.Busy, move(env, (source + "@b", source + "@a"), target + "@b"))
    await _finish(env, source, source + "@a", target)


async def _finish(env: Env, source: str, base: str | None, target: str) -> None:
    """Check what the target says of the cut stream of the newest snapshot, and send the rest."""
    newest = (await env.zfs.snapshots(source))[-1]
    guids = {one.full_name: one.guid for one in await env.zfs.snapshots(source)}
    state = await env.zfs.resume_state(target)
    assert state is not None
    equal((state.to_guid, state.from_guid, state.raw), (newest.guid, guids[base] if base else None, True))
    equal(state.to_name, newest.full_name)
    assert 0 < state.bytes < 8_000_000
    point = (state.object, state.offset)
    rest = await move(env, (newest.full_name, base), f"{target}@{newest.name}", resume=point)
    equal((rest.begin.resuming, rest.point), (True, point))
    equal(await env.guids(target), await env.guids(source))
    equal(await env.zfs.resume_state(target), None)


async def contract_a_cut_stream_can_be_dropped(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=8_000_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    await move(env, (source + "@a", None), target + "@a", cut=5_000_000)
    await env.zfs.abort_receive(target)
    await raises(errors.NotFound, env.zfs.dataset(target))
    await move(env, (source + "@a", None), target + "@a")
    await env.zfs.abort_receive(target)
    equal(await env.guids(target), await env.guids(source))


async def contract_a_wrong_base_is_refused(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=50_000), env.name("target")
    for short in "abc":
        await env.write(source, 10_000)
        await env.zfs.snapshot([f"{source}@{short}"])
    await move(env, (source + "@a", None), target + "@a")
    await raises(errors.StreamMismatch, move(env, (source + "@c", source + "@b"), target + "@c"))
    await raises(errors.AlreadyExists, move(env, (source + "@b", None), target + "@b"))
    await raises(errors.AlreadyExists, move(env, (source + "@b", source + "@a"), target + "@a"))
    await move(env, (source + "@c", source + "@a"), target + "@c")
    equal(len(await env.guids(target)), 2)


async def contract_a_replica_that_was_snapshotted_is_refused(env: Env) -> None:
    source, target = await env.make("source", passphrase=PASSPHRASE, size=50_000), env.name("target")
    await env.zfs.snapshot([source + "@a"])
    await env.zfs.snapshot([source + "@b"])
    await move(env, (source + "@a", None), target + "@a")
    await env.zfs.snapshot([target + "@foreign"])
    await raises(errors.DestinationModified, move(env, (source + "@b", source + "@a"), target + "@b"))


async def contract_a_target_without_its_parent_is_not_found(env: Env) -> None:
    source = await env.make("source", passphrase=PASSPHRASE, size=50_000)
    await env.zfs.snapshot([source + "@a"])
    await env.zfs.snapshot([source + "@b"])
    await raises(errors.NotFound, move(env, (source + "@a", None), env.name("no", "such") + "@a"))
    await raises(errors.NotFound, move(env, (source + "@b", source + "@a"), env.name("no such") + "@b"))
    await raises(errors.NotFound, env.zfs.send_size(source + "@gone", None, raw=True))
    await raises(errors.NotFound, move(env, (source + "@gone", None), env.name("target") + "@a"))


async def contract_what_is_no_stream_is_refused(env: Env) -> None:
    read, write = os.pipe()
    os.write(write, b"this is no stream at all" * 40)
    os.close(write)
    try:
        target = env.name("target") + "@a"
        await raises(errors.BadStream, asyncio.to_thread(env.streams.receive, target, read, raw=True))
    finally:
        os.close(read)
    await raises(errors.NotFound, env.zfs.dataset(env.name("target")))


async def contract_a_quota_stops_a_receive(env: Env) -> None:
    source = await env.make("source", passphrase=PASSPHRASE, size=20_000_000)
    await env.zfs.snapshot([source + "@a"])
    small = env.name("small")
    await env.zfs.create(small, {"quota": "4194304"})
    await raises(errors.NoSpace, move(env, (source + "@a", None), small + "/target@a"))


async def contract_the_size_of_a_stream_is_estimated(env: Env) -> None:
    source = await env.make("source", passphrase=PASSPHRASE, size=4_000_000)
    await env.zfs.snapshot([source + "@a"])
    await env.write(source, 1_000_000)
    await env.zfs.snapshot([source + "@b"])
    full = await env.zfs.send_size(source + "@a", None, raw=True)
    more = await env.zfs.send_size(source + "@b", source + "@a", raw=True)
    assert 3_500_000 < full < 6_000_000, full
    assert 800_000 < more < 2_000_000, more
    await env.zfs.bookmark(source + "@a", source + "#a")
    assert 800_000 < await env.zfs.send_size(source + "@b", source + "#a", raw=True) < 2_000_000


async def contract_rights_can_be_delegated(env: Env) -> None:
    await env.zfs.allow("nobody", ["create", "mount", "receive"], await env.make("delegated"))
