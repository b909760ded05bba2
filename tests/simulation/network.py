"""A seeded virtual network and clock under many membership cores: loss, delay, cuts, kills, stalls."""

import base64
import hashlib
import heapq
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mesh.swim import Event, Peer, Swim, SwimConfig


def node_id(number: int) -> str:
    """A node id as the mesh writes them, the same for the same number."""
    digest = hashlib.blake2b(b"node %d" % number, digest_size=10).digest()
    return base64.b32encode(digest).decode().lower()


@dataclass
class Seen:
    """An event, and who noticed."""

    at: float
    observer: str
    event: Event


@dataclass
class World:
    """`nodes` cores, all admitted to each other; the last `vaults` of them quiet. Delays in seconds."""

    nodes: int
    seed: int = 1
    loss: float = 0.0
    delay: tuple[float, float] = (0.005, 0.06)
    vaults: int = 0
    config: SwimConfig = field(default_factory=SwimConfig)

    def __post_init__(self) -> None:
        self.now = 0.0
        self.rng = random.Random(self.seed)
        self.ids = [node_id(n) for n in range(self.nodes)]
        self.peers = {id: Peer(quiet=n >= self.nodes - self.vaults) for n, id in enumerate(self.ids)}
        self.cores: dict[str, Swim] = {}
        self.seen: list[Seen] = []
        self.trace = hashlib.sha256()
        self.datagrams = self.bytes = 0
        self._cut: set[frozenset[str]] = set()
        self._stalled: dict[str, float] = {}
        self._queue: list[tuple[float, int, str, str, bytes | None]] = []
        self._count = 0
        for id in self.ids:
            self.boot(id)

    # What happens to it

    def boot(self, id: str, incarnation: int = 0) -> None:
        """Starts a node, new or again, without memory."""
        rng = random.Random(f"{self.seed} {id} {self.now}")
        core = Swim(id, rng, self.config, self.peers[id].quiet, incarnation)
        self.cores[id] = core
        core.set_members(self.peers, self.now)
        self._drain(id)

    def kill(self, *ids: str) -> None:
        """Without a word."""
        for id in ids:
            del self.cores[id]

    def leave(self, id: str) -> None:
        """With a good-bye."""
        self.cores[id].leave(self.now)
        self._drain(id)
        del self.cores[id]

    def cut(self, some: Iterable[str], others: Iterable[str]) -> None:
        """No datagram passes between the two groups."""
        others = list(others)
        self._cut |= {frozenset((a, b)) for a in some for b in others}

    def heal(self) -> None:
        """All pass again."""
        self._cut.clear()

    def stall(self, id: str, seconds: float) -> None:
        """The host sleeps: it neither reads nor sends, and what arrives waits for it."""
        self._stalled[id] = self.now + seconds

    # What is asked of it

    def run(self, seconds: float) -> None:
        """Lets that much time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], limit: float) -> float:
        """Until `done` (asked after each event), at most `limit` seconds; returns how long it took."""
        began, asked = self.now, -1
        while True:
            if len(self.seen) != asked:
                asked = len(self.seen)
                if done():
                    break
            if not self._queue or self._queue[0][0] > began + limit:
                self.now = began + limit
                break
            self._step()
        return self.now - began

    def views(self, of: str) -> set[str]:
        """How the others hold this node."""
        return {core.states()[of].state for id, core in self.cores.items() if id != of}

    def all_see_all(self) -> bool:
        """Whether every running node holds every running node alive."""
        return all(self.views(id) == {"alive"} for id in self.cores)

    def downs(self) -> list[Seen]:
        """Who was concluded to be down, by whom, when."""
        return [seen for seen in self.seen if seen.event.kind == "down"]

    # How it runs

    def _step(self) -> None:
        at, _, to, sender, datagram = heapq.heappop(self._queue)
        self.now = at
        asleep_until = self._stalled.get(to, 0.0)
        if at < asleep_until:
            # datagrams are read before timers fire, as the shell does
            self._push(asleep_until + (1e-6 if datagram is None else 0.0), to, sender, datagram)
            return
        core = self.cores.get(to)
        if core is None:
            return
        if datagram is None:
            deadline = core.next_deadline()
            if deadline is None or deadline > at:
                return
            core.tick(at)
        else:
            self.trace.update(f"{at!r} {sender}>{to} ".encode() + datagram)
            core.receive(datagram, sender, at)
        self._drain(to)

    def _drain(self, id: str) -> None:
        core = self.cores[id]
        for to, datagram in core.outputs():
            self.datagrams += 1
            self.bytes += len(datagram) + 48  # IPv6 and UDP
            if self.rng.random() >= self.loss and frozenset((id, to)) not in self._cut:
                self._push(self.now + self.rng.uniform(*self.delay), to, id, datagram)
        for event in core.events():
            self.seen.append(Seen(self.now, id, event))
            self.trace.update(f"{self.now!r} {id} {event}".encode())
        deadline = core.next_deadline()
        if deadline is not None:
            self._push(max(deadline, self.now), id, "", None)

    def _push(self, at: float, to: str, sender: str, datagram: bytes | None) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, to, sender, datagram))
