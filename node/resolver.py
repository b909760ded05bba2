"""Where the DNS names of nodes lead now: looked up beside the agent's own thread, never waited for.

What was found stays until something else is found, so that a DNS that is dead costs nothing that worked before.
"""

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mesh.endpoints import BadEndpoint, Endpoint, NamedEndpoint, parse_endpoint

log = logging.getLogger(__name__)

EVERY_S = 300.0
"""A name is looked up again after this time: a provider may renew an address at any hour."""

URGENT_S = 30.0
"""And after this, while nobody is reached there."""

AT_ONCE = 4
"""Lookups under way. One can hang for half a minute, and cannot be ended."""

KNOWN = 256
"""Names that are remembered; of more, the ones that were not asked for longest are forgotten."""

ADDRESSES = 4
"""Of one name."""

ONCE_S = 5.0
_LOOK_S = 0.1

Lookup = Callable[[str], Sequence[str]]
Start = Callable[[Callable[[], None]], None]


def system_lookup(name: str) -> list[str]:
    """Its addresses, as this host's resolver has them. Blocks. Raises OSError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return list(dict.fromkeys(str(one[4][0]) for one in found))


def in_thread(work: Callable[[], None]) -> None:
    """A thread that the end of the agent does not wait for."""
    threading.Thread(target=work, name="dns", daemon=True).start()


@dataclass(slots=True)
class _Known:
    addresses: tuple[str, ...] = ()
    tried: float | None = None
    asked: float = 0.0
    under_way: bool = False


class Resolver:
    """`steady` is a clock in seconds that counts sleep; `start` runs the blocking part elsewhere."""

    def __init__(
        self, steady: Callable[[], float], lookup: Lookup = system_lookup, start: Start = in_thread
    ) -> None:
        self._steady = steady
        self._lookup = lookup
        self._start = start
        self._known: dict[str, _Known] = {}

    def endpoints(self, names: Iterable[NamedEndpoint], *, urgent: bool = False) -> list[Endpoint]:
        """What is known now; what is older than it should be is looked up for the next time. Never blocks.

        *urgent*: nobody is reached there.
        """
        found = []
        for one in names:
            known = self._known.setdefault(one.name, _Known())
            known.asked = now = self._steady()
            age = None if known.tried is None else now - known.tried
            if age is None or age >= (URGENT_S if urgent else EVERY_S):
                self._look_up(one.name, known)
            found += [endpoint for text in known.addresses if (endpoint := _endpoint(text, one.port))]
        self._forget()
        return found

    @property
    def busy(self) -> bool:
        """Whether an answer may still come."""
        return any(one.under_way for one in self._known.values())

    def _look_up(self, name: str, known: _Known) -> None:
        if known.under_way or sum(one.under_way for one in self._known.values()) >= AT_ONCE:
            return
        loop = asyncio.get_running_loop()
        known.under_way = True

        def work() -> None:
            found: Sequence[str] | Exception
            try:
                found = self._lookup(name)
            except (OSError, UnicodeError) as error:
                found = error
            try:
                loop.call_soon_threadsafe(self._came, name, known, found)
            except RuntimeError:
                log.debug("nobody waits for %s any more", name)  # the loop has ended

        self._start(work)

    def _came(self, name: str, known: _Known, found: Sequence[str] | Exception) -> None:
        known.under_way, known.tried = False, self._steady()
        if isinstance(found, Exception):
            log.info("%s could not be looked up: %s", name, found)
            return
        usable = tuple(text for text in found if _endpoint(text, 1))[:ADDRESSES]
        if usable and set(usable) != set(known.addresses):
            log.info("%s is at %s", name, ", ".join(usable))
            known.addresses = usable

    def _forget(self) -> None:
        idle = sorted((one for one in self._known if not self._known[one].under_way), key=self._asked)
        for name in idle[: max(0, len(self._known) - KNOWN)]:
            del self._known[name]

    def _asked(self, name: str) -> float:
        return self._known[name].asked


async def look_up_once(
    names: Iterable[NamedEndpoint], seconds: float = ONCE_S, lookup: Lookup = system_lookup
) -> list[Endpoint]:
    """What the names lead to, as far as that is known within *seconds*."""
    wanted = tuple(names)
    resolver = Resolver(asyncio.get_running_loop().time, lookup)
    waiting = asyncio.get_running_loop().time() + seconds
    found = resolver.endpoints(wanted)
    while wanted and not found and resolver.busy and asyncio.get_running_loop().time() < waiting:
        await asyncio.sleep(_LOOK_S)
        found = resolver.endpoints(wanted)
    return found


def _endpoint(text: str, port: int) -> Endpoint | None:
    """None for what nobody can dial: a name may lead anywhere, also to this host itself."""
    try:
        endpoint = parse_endpoint(text, port)
    except BadEndpoint:
        return None
    return None if endpoint.link_local else endpoint
