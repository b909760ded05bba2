"""One TCP connection between two agents: frames in and out on a raw socket that can be lent to a worker.

Raw sockets and not asyncio streams, because a stream reader reads ahead: bytes that belong to a worker would
end in our buffer.
"""

import asyncio
import ctypes
import random
import socket
from collections.abc import Sequence
from contextlib import suppress
from errno import EADDRINUSE, EADDRNOTAVAIL
from typing import Any

from mesh.frames import DEFAULT_LIMIT, ConnectionClosed, FrameTooLarge, decode_body, encode_frame

QUIET_DEATH = 30
"""Seconds after which a connection to a host that is gone breaks by itself."""

STALL = 120
"""Seconds that a sender of raw bytes waits for a receiver that takes nothing.

Longer than QUIET_DEATH: the kernel counts a receiver whose window stays shut as gone, even while it
acknowledges every probe (measured on Linux 6.18), and a ZFS receive may well stall for half a minute.
"""

_KEEPALIVE = (10, 5, 4)  # idle seconds, seconds between probes, probes: dead after 30 s
_HEADER = 4


class Channel:
    """Frames on one connected socket. Lent out by `lend`, back by `take_back`; never used in between."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        _prepare(sock)
        self._sock = sock
        self._lent: socket.socket | None = None

    async def read(self, limit: int = DEFAULT_LIMIT) -> dict[str, Any]:
        """The next frame, and not one byte more. Raises FrameTooLarge, BadFrame, ConnectionClosed."""
        length = int.from_bytes(await self._exactly(_HEADER, started=False), "big")
        if length > limit:
            raise FrameTooLarge(f"{length} bytes announced, at most {limit}")
        return decode_body(await self._exactly(length, started=True))

    async def write(self, obj: dict[str, Any]) -> None:
        """Sends one frame. Raises BadFrame and FrameTooLarge before a byte has left, and ConnectionClosed."""
        data = encode_frame(obj)
        try:
            await asyncio.get_running_loop().sock_sendall(self._sock, data)
        except OSError as error:
            raise ConnectionClosed(mid_frame=True) from error

    def lend(self, *, sending: bool) -> socket.socket:
        """A blocking duplicate for a worker. Both share that flag, so the loop must not touch ours now."""
        self._sock.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, (STALL if sending else QUIET_DEATH) * 1000
        )
        self._lent = self._sock.dup()
        self._lent.setblocking(True)
        return self._lent

    def take_back(self) -> None:
        """Ends the loan: the duplicate is closed here (a worker's own copies are the worker's)."""
        if self._lent is not None:
            self._lent.close()
            self._lent = None
            self._sock.setblocking(False)

    async def readable(self) -> None:
        """Returns when there is something to read or the peer is gone. Takes nothing; works while lent."""
        loop = asyncio.get_running_loop()
        seen = asyncio.Event()
        loop.add_reader(self._sock.fileno(), seen.set)
        try:
            await seen.wait()
        finally:
            loop.remove_reader(self._sock.fileno())

    async def drain(self) -> None:
        """Throws away what the peer still sends, until it stops. The caller bounds the time."""
        loop = asyncio.get_running_loop()
        try:
            self._sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(self._sock, 1 << 16):
                pass
        except OSError:
            return  # gone is as good as done

    def close(self) -> None:
        """An orderly end: what was written still arrives."""
        self.take_back()
        self._sock.close()

    def abort(self) -> None:
        """Cuts it at once, for the peer and for a worker that still has a copy: both see a reset.

        Only where an older kernel will not disconnect under a blocked worker the peer may see an end of file:
        judge a stream by its content.
        """
        self.take_back()
        if self._sock.fileno() < 0:
            return
        if not _disconnect(self._sock):
            with suppress(OSError):  # not connected any more, which is what we want
                self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    async def _exactly(self, count: int, *, started: bool) -> bytes:
        loop = asyncio.get_running_loop()
        got = bytearray()
        while len(got) < count:
            try:
                some = await loop.sock_recv(self._sock, count - len(got))
            except OSError as error:
                raise ConnectionClosed(mid_frame=True) from error
            if not some:
                raise ConnectionClosed(mid_frame=started or bool(got))
            got += some
        return bytes(got)


def listener(address: str, port: int, device: str | None) -> socket.socket:
    """A listening socket on exactly this IPv6 address, and this interface if given. Raises OSError."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bind_device(sock, device)
        sock.bind((address, port))
        sock.listen(128)
    except BaseException:
        sock.close()
        raise
    return sock


async def connect(
    source: str, target: tuple[str, int], device: str | None, source_ports: Sequence[int]
) -> Channel:
    """Connects from one of `source_ports`, trying others while one is taken. Raises OSError."""
    candidates = random.sample(source_ports, len(source_ports))
    for left, port in zip(range(len(candidates) - 1, -1, -1), candidates, strict=True):
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bind_device(sock, device)
            sock.bind((source, port))
            await asyncio.get_running_loop().sock_connect(sock, (*target, 0, 0))
            return Channel(sock)
        except OSError as error:
            sock.close()
            if error.errno not in (EADDRINUSE, EADDRNOTAVAIL) or not left:
                raise
        except BaseException:
            sock.close()
            raise
    raise OSError(EADDRINUSE, "no source port to connect from")


def bind_device(sock: socket.socket, device: str | None) -> None:
    """Ties a socket to an interface, so that a source address names the host behind it."""
    if device is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())


def _prepare(sock: socket.socket) -> None:
    idle, interval, count = _KEEPALIVE
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, idle),
        (socket.TCP_KEEPINTVL, interval),
        (socket.TCP_KEEPCNT, count),
        (socket.TCP_USER_TIMEOUT, QUIET_DEATH * 1000),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _disconnect(sock: socket.socket) -> bool:
    """Resets a connection whoever else holds the socket: connect(2) to AF_UNSPEC, which Python cannot say."""
    nowhere = bytes(16)
    return bool(ctypes.CDLL(None).connect(sock.fileno(), nowhere, len(nowhere)) == 0)
