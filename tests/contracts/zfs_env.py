"""What the contract of the door to ZFS works with: a place in a pool, a pipe with scissors, assertions."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from zfs import errors
from zfs.door import Streams, Zfs
from zfs.stream import HEADER_SIZE, Begin, KeyMaterial, crypt_payload, read_begin, resume_point

PASSPHRASE = b"correct horse battery"


@dataclass(frozen=True, slots=True)
class Env:
    """A door and an empty, unencrypted dataset to work below. `write` puts that many bytes into a dataset."""

    zfs: Zfs
    streams: Streams
    root: str
    write: Callable[[str, int], Awaitable[None]]

    def name(self, *parts: str) -> str:
        """A dataset below the root."""
        return "/".join((self.root, *parts))

    async def make(self, *parts: str, passphrase: bytes | None = None, size: int = 0) -> str:
        """A new dataset with *size* bytes in it."""
        name = self.name(*parts)
        # The fewest iterations that ZFS takes: deriving a key is most of the time in an emulated guest.
        properties = {} if passphrase is None else {"pbkdf2iters": "100000"}
        await self.zfs.create(name, properties, passphrase=passphrase)
        if size:
            await self.write(name, size)
        return name

    async def guids(self, dataset: str) -> list[int]:
        """Of its snapshots, oldest first."""
        return [one.guid for one in await self.zfs.snapshots(dataset)]


@dataclass
class Sent:
    """What passed between a send and a receive."""

    begin: Begin
    keys: KeyMaterial | None
    point: tuple[int, int] | None
    sender: BaseException | None = None
    receiver: BaseException | None = None


def transfer(
    env: Env,
    source: tuple[str, str | None],
    target: str,
    *,
    raw: bool = True,
    cut: int | None = None,
    resume: tuple[int, int] | None = None,
) -> Sent:
    """Send (snapshot, base) as *target*; only the first *cut* bytes arrive. Uncut, it raises what failed."""
    send_read, send_write = os.pipe()
    receive_read, receive_write = os.pipe()
    failures: dict[str, BaseException] = {}

    def send() -> None:
        try:
            env.streams.send(*source, send_write, raw=raw, resume=resume)
        except errors.ZfsError as error:
            failures["sender"] = error
        finally:
            os.close(send_write)

    def receive() -> None:
        try:
            env.streams.receive(target, receive_read, raw=raw)
        except errors.ZfsError as error:
            failures["receiver"] = error
        finally:
            os.close(receive_read)

    threads = [threading.Thread(target=send), threading.Thread(target=receive)]
    for thread in threads:
        thread.start()
    head = _pump(send_read, receive_write, cut)
    for thread in threads:
        thread.join()
    if cut is None:
        _raise_cause(failures)
    begin = read_begin(head[:HEADER_SIZE])
    payload = head[HEADER_SIZE : HEADER_SIZE + begin.payload_size]
    return Sent(begin, crypt_payload(payload), resume_point(payload), **failures)


def _raise_cause(failures: dict[str, BaseException]) -> None:
    """Of the two ends the one that failed first: the other only noticed that it was alone."""
    causes = [failures[end] for end in ("sender", "receiver") if end in failures]
    if causes:
        raise next((one for one in causes if not isinstance(one, errors.BadStream)), causes[-1])


def _pump(source: int, target: int, limit: int | None) -> bytes:
    """Move bytes until the end, the limit, or the reader's. Closes both; returns the first ones."""
    head, moved = b"", 0
    try:
        while limit is None or moved < limit:
            chunk = os.read(source, 65536 if limit is None else min(65536, limit - moved))
            if not chunk:
                break
            head = head if len(head) >= 8192 else head + chunk
            moved += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]
    except BrokenPipeError:
        pass  # the receiver has said why
    finally:
        os.close(source)
        os.close(target)
    return head


async def move(env: Env, source: tuple[str, str | None], target: str, **options: object) -> Sent:
    return await asyncio.to_thread(transfer, env, source, target, **options)  # type: ignore[arg-type]


async def raises(kind: type[errors.ZfsError], doing: Awaitable[object]) -> errors.ZfsError:
    try:
        await doing
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


def equal(left: object, right: object) -> None:
    assert left == right, f"{left!r} != {right!r}"
