"""Requests and streams between two agents over TCP inside the tunnels: the side that asks.

One request per connection; `mesh.link_server` answers.

    request             {"verb", "args"}
    answer              {"ok": {...}}                  or {"error": {"code", "text", "try", "exit"}}
    answer to a stream  {"ok": {...}, "stream": true}  or {"error": ...}
      caller sends      raw bytes until the caller shuts its side down, then a last answer comes back
      server sends      raw bytes until the server shuts its side down, and nothing after them

Nothing can follow raw bytes in the same direction. So where the server sends, its first answer carries all
there is to say, the caller judges the outcome by what arrived, and what the handler returns is dropped. Who
may ask what is not decided here.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from mesh.channel import Channel, connect
from mesh.frames import ConnectionClosed, FrameError
from mesh.link_errors import LinkError, LinkTimeout, PeerBroke, PeerRefused, PeerUnreachable, Refusal
from mesh.link_server import Handler, IncomingStream, LinkServer
from mesh.ports import LINK_SOURCES, MESH

__all__ = [
    "Handler",
    "IncomingStream",
    "Link",
    "LinkError",
    "LinkServer",
    "LinkTimeout",
    "OutgoingStream",
    "PeerBroke",
    "PeerRefused",
    "PeerUnreachable",
    "Refusal",
]

T = TypeVar("T")


class OutgoingStream:
    """A stream the peer has accepted. `socket` is blocking, for a worker, and closed with the stream."""

    def __init__(
        self, channel: Channel, asked: tuple[str, str], reply: dict[str, Any], sending: bool
    ) -> None:
        self._channel = channel
        self._address, self._verb = asked
        self.reply = reply
        self.socket = channel.lend(sending=sending)

    async def spoken(self) -> None:
        """While we send: returns when the peer ends it early (its last answer is there, or it is gone)."""
        await self._channel.readable()

    async def finish(self, timeout: float = 30.0) -> dict[str, Any]:
        """The peer's last answer, once the worker has shut its side down. Closes the loan of `socket`.

        Raises PeerRefused, PeerBroke, LinkTimeout.
        """
        self._channel.take_back()
        return await _within(timeout, self._address, self._verb, _read_ok(self._channel, self._address))


class Link:
    """Asks peers. `source_ports` range(0, 1) lets the system choose: for tests without root."""

    def __init__(
        self,
        source_address: str,
        *,
        device: str | None = None,
        port: int = MESH,
        source_ports: Sequence[int] = LINK_SOURCES,
    ) -> None:
        self._source = source_address
        self._device = device
        self._port = port
        self._source_ports = source_ports

    async def call(
        self, address: str, verb: str, args: dict[str, Any], timeout: float = 30.0
    ) -> dict[str, Any]:
        """One question, one answer.

        Raises PeerUnreachable, PeerBroke, PeerRefused, LinkTimeout; FrameTooLarge for args beyond the limit.
        """
        async with self._connected(address, verb, args, timeout) as (_, reply):
            return reply

    @asynccontextmanager
    async def stream(
        self, address: str, verb: str, args: dict[str, Any], *, sending: bool = True, timeout: float = 30.0
    ) -> AsyncIterator[OutgoingStream]:
        """Asks for a stream; `sending` says whether we write it or read it. Raises as `call`.

        Leaving the block with an exception cuts the stream, for a worker on either side too.
        """
        async with self._connected(address, verb, args, timeout, stream=True) as (channel, reply):
            yield OutgoingStream(channel, (address, verb), reply, sending)

    @asynccontextmanager
    async def _connected(
        self, address: str, verb: str, args: dict[str, Any], timeout: float, stream: bool = False
    ) -> AsyncIterator[tuple[Channel, dict[str, Any]]]:
        """The one who opens closes: in order, or by force when the block raises."""
        channel, reply = await _within(timeout, address, verb, self._ask(address, verb, args, stream))
        try:
            yield channel, reply
        except BaseException:
            channel.abort()
            raise
        channel.close()

    async def _ask(
        self, address: str, verb: str, args: dict[str, Any], stream: bool
    ) -> tuple[Channel, dict[str, Any]]:
        try:
            channel = await connect(self._source, (address, self._port), self._device, self._source_ports)
        except OSError as error:
            raise PeerUnreachable(address, os.strerror(error.errno) if error.errno else str(error)) from error
        try:
            try:
                await channel.write({"verb": verb, "args": args})
            except ConnectionClosed as error:
                raise PeerBroke(address, str(error)) from error
            return channel, await _read_ok(channel, address, stream)
        except BaseException:
            channel.abort()
            raise


async def _within(seconds: float, address: str, verb: str, work: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError as error:
        raise LinkTimeout(address, verb, seconds) from error


async def _read_ok(channel: Channel, address: str, stream: bool = False) -> dict[str, Any]:
    try:
        answer = await channel.read()
    except FrameError as error:
        raise PeerBroke(address, str(error)) from error
    told, ok = answer.get("error"), answer.get("ok")
    if isinstance(told, dict):
        exit = told.get("exit")
        code, text, hint = (str(told.get(key, "")) for key in ("code", "text", "try"))
        raise PeerRefused(code, text, hint, exit if isinstance(exit, int) else 7)
    if not isinstance(ok, dict) or answer.get("stream", False) is not stream:
        raise PeerBroke(address, "the answer is not of the kind that was asked for")
    return ok
