"""The shell around the membership core: one UDP socket, one timer. No protocol here."""

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping

from mesh.channel import bind_device
from mesh.ports import MESH
from mesh.swim import Event, MemberState, Peer, Swim

log = logging.getLogger(__name__)

_AT_ONCE = 256
_LARGEST = 2048


class Gossip:
    """Runs a core on the mesh address. Datagrams from another port than ours or from strangers are dropped.

    `node_at` gives the node behind a source address (None: a stranger), `address_of` the reverse (None: no
    way to it now). `on_event` is called from the event loop, after what the event made us send has left.
    """

    def __init__(
        self,
        core: Swim,
        bind: tuple[str, int] | str,
        *,
        node_at: Callable[[str], str | None],
        address_of: Callable[[str], str | None],
        on_event: Callable[[Event], None],
        device: str | None = None,
    ) -> None:
        """`bind` is our mesh address, with a port where it is not the usual one. Raises OSError."""
        self._core = core
        self._node_at = node_at
        self._address_of = address_of
        self._on_event = on_event
        self._socket = _bound(*((bind, MESH) if isinstance(bind, str) else bind), device)
        self._timer: asyncio.TimerHandle | None = None
        self.dropped = 0
        self.unsent = 0

    @property
    def port(self) -> int:
        """Ours, and everybody's."""
        return int(self._socket.getsockname()[1])

    def set_members(self, members: Mapping[str, Peer]) -> None:
        """Tells the core whom trust admits now."""
        self._core.set_members(members, asyncio.get_running_loop().time())
        self._drain()

    def states(self) -> dict[str, MemberState]:
        """The core's view; times are of the event loop's clock."""
        return self._core.states()

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._readable)
        try:
            self._drain()
            await loop.create_future()
        finally:
            loop.remove_reader(self._socket.fileno())
            if self._timer is not None:
                self._timer.cancel()
            self._socket.close()

    def leave(self) -> None:
        """Says good-bye; to be called before `run` is cancelled."""
        self._core.leave(asyncio.get_running_loop().time())
        self._drain()

    def _readable(self) -> None:
        now = asyncio.get_running_loop().time()
        for _ in range(_AT_ONCE):
            try:
                datagram, (address, port, *_) = self._socket.recvfrom(_LARGEST)
            except BlockingIOError:
                break
            except OSError as error:
                log.debug("receiving: %s", error)
                break
            sender = self._node_at(address) if port == self.port else None
            if sender is None:
                self.dropped += 1
            else:
                self._core.receive(datagram, sender, now)
        self._drain()

    def _tick(self) -> None:
        self._core.tick(asyncio.get_running_loop().time())
        self._drain()

    def _drain(self) -> None:
        for peer, datagram in self._core.outputs():
            self._send(peer, datagram)
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._core.next_deadline()
        loop = asyncio.get_running_loop()
        self._timer = None if deadline is None else loop.call_at(deadline, self._tick)
        for event in self._core.events():
            self._on_event(event)

    def _send(self, peer: str, datagram: bytes) -> None:
        address = self._address_of(peer)
        try:
            if address is not None:
                self._socket.sendto(datagram, (address, self.port))
                return
        except OSError as error:  # no tunnel, no route, a full queue: to the core it is loss like any other
            log.debug("to %s: %s", peer, error)
        self.unsent += 1


def _bound(address: str, port: int, device: str | None) -> socket.socket:
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        bind_device(sock, device)
        sock.bind((address, port))
    except BaseException:
        sock.close()
        raise
    return sock
