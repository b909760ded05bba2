"""Starting, watching and ending a transfer worker from the agent.

The worker is a process of its own because a receive can hang unkillably in the kernel when a pool suspends.
Nothing here waits for one that does: it is given up, and said to hang.
"""

import asyncio
import contextlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping
from typing import IO, Generic, Protocol, TypeVar

from replication.errors import BadJob, WorkerDied, WorkerHangs, of_code
from replication.fork_server import ForkServer, last_words
from replication.jobs import (
    Outcome,
    Received,
    ReceiveJob,
    ReceiveOutcome,
    SendJob,
    SendOutcome,
    as_json,
    receive_outcome,
    received,
    send_outcome,
)

log = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
GIVE_UP_SECONDS = 10.0

Progress = Callable[[int], None]
Stepped = Callable[[Received], None]
T = TypeVar("T", bound=Outcome)


class Process(Protocol):
    """What is used of `asyncio.subprocess.Process`."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    @property
    def stdout(self) -> asyncio.StreamReader | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    async def wait(self) -> int: ...


async def start_send(
    server: ForkServer, job: SendJob, fd: int, progress: Progress | None = None
) -> "Transfer[SendOutcome]":
    """A worker that writes streams to the socket *fd*, which stays the caller's to close."""
    process, stderr = await _spawn(server, "send", fd, as_json(job))
    return Transfer(process, send_outcome, progress, stderr)


async def start_receive(
    server: ForkServer,
    job: ReceiveJob,
    fd: int,
    progress: Progress | None = None,
    user: str | None = None,
    stepped: Stepped | None = None,
) -> "Transfer[ReceiveOutcome]":
    """A worker that stores streams from the socket *fd*; as *user* once it runs, where one is named.

    *stepped* is told each step that is through.
    """
    process, stderr = await _spawn(server, "receive", fd, {**as_json(job), "user": user})
    return Transfer(process, receive_outcome, progress, stderr, stepped)


async def _spawn(
    server: ForkServer, direction: str, fd: int, job: Mapping[str, object]
) -> tuple[Process, IO[bytes]]:
    stderr = tempfile.TemporaryFile()  # noqa: SIM115 (closed by Transfer.outcome)
    try:
        return await server.spawn(direction, fd, job, stderr.fileno()), stderr
    except BaseException:
        stderr.close()
        raise


class Transfer(Generic[T]):
    """One worker under way. `bytes` is how much of the stream has passed, `said` its outcome once it has told it."""

    def __init__(
        self,
        process: Process,
        parse: Callable[[Mapping[str, object]], T],
        progress: Progress | None = None,
        stderr: IO[bytes] | None = None,
        stepped: Stepped | None = None,
    ) -> None:
        self.bytes = 0
        self.said: T | None = None
        self._process = process
        self._parse = parse
        self._progress = progress
        self._stderr = stderr
        self._stepped = stepped
        self._deadline: asyncio.Timeout | None = None
        self._given_up = False

    @property
    def pid(self) -> int:
        """The worker's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the worker still exists: while it does, start no other on the same dataset."""
        return self._process.returncode is None

    async def outcome(self) -> T:
        """See the worker through; call it once. Raises `replication.errors.TransferFailed` by its cause.

        Cancelling the task that waits here kills the worker.
        """
        try:
            async with asyncio.timeout(0 if self._given_up else None) as self._deadline:
                said = await self._read()
                # From here on only a hanging kernel can keep it.
                self._deadline.reschedule(asyncio.get_running_loop().time() + GIVE_UP_SECONDS)
                await self._process.wait()
        except TimeoutError:
            raise WorkerHangs(f"worker {self.pid} hangs in the kernel and cannot be ended") from None
        finally:
            if self.alive:
                self._signal(self._process.kill)
            tail = self._tail()
        if said is None:
            log.error("transfer worker %d: %s", self.pid, tail or "no word on stderr")
            last = tail.rpartition("\n")[2] or "It left no word."
            raise WorkerDied(
                f"the transfer worker ended ({self._process.returncode}) without an outcome. {last}"
            )
        self.said = said
        if said.code:
            raise of_code(said.code, said.text)
        return said

    async def cancel(self, grace: float = GRACE_SECONDS, give_up: float = GIVE_UP_SECONDS) -> None:
        """End the worker: ask, after *grace* seconds kill, after *give_up* more leave it to the kernel.

        Returns when it is gone or given up; `outcome` then raises what came of it.
        """
        for end, seconds in ((self._process.terminate, grace), (self._process.kill, give_up)):
            self._signal(end)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._process.wait()
                    return
        self._given_up = True
        if self._deadline is not None:
            self._deadline.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> T | None:
        """Follow its lines to the end; the outcome that it named, if it did."""
        assert self._process.stdout is not None
        said: T | None = None
        async for line in self._process.stdout:
            try:
                message = json.loads(line)
                if "outcome" in message:
                    said = self._parse(message["outcome"])
                    self._count(said.bytes)
                elif "received" in message:
                    self._step(received(message["received"]))
                else:
                    self._count(int(message["bytes"]))
            except (ValueError, TypeError, KeyError, BadJob):
                continue
        return said

    def _count(self, count: int) -> None:
        self.bytes = count
        if self._progress:
            self._progress(count)

    def _step(self, one: Received) -> None:
        if self._stepped:
            self._stepped(one)

    def _signal(self, send: Callable[[], None]) -> None:
        with contextlib.suppress(ProcessLookupError):
            send()

    def _tail(self) -> str:
        """The end of what the worker wrote to stderr."""
        return "" if self._stderr is None else last_words(self._stderr)
