"""The agent's side of the fork server: starting it, and asking it for a child for every transfer.

Importing what a worker needs takes longer than many a transfer; see `replication.forking` for what is done there.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from replication.errors import WorkerDied
from replication.forking import MESSAGE_SIZE

log = logging.getLogger(__name__)

ANSWER_SECONDS = 120.0
"""For the first answer the server must have imported everything, on however slow a host."""

GRACE_SECONDS = 5.0
LONGEST_LINE = 1 << 20
"""Of a child's words: an outcome with the largest BEGIN payload has 350 KB."""

UNKNOWN_CODE = 255
"""The exit code of a child that ended when no server was there to reap it; as asyncio has it."""

_TAIL = 2000

Heard = Callable[[Mapping[str, Any], Sequence[int]], None]
Lost = Callable[[], None]


@dataclass(frozen=True, slots=True)
class WorkerCommand:
    """How the fork server is started: the words before ``serve FD``, and its environment."""

    words: Sequence[str]
    environment: Mapping[str, str] | None = None


class Forked:
    """One child of the server, with what is used of `asyncio.subprocess.Process`."""

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: asyncio.StreamReader | None = None
        self._pidfd = pidfd
        self._transport: asyncio.BaseTransport | None = None
        self._gone = asyncio.Event()

    def terminate(self) -> None:
        """SIGTERM. Raises ProcessLookupError where it is gone."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. Raises ProcessLookupError where it is gone."""
        self._signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Until it has ended; its exit code, negative for a signal."""
        await self._gone.wait()
        assert self.returncode is not None
        return self.returncode

    def reports(self, stdout: asyncio.StreamReader, transport: asyncio.BaseTransport) -> None:
        """What it says can be read there."""
        self.stdout, self._transport = stdout, transport

    def ended(self, code: int) -> None:
        """It is gone, with this exit code."""
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.returncode = code
        self._gone.set()

    def orphaned(self) -> None:
        """Its server is gone: from here on only that it ended can be known, not how."""
        asyncio.get_running_loop().add_reader(self._pidfd, self.ended, UNKNOWN_CODE)

    def forget(self) -> None:
        """Stop watching it. It goes on by itself."""
        if self.returncode is None:
            self.ended(UNKNOWN_CODE)
        if self._transport is not None:
            self._transport.close()

    def _signal(self, number: signal.Signals) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        signal.pidfd_send_signal(self._pidfd, number)


class ForkServer:
    """Gives each transfer a process of its own, from a server that is started at the first need and kept."""

    def __init__(self, command: WorkerCommand) -> None:
        self._command = command
        self._turn = asyncio.Lock()
        self._server: _Server | None = None
        self._children: dict[int, Forked] = {}
        self._number = 0
        self._asked: asyncio.Future[Forked] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id, while there is one."""
        return self._server.process.pid if self._server and not self._server.gone else None

    async def start(self) -> None:
        """Start the server if it does not run; what it imports is not waited for. Raises WorkerDied."""
        async with self._turn:
            with _worker_died():
                await self._running()

    async def close(self) -> None:
        """End the server. Its children go on, unwatched: see the transfers through before."""
        async with self._turn:
            if self._server is not None:
                await self._end(self._server, grace=0)
            for child in self._children.values():
                child.forget()
            self._children.clear()

    async def spawn(self, direction: str, fd: int, job: Mapping[str, object], stderr: int) -> Forked:
        """A child that does *job* with the socket *fd* and complains to *stderr*; both stay the caller's.

        A server that is found dead, or dies over this, is started again once. Raises WorkerDied.
        """
        async with self._turn:
            with _worker_died():
                try:
                    return await self._spawn(direction, fd, job, stderr)
                except _ServerGone as error:
                    log.warning("%s; it is started again", error)
                return await self._spawn(direction, fd, job, stderr)

    async def _spawn(self, direction: str, fd: int, job: Mapping[str, object], stderr: int) -> Forked:
        server = await self._running()
        with contextlib.ExitStack() as ends:
            job_reader, job_writer = os.pipe2(os.O_CLOEXEC)
            ends.callback(os.close, job_reader)
            ends.callback(os.close, job_writer)
            line = json.dumps(job).encode() + b"\n"
            _make_room(job_writer, len(line))
            report_reader, report_writer = os.pipe2(os.O_CLOEXEC)
            ends.callback(os.close, report_writer)
            stdout, transport = await _reading(report_reader)
            try:
                child = await self._ask(server, direction, (fd, job_reader, report_writer, stderr))
            except BaseException:
                transport.close()
                raise
            child.reports(stdout, transport)
            # Never blocks. A child that died before it read this is found out by the transfer.
            os.write(job_writer, line)
        return child

    async def _ask(self, server: "_Server", direction: str, fds: Sequence[int]) -> Forked:
        self._number += 1
        self._asked = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                server.send({"id": self._number, "direction": direction}, fds)
                return await self._asked
        except ConnectionError:
            raise _ServerGone(await self._end(server)) from None
        except TimeoutError:
            await self._end(server, grace=0)
            raise WorkerDied(f"no transfer worker was started in {ANSWER_SECONDS:.0f} s") from None
        finally:
            self._asked = None

    async def _running(self) -> "_Server":
        if self._server is not None and self._server.gone:
            log.warning("%s; it is started again", await self._end(self._server))
        if self._server is None:
            self._server = await _Server.start(self._command, self._heard, self._lost)
        return self._server

    async def _end(self, server: "_Server", grace: float = GRACE_SECONDS) -> str:
        self._server = None
        self._lost()
        return await server.end(grace)

    def _heard(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        number = message["id"]
        if "code" in message:
            if child := self._children.pop(number, None):
                child.ended(message["code"])
            return
        if fds:
            self._children[number] = Forked(message["pid"], fds[0])
        # With nobody waiting any more the child finds no job, and ends.
        if number != self._number or self._asked is None or self._asked.done():
            return
        if fds:
            self._asked.set_result(self._children[number])
        else:
            why = message.get("error", "the agent has no descriptors left")
            self._asked.set_exception(WorkerDied(f"the transfer worker could not be started: {why}"))

    def _lost(self) -> None:
        self._children = {
            number: child for number, child in self._children.items() if child.returncode is None
        }
        for child in self._children.values():
            child.orphaned()
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(ConnectionResetError())


def _make_room(writer: int, size: int) -> None:
    """A pipe holds 64 KiB by itself, and 1 MiB for the asking. Raises OSError where that is not granted."""
    if size > fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)


