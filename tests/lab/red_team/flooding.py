"""Much of it: connections, questions, snapshots, names, bytes. Another owner must not notice."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress

from mesh.codec import to_base64
from mesh.sealed import seal

from . import forge
from .asking import low_socket, reset
from .attack import CUT, DONE, TIMEOUT, Attacks, code_of, together
from .thief import Thief, announced, run

attack = Attacks("flooding")
holding = Attacks("holding")

HOLD_S = 12.0


# -- held while another owner works --------------------------------------------------------------------------------


@holding("64 and no more")
async def connections_that_say_nothing(thief: Thief) -> str:
    """A hundred connections, each with half a frame, held open."""
    held = await asyncio.to_thread(_open, thief, 100)
    await asyncio.sleep(HOLD_S)
    alive = sum([not await asyncio.to_thread(_closed, sock) for sock in held])
    for sock in held:
        reset(sock)
    return "64 and no more" if 0 < alive <= 64 else f"{alive} stay"


def _open(thief: Thief, count: int) -> list[socket.socket]:
    held = []
    for _ in range(count):
        sock = low_socket(thief.own_address, thief.address(thief.vault))
        with suppress(OSError):
            sock.sendall(b"\0\0")
        held.append(sock)
    return held


def _closed(sock: socket.socket) -> bool:
    sock.settimeout(0.05)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@holding(DONE, TIMEOUT)
async def streams_that_say_nothing(thief: Thief) -> str:
    """Fifty streams into fifty new datasets, accepted, and not a byte in any of them."""

    async def silent(number: int) -> str:
        told = announced(f"tank/silent{number}", ("x", 5, None))

        async def hold() -> None:
            address = thief.address(thief.vault)
            async with thief.link.stream(address, "replica.receive", told, timeout=60):
                await asyncio.sleep(HOLD_S)

        return await code_of(hold())

    return together(list(await asyncio.gather(*map(silent, range(50)))))


@holding(DONE, TIMEOUT)
async def questions_without_end(thief: Thief) -> str:
    """The list of everything, asked by forty at once for as long as they can."""
    ends = asyncio.get_running_loop().time() + HOLD_S

    async def ask() -> str:
        codes = set()
        while asyncio.get_running_loop().time() < ends:
            codes.add(await code_of(thief.ask("replica.list")))
        return ", ".join(codes)

    codes = await asyncio.gather(*(ask() for _ in range(40)))
    return together([code for one in codes for code in one.split(", ")])


@holding("interrupted")
async def a_stream_without_end(thief: Thief) -> str:
    """A genuine beginning, and then records that free nothing, for as long as the link takes them."""
    base = thief.guid("tank/endless@d")
    guid = thief.snapshot("tank/endless", "endless")
    records = forge.parse(thief.stream("tank/endless@endless", "tank/endless@d"))
    at = forge.first(records, forge.OBJECT) + 1
    number = records[at - 1].get(forge.OBJECT_NUMBER)
    head = b"".join(bytes(one.header) + one.payload for one in records[:at])
    free = forge.record(forge.FREE, ((8, "Q"), number), ((24, "Q"), (1 << 64) - 1), ((32, "Q"), guid))
    block = bytes(free.header) * 3000
    ends = asyncio.get_running_loop().time() + HOLD_S

    def flood(sock: socket.socket) -> None:
        loop = asyncio.new_event_loop()
        with suppress(OSError):
            sock.sendall(head)
            while loop.time() < ends:
                sock.sendall(block)
            sock.shutdown(socket.SHUT_WR)
        loop.close()

    async def send() -> None:
        told = announced("tank/endless", ("endless", guid, base))
        async with thief.link.stream(thief.address(thief.vault), "replica.receive", told) as stream:
            await asyncio.to_thread(flood, stream.socket)
            await stream.finish(40)

    code = await code_of(send())
    await code_of(thief.ask("replica.abort", {"dataset": "tank/endless"}))
    return code


@holding("the next one goes")
async def a_sender_that_is_stopped(thief: Thief) -> str:
    """kill -STOP of the sending process in the middle of a stream; then another stream of the same dataset."""
    words = [sys.executable, "-m", "red_team", "half", "{}"]
    half = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert half.stdout is not None
    await asyncio.to_thread(half.stdout.readline)
    os.kill(half.pid, signal.SIGSTOP)
    await asyncio.sleep(HOLD_S / 2)
    data, guid = thief.stream("tank/rotated@a"), thief.guid("tank/rotated@a")
    await code_of(thief.ask("replica.abort", {"dataset": "tank/stopped"}))
    code = await code_of(thief.push(data, guid, None, dataset="tank/stopped", name="a"))
    half.kill()
    half.wait()
    return "the next one goes" if code == DONE else code


async def half_a_stream(thief: Thief) -> None:
    """What the stopped one does: half of a stream, a word that it is sent, and then nothing."""
    data, guid = thief.stream("tank/rotated@a"), thief.guid("tank/rotated@a")
    told = announced("tank/stopped", ("a", guid, None))
    async with thief.link.stream(thief.address(thief.vault), "replica.receive", told) as stream:
        await asyncio.to_thread(stream.socket.sendall, data[: len(data) // 2])
        print("half", flush=True)
        await asyncio.sleep(600)


# -- what stays ----------------------------------------------------------------------------------------------------


@attack(DONE)
async def three_hundred_snapshots(thief: Thief) -> str:
    """Three hundred tiny snapshots, to displace the older ones by their number."""
    from zfs.libzfs import LibZfs, LibZfsStreams  # where ZFS is

    dataset = "tank/clocked"
    told = await thief.ask("replica.state", {"dataset": dataset})
    base, since = int(told["snapshots"][-1]["guid"]), f"{dataset}@{told['snapshots'][-1]['name']}"
    zfs, streams, codes = LibZfs(), LibZfsStreams(), []
    for number in range(300):
        await zfs.snapshot([f"{dataset}@many{number}"])
    guids = {one.name: one.guid for one in await zfs.snapshots(dataset)}
    for first in (0, 250):
        data, steps = os.memfd_create("streams"), []
        for name in (f"many{number}" for number in range(first, min(first + 250, 300))):
            streams.send(f"{dataset}@{name}", since, data, raw=True)
            steps.append((name, guids[name], base))
            base, since = guids[name], f"{dataset}@{name}"
        with os.fdopen(data, "rb") as file:
            file.seek(0)
            codes.append(await code_of(thief.offer(announced(dataset, *steps), file.read(), 100)))
    return together(codes)


@attack(DONE, "interrupted", CUT, "target_full")
async def names_without_end(thief: Thief) -> str:
    """Ten new datasets, each below four new parents, of which nothing is sent."""
    codes = []
    for number in range(10):
        told = announced(f"tank/n{number}/a/b/c/d", ("x", 5, None))
        codes.append(await code_of(thief.offer(told, b"")))
    return together(codes)


@attack("kept")
async def manifests_without_end(thief: Thief) -> str:
    """Two hundred sealed manifests with rubbish in them, to drown the good ones of earlier days."""
    before = (await thief.ask("manifest.get", {"owner": thief.identity.id})).get("count", 0)
    sealed = seal(thief.identity, thief.mesh, "manifest", b"rubbish" * 10, [thief.identity.public])
    for _ in range(200):
        await thief.ask("manifest.put", {"data": to_base64(sealed)})
    after = (await thief.ask("manifest.get", {"owner": thief.identity.id}))["count"]
    return "kept" if after >= before and after <= 6 else f"{before} before, {after} after"


@attack("target_full")
async def all_the_room_there_is(thief: Thief) -> str:
    """As many bytes as the quota takes, and then more: in a new dataset, noise that does not compress."""
    run("sh", "-c", "head -c 160M /dev/urandom > /tank/rotated/noise && zfs snapshot tank/rotated@noise")
    guid = thief.guid("tank/rotated@noise")
    data = thief.stream("tank/rotated@noise")
    code = await code_of(thief.push(data, guid, None, dataset="tank/noise", name="noise"))
    run("zfs", "destroy", "tank/rotated@noise")
    return code
