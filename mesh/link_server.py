"""Requests and streams between two agents: the side that answers. `mesh.link` has the protocol."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any, Protocol

from mesh.channel import Channel, listener
from mesh.frames import BadFrame, FrameError, FrameTooLarge
from mesh.link_errors import Refusal
from mesh.ports import MESH, RESERVED

log = logging.getLogger(__name__)

ASK_WITHIN = 30.0
"""Seconds in which a connection must have made its request."""

LINGER = 2.0
"""Seconds that a caller who is still sending gets to read why it was refused."""

MAX_PER_CALLER = 64
"""Connections that one node may have open here."""


AT_ONCE = 4
"""Requests of one node that are worked on at a time; the others wait in line. A stream does not count once it runs.

Each may start programs: without a bound, one node that asks without end has all of the host's processors.
"""


class _Turn:
    """One of the requests of a caller that are worked on."""

    def __init__(self, line: asyncio.Semaphore) -> None:
        self._line = line
        self._mine = False

    async def take(self) -> None:
        await self._line.acquire()
        self._mine = True

    def leave(self) -> None:
        if self._mine:
            self._mine = False
            self._line.release()


class IncomingStream:
    """The connection of a request, for the handler that wants to move raw bytes over it."""

    def __init__(self, channel: Channel, begun: Callable[[], None] = lambda: None) -> None:
        self._channel = channel
        self._begun = begun
        self.accepted = False
        self.sending = False

    async def accept(self, reply: dict[str, Any], *, sending: bool = False) -> socket.socket:
        """Answers `reply` and hands out the blocking socket for a worker. Raises FrameError.

        sending=False: read to the end of file; what the handler then returns or refuses goes to the caller.
        sending=True: write, then shutdown(SHUT_WR); the handler's return value is dropped, and if it raises,
        the connection is cut. The socket is closed when the handler ends: the worker must be through by then.
        """
        if self.accepted:
            raise RuntimeError("accepted twice")
        self.accepted, self.sending = True, sending
        self._begun()
        await self._channel.write({"ok": reply, "stream": True})
        return self._channel.lend(sending=sending)

    async def gone(self) -> None:
        """While we send: returns when the caller has gone (it has nothing to say, so any sign is that)."""
        await self._channel.readable()


class Handler(Protocol):
    """Answers one request. `caller` is the IPv6 address it came from; raises Refusal."""

    async def __call__(
        self, caller: str, verb: str, args: dict[str, Any], stream: IncomingStream
    ) -> dict[str, Any]: ...


class LinkServer:
    """Serves requests on one address. `source_port_limit` None is for tests without root."""

    def __init__(
        self,
        address: str,
        port: int = MESH,
        *,
        handler: Handler,
        device: str | None = None,
        source_port_limit: int | None = RESERVED,
    ) -> None:
        self._handler = handler
        self._source_port_limit = source_port_limit
        self._open: Counter[str] = Counter()
        self._lines: dict[str, asyncio.Semaphore] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._listener = listener(address, port, device)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._listener.getsockname()[1])

    async def serve(self) -> None:
        """Runs until cancelled; then cuts what is open."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as tasks:
                while True:
                    sock, peer = await self._accept(loop)
                    if self._welcome(peer):
                        self._start(tasks, sock, peer[0])
                    else:
                        sock.close()
        finally:
            self.close()

    def close(self) -> None:
        """Stops listening; needed only where `serve` never ran."""
        self._listener.close()

    def cut(self, caller: str) -> int:
        """Ends all connections of this caller now (an evicted node); returns how many."""
        doomed = [task for task, address in self._tasks.items() if address == caller]
        for task in doomed:
            task.cancel()
        return len(doomed)

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, tuple[str, int]]:
        while True:
            try:
                sock, peer = await loop.sock_accept(self._listener)
                return sock, peer[:2]
            except OSError as error:  # the one connection went away, or we are out of descriptors for now
                log.warning("accept: %s", error)
                await asyncio.sleep(0.1)

    def _welcome(self, peer: tuple[str, int]) -> bool:
        address, port = peer
        if self._source_port_limit is not None and port >= self._source_port_limit:
            log.warning("%s: connection from port %d, which any program can have: closed", address, port)
            return False
        if self._open[address] >= MAX_PER_CALLER:
            log.warning("%s: more than %d connections: closed", address, MAX_PER_CALLER)
            return False
        return True

    def _start(self, tasks: asyncio.TaskGroup, sock: socket.socket, caller: str) -> None:
        try:
            channel = Channel(sock)
        except OSError as error:
            log.info("%s: gone again: %s", caller, error)
            sock.close()
            return
        task = tasks.create_task(self._attend(channel, caller))
        self._tasks[task] = caller
        self._open[caller] += 1
        task.add_done_callback(lambda done: self._ended(done, channel, caller))

    def _ended(self, task: asyncio.Task[None], channel: Channel, caller: str) -> None:
        channel.abort()  # of one that was cancelled before it began; the others are closed by now
        del self._tasks[task]
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]
            self._lines.pop(caller, None)

    async def _attend(self, channel: Channel, caller: str) -> None:
        turn = _Turn(self._lines.setdefault(caller, asyncio.Semaphore(AT_ONCE)))
        stream = IncomingStream(channel, turn.leave)
        try:
            answer = await self._answer(channel, caller, stream, turn)
            channel.take_back()
            if not stream.sending:
                await self._reply(channel, answer, early=stream.accepted and "error" in answer)
            elif "error" in answer:
                return channel.abort()
            channel.close()
        except FrameError as error:
            log.info("%s: %s", caller, error)
            channel.abort()
        except TimeoutError:
            log.info("%s: asked nothing within %g s", caller, ASK_WITHIN)
            channel.abort()
        except BaseException:
            channel.abort()
            raise

    async def _answer(
        self, channel: Channel, caller: str, stream: IncomingStream, turn: _Turn
    ) -> dict[str, Any]:
        async with asyncio.timeout(ASK_WITHIN):
            request = await channel.read()
        verb, args = request.get("verb"), request.get("args")
        if not isinstance(verb, str) or not isinstance(args, dict):
            return Refusal("bad_request", "a request is a verb and its args", exit=2).as_json()
        await turn.take()
        try:
            return {"ok": await self._handler(caller, verb, args, stream)}
        except Refusal as refusal:
            return refusal.as_json()
        except Exception as error:
            if isinstance(error, FrameError) and stream.accepted:
                raise  # the accepting failed: nobody is left to answer
            log.exception("%s: %s failed", caller, verb)
            return _failed(verb)
        finally:
            turn.leave()

    async def _reply(self, channel: Channel, answer: dict[str, Any], *, early: bool) -> None:
        try:
            await channel.write(answer)
        except (BadFrame, FrameTooLarge):
            log.exception("an answer that cannot be sent")
            await channel.write(_failed("answering"))
        if early:  # closing on unread bytes resets the connection, and the caller would not read the answer
            try:
                async with asyncio.timeout(LINGER):
                    await channel.drain()
            except TimeoutError:
                log.info("a refused caller went on sending")


def _failed(verb: str) -> dict[str, Any]:
    return Refusal("failed", f"{verb} failed; the log of the peer says why", exit=1).as_json()