class _ServerGone(WorkerDied):
    """Its own class only so that `spawn` can try again."""


class _Server:
    """One server process, from its start to its end.

    *heard* gets what it says, with the descriptors that came along; *lost* is called once when it is gone by
    itself.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        sock: socket.socket,
        stderr: IO[bytes],
        heard: Heard,
        lost: Lost,
    ) -> None:
        self.process = process
        self.gone = False
        self._sock = sock
        self._stderr = stderr
        self._heard = heard
        self._lost = lost
        asyncio.get_running_loop().add_reader(sock, self._receive)

    @classmethod
    async def start(cls, command: WorkerCommand, heard: Heard, lost: Lost) -> "_Server":
        """Raises OSError where there is no such program."""
        with contextlib.ExitStack() as opened:
            stderr = opened.enter_context(tempfile.TemporaryFile())
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            opened.enter_context(ours).setblocking(False)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    *command.words,
                    "serve",
                    str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    stderr=stderr,
                    pass_fds=(theirs.fileno(),),
                    env=command.environment,
                )
            opened.pop_all()
        return cls(process, ours, stderr, heard, lost)

    def send(self, message: Mapping[str, object], fds: Sequence[int]) -> None:
        """Raises ConnectionError where the server is gone."""
        if self.gone:
            raise ConnectionResetError
        socket.send_fds(self._sock, [json.dumps(message).encode()], fds)

    async def end(self, grace: float = GRACE_SECONDS) -> str:
        """See it gone, killed after *grace* seconds; how it ended, in words."""
        self._let_go()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.process.wait()
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        code = await self.process.wait()
        words = last_words(self._stderr)
        if words:
            log.error("fork server %d: %s", self.process.pid, words)
        last = words.rpartition("\n")[2] or "it left no word"
        return f"the server of the transfer workers ended ({code}): {last}"

    def _let_go(self) -> None:
        if not self.gone:
            self.gone = True
            asyncio.get_running_loop().remove_reader(self._sock)
            self._sock.close()

    def _receive(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._sock, MESSAGE_SIZE, 1, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return
        except ConnectionError:
            data, fds = b"", []
        if data:
            self._heard(json.loads(data), fds)
        else:
            self._let_go()
            self._lost()


@contextlib.contextmanager
def _worker_died() -> Iterator[None]:
    """No such program, no descriptor left, no memory: for a transfer it is all the same."""
    try:
        yield
    except OSError as error:
        raise WorkerDied(f"the transfer worker could not be started: {error}") from error


async def _reading(fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    """The read end of a pipe as a stream, which owns it."""
    reader = asyncio.StreamReader(limit=LONGEST_LINE)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader),
        open(fd, "rb", 0),  # noqa: SIM115 (the transport's)
    )
    return reader, transport


def last_words(stderr: IO[bytes]) -> str:
    """The end of what a process wrote to *stderr*, which is closed."""
    with stderr as file:
        file.seek(0, 2)
        file.seek(max(0, file.tell() - _TAIL))
        return file.read().decode(errors="replace").strip()
