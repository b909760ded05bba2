"""The network between simulated nodes: delay, loss, copies, cuts; and the tunnels through it.

A tunnel is as WireGuard's paper and its kernel module have it (Donenfeld 2017; drivers/net/wireguard/messages.h): the
first packet waits for a handshake of two messages, which is tried again after 5 s and up to 0.333 s more, for 90 s; a
session is renewed by whoever sends after 120 s and refused after 180 s; who received something and sent nothing for
10 s sends an empty packet. There is no persistent keepalive: that is for hosts behind NAT, and costs 2.4 bytes a
second and peer.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

OUTER = 28
"""Bytes of IPv4 and UDP headers around a packet of the tunnel."""

INNER = 48
"""Bytes of IPv6 and UDP headers around a datagram in it."""

INITIATION, RESPONSE, KEEPALIVE = 148, 92, 32
REKEY_AFTER, REJECT_AFTER, REKEY_TIMEOUT, REKEY_ATTEMPTS, PASSIVE = 120.0, 180.0, 5.0, 90.0, 10.0
STAGED = 128
"""Packets that wait for one handshake; a later one pushes out the first."""

Later = Callable[[float, Callable[[], None]], None]


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens to each packet: `delay` between two bounds, in seconds; shares of them lost and delivered twice."""

    loss: float = 0.0
    duplicated: float = 0.0
    delay: tuple[float, float] = (0.005, 0.06)
    tunnels: bool = True


@dataclass(slots=True)
class _Tunnel:
    """One pair of nodes. `since`: when its session began; `trying`: until when each side tries to begin one."""

    since: float = float("-inf")
    trying: dict[str, float] = field(default_factory=dict)
    staged: list[tuple[str, Callable[[float], None]]] = field(default_factory=list)


class Wires:
    """Carries datagrams. `later` is called with a time and what is to happen then; `running` says who is there."""

    def __init__(
        self, rng: random.Random, weather: Weather, later: Later, running: Callable[[str], bool]
    ) -> None:
        self.weather = weather
        self.datagrams = 0
        self.handshakes = 0
        self.bytes: Counter[str] = Counter()
        self._rng = rng
        self._later = later
        self._running = running
        self._cut: set[tuple[str, str]] = set()
        self._tunnels: dict[tuple[str, str], _Tunnel] = {}
        self._unanswered: dict[tuple[str, str], float] = {}

    @property
    def total(self) -> int:
        """Bytes that all nodes have sent, with every header."""
        return sum(self.bytes.values())

    def cut(self, some: Iterable[str], others: Iterable[str], *, one_way: bool = False) -> None:
        """Nothing passes between the two groups; or from the first to the second only."""
        others = list(others)
        for one in some:
            for other in others:
                self._cut.add((one, other))
                if not one_way:
                    self._cut.add((other, one))

    def heal(self) -> None:
        """All passes again."""
        self._cut.clear()

    def reset(self, node: str) -> None:
        """The node lost power: it has no session any more, and the others do not know that yet."""
        for pair in [pair for pair in self._tunnels if node in pair]:
            del self._tunnels[pair]
        for pair in [pair for pair in self._unanswered if node in pair]:
            del self._unanswered[pair]

    def send(self, sender: str, to: str, size: int, now: float, arrive: Callable[[float], None]) -> None:
        """A datagram of *size* bytes; *arrive* is called with the time of each arrival, before it has come."""
        self.datagrams += 1
        if not self.weather.tunnels:
            self.bytes[sender] += size + INNER
            self._pass_on(sender, to, now, arrive)
            return
        self._answer_counts(sender, to, now)
        tunnel = self._tunnel(sender, to)
        if now - tunnel.since < REJECT_AFTER:
            if now - tunnel.since > REKEY_AFTER:
                self._begin(tunnel, sender, to, now)
            self._leave(sender, to, size, now, arrive)
            return
        tunnel.staged.append((sender, lambda at: self._leave(sender, to, size, at, arrive)))
        del tunnel.staged[:-STAGED]
        self._begin(tunnel, sender, to, now)

    def _leave(self, sender: str, to: str, size: int, now: float, arrive: Callable[[float], None]) -> None:
        padded = -(-(size + INNER) // 16) * 16
        self.bytes[sender] += padded + KEEPALIVE + OUTER

        def arrived(at: float) -> None:
            self._unanswered.setdefault((to, sender), at)
            arrive(at)

        self._pass_on(sender, to, now, arrived)

    def _pass_on(self, sender: str, to: str, now: float, arrive: Callable[[float], None]) -> None:
        if not self._passes(sender, to):
            return
        arrive(now + self._rng.uniform(*self.weather.delay))
        if self.weather.duplicated and self._rng.random() < self.weather.duplicated:
            arrive(now + self._rng.uniform(*self.weather.delay))

    def _passes(self, sender: str, to: str) -> bool:
        """Whether one packet gets through; one die is cast for each, cut or not."""
        lost = self._rng.random() < self.weather.loss
        return not lost and (sender, to) not in self._cut

    def _answer_counts(self, sender: str, to: str, now: float) -> None:
        """Had it kept silent for longer than 10 s after something came, the tunnel itself answered then."""
        since = self._unanswered.pop((sender, to), None)
        if since is not None and now - since > PASSIVE:
            self.bytes[sender] += KEEPALIVE + OUTER

    def _tunnel(self, one: str, other: str) -> _Tunnel:
        key = (one, other) if one < other else (other, one)
        tunnel = self._tunnels.get(key)
        if tunnel is None:
            tunnel = self._tunnels[key] = _Tunnel()
        return tunnel

    def _begin(self, tunnel: _Tunnel, sender: str, to: str, now: float) -> None:
        if sender not in tunnel.trying:
            tunnel.trying[sender] = now + REKEY_ATTEMPTS
            self._attempt(tunnel, sender, to, now)

    def _attempt(self, tunnel: _Tunnel, sender: str, to: str, now: float) -> None:
        if sender not in tunnel.trying or self._tunnel(sender, to) is not tunnel or not self._running(sender):
            return
        self.handshakes += 1
        self.bytes[sender] += INITIATION + OUTER
        there = self._running(to) and self._passes(sender, to)
        if there:
            self.bytes[to] += RESPONSE + OUTER
        if there and self._passes(to, sender):
            low, high = self.weather.delay
            at = now + self._rng.uniform(2 * low, 2 * high)
            self._later(at, lambda: self._done(tunnel, sender, to, at))
            return
        again = now + REKEY_TIMEOUT + self._rng.random() / 3
        if again <= tunnel.trying[sender]:
            self._later(again, lambda: self._attempt(tunnel, sender, to, again))
        else:
            tunnel.staged = [entry for entry in tunnel.staged if entry[0] != sender]
            del tunnel.trying[sender]

    def _done(self, tunnel: _Tunnel, one: str, other: str, now: float) -> None:
        if self._tunnel(one, other) is not tunnel:
            return
        tunnel.since = now
        tunnel.trying.clear()
        staged, tunnel.staged = tunnel.staged, []
        for waiting, leave in staged:
            if self._running(waiting):
                leave(now)
