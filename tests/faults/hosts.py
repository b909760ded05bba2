"""Hosts that die: the doors and streams of the fakes, struck by a script. What is on their disks outlives them."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from tests.fakes.workers import FakeWorkers
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_streams import FakeStreams
from tests.faults.points import Fault, Script, Side
from zfs.errors import BadStream, PoolUnavailable

PATIENCE = 20.0
LOCAL = frozenset({"state", "write", "read", "suspend", "resume", "make_readonly", "hurt"})
"""What of the fake is no method of the door."""


class Dead(Exception):
    """The agent that asks is no more."""


Kill = Callable[[str], None]


class Life:
    """One run of an agent, from its start to its end. `kill` is told who dies; `stuck` are tasks that died of it."""

    def __init__(self, side: Side, script: Script, kill: "Kill") -> None:
        self.side, self.script, self._kill = side, script, kill
        self.over = False
        self.stuck: list[asyncio.Task[Any] | None] = []

    def kill(self, fault: Fault) -> None:
        """Whoever dies of *fault* at this side: home, cloud or both."""
        other = "cloud" if self.side == "home" else "home"
        names = {"before": self.side, "half": self.side, "after": self.side, "other": other}
        self._kill(names.get(fault, fault))


class Door:
    """`zfs.door.Zfs` of one life."""

    def __init__(self, zfs: FakeZfs, life: Life) -> None:
        self._zfs, self._life = zfs, life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._zfs, name)
        if name in LOCAL:
            return found

        async def call(*args: Any, **named: Any) -> Any:
            life = self._life
            if life.over:
                raise Dead
            strike = life.script.next(life.side, "door", name)
            if strike is None:
                return await found(*args, **named)
            if strike.fault == "error":
                raise PoolUnavailable(str(args[0]) if args else "", "struck")
            if strike.fault == "half":
                await found(args[0][: len(args[0]) // 2], *args[1:], **named)
            if strike.fault == "after":
                await found(*args, **named)
            life.kill(strike.fault)
            if life.over:
                life.stuck.append(asyncio.current_task())
                await asyncio.get_running_loop().create_future()  # until whoever waits here is swept away
            return await found(*args, **named)

        return call


class Tap:
    """`zfs.door.Streams` of one life, in the threads of its workers. `gone` waits until no dead target moves."""

    def __init__(self, zfs: FakeZfs, life: Life, gone: Callable[[], Awaitable[None]]) -> None:
        self._inner = FakeStreams(zfs)
        self._state = zfs.state
        self._life = life
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self.meanwhile: Callable[[], None] | None = None

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        strike = self._life.script.next(self._life.side, "stream", "send")
        if strike is None and self.meanwhile is None:
            return self._inner.send(snapshot, base, fd, raw=raw, resume=resume)
        data = self._whole(snapshot, base, raw, resume)
        if strike is None:
            return self._with_a_break(snapshot, data, fd)
        at = round(len(data) * strike.point.place)
        try:
            if strike.fault == "corrupt":
                at = min(at, len(data) - 1)
                _write(fd, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
                return None
            _write(fd, data[:at])
            if strike.fault != "cut" and self._goes_on_after(strike.fault):
                _write(fd, data[at:])
                return None
        except BrokenPipeError as error:
            raise BadStream(snapshot, "the reader went away") from error
        raise BadStream(snapshot, "struck")

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        strike = self._life.script.next(self._life.side, "stream", "receive")
        if strike is not None and strike.fault == "before":
            self._goes_on_after(strike.fault)
            raise BadStream(snapshot, "struck")
        self._inner.receive(snapshot, fd, raw=raw)
        if strike is None:
            return
        if strike.fault == "after":
            self._goes_on_after(strike.fault)
        raise BadStream(snapshot, "struck")

    def _goes_on_after(self, fault: Fault) -> bool:
        """Whether this side outlives it. Killing is for the loop's thread; a worker dies with its agent."""
        asyncio.run_coroutine_threadsafe(self._strike(fault), self._loop).result(PATIENCE)
        return not self._life.over

    async def _strike(self, fault: Fault) -> None:
        self._life.kill(fault)
        if not self._life.over:
            await self._gone()

    def _with_a_break(self, snapshot: str, data: bytes, fd: int) -> None:
        """Half of it, then what `meanwhile` does, then the rest."""
        meanwhile, self.meanwhile = self.meanwhile, None
        assert meanwhile is not None
        dataset, _, name = snapshot.partition("@")
        sending = self._state.nodes[dataset].snapshots.get(name)
        try:
            _write(fd, data[: len(data) // 2])
            if sending is not None:
                sending.sending += 1
            meanwhile()
            _write(fd, data[len(data) // 2 :])
        except BrokenPipeError as error:
            raise BadStream(snapshot, "the reader went away") from error
        finally:
            if sending is not None:
                sending.sending -= 1

    def _whole(self, snapshot: str, base: str | None, raw: bool, resume: tuple[int, int] | None) -> bytes:
        whole = os.memfd_create("stream")
        try:
            self._inner.send(snapshot, base, whole, raw=raw, resume=resume)
            return os.pread(whole, os.fstat(whole).st_size, 0)
        finally:
            os.close(whole)


def workers_of(zfs: FakeZfs, life: Life, gone: Callable[[], Awaitable[None]]) -> FakeWorkers:
    """The workers of one life."""
    workers = FakeWorkers(zfs)
    streams: Any = Tap(zfs, life, gone)
    workers.streams = streams
    return workers


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
