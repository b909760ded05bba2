"""A mesh of membership cores on simulated wires, and what is done to it: kills, cuts, stalls, joins, evictions."""

import base64
import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from mesh.simulation.wires import Weather, Wires
from mesh.swim import Event, Peer, Swim, SwimConfig
from mesh.swim.model import State

__all__ = ["Seen", "Weather", "World", "node_id"]

Entry = tuple[float, int, str, str, bytes | Callable[[], None] | None]


def node_id(number: int) -> str:
    """A node id as the mesh writes them, the same for the same number."""
    digest = hashlib.blake2b(b"node %d" % number, digest_size=10).digest()
    return base64.b32encode(digest).decode().lower()


@dataclass(frozen=True, slots=True)
class Seen:
    """An event, and who noticed."""

    at: float
    observer: str
    event: Event


@dataclass
class World:
    """`nodes` cores, all admitted to each other; the last `vaults` of them quiet. Times in seconds.

    `seen` has every event if they are to be remembered; of a thousand nodes they are a million. `trace` has all that
    happened: two runs are the same if it is.
    """

    nodes: int
    seed: int = 1
    weather: Weather = field(default_factory=Weather)
    vaults: int = 0
    config: SwimConfig = field(default_factory=SwimConfig)
    remember: bool = True

    def __post_init__(self) -> None:
        self.now = 0.0
        self.rng = random.Random(self.seed)
        self.ids = [node_id(n) for n in range(self.nodes)]
        self.peers = {id: Peer(quiet=n >= self.nodes - self.vaults) for n, id in enumerate(self.ids)}
        self.cores: dict[str, Swim] = {}
        self.seen: list[Seen] = []
        self.events = 0
        self.watchers: list[Callable[[Seen], None]] = []
        self.trace = hashlib.sha256()
        self.wires = Wires(self.rng, self.weather, self.later, lambda id: id in self.cores)
        self._held: dict[str, Counter[State]] = {id: Counter() for id in self.ids}
        self._stalled: dict[str, float] = {}
        self._due: dict[str, float] = {}
        self._queue: list[Entry] = []
        self._count = 0
        for id in self.ids:
            self.boot(id)

    # What happens to it

    def boot(self, id: str, incarnation: int = 0) -> None:
        """Starts a node, new or again, without memory."""
        rng = random.Random(f"{self.seed} {id} {self.now}")
        core = Swim(id, rng, self.config, self.peers[id].quiet, incarnation)
        self.cores[id] = core
        for other in self.peers:
            if other != id:
                self._held[other]["unknown"] += 1
        core.set_members(self.peers, self.now)
        self._drain(id)

    def kill(self, *ids: str) -> None:
        """Without a word."""
        for id in ids:
            core = self.cores.pop(id)
            self._due.pop(id, None)
            self.wires.reset(id)
            for member, held in core.states().items():
                self._held[member][held.state] -= 1

    def leave(self, id: str) -> None:
        """With a good-bye."""
        self.cores[id].leave(self.now)
        self._drain(id)
        self.kill(id)

    def join(self, id: str) -> None:
        """A node that was not admitted before: all learn of it at once, as by the exchange of trust."""
        self.peers[id] = Peer()
        self.ids.append(id)
        self._held[id] = Counter()
        self._admit(id)
        self.boot(id)

    def _admit(self, id: str) -> None:
        for other, core in self.cores.items():
            self._held[id]["unknown"] += 1
            core.set_members(self.peers, self.now)
            self._drain(other)

    def evict(self, id: str) -> None:
        """Its tombstone has reached all: nobody knows it any more, though it runs on."""
        del self.peers[id]
        self.ids.remove(id)
        outcast = self.cores.get(id)
        if outcast is not None:
            self.kill(id)
        del self._held[id]
        for other, core in self.cores.items():
            core.set_members(self.peers, self.now)
            self._drain(other)

    def cut(self, some: Iterable[str], others: Iterable[str], *, one_way: bool = False) -> None:
        """Nothing passes between the two groups, or not from the first to the second."""
        self.wires.cut(some, others, one_way=one_way)

    def heal(self) -> None:
        """All passes again."""
        self.wires.heal()

    def stall(self, id: str, seconds: float) -> None:
        """Its agent neither reads nor sends for so long; what arrives waits for it."""
        self._stalled[id] = self.now + seconds

    def stalled(self, id: str) -> bool:
        """Whether it is so now."""
        return self._stalled.get(id, 0.0) > self.now

    # What is asked of it

    def run(self, seconds: float) -> None:
        """Lets that much time pass."""
        self.run_until(lambda: False, seconds)

    def run_until(self, done: Callable[[], bool], limit: float) -> float:
        """Until `done` (asked after each event), at most `limit` seconds; returns how long it took."""
        began, asked = self.now, -1
        while True:
            if self.events != asked:
                asked = self.events
                if done():
                    break
            if not self._queue or self._queue[0][0] > began + limit:
                self.now = began + limit
                break
            self._step()
        return self.now - began

    def views(self, of: str) -> set[State]:
        """How the running others hold this node."""
        return {state for state, count in self._held[of].items() if count}

    def count(self, of: str, state: State) -> int:
        """How many running others hold this node so."""
        return self._held[of][state]

    def all_see_all(self) -> bool:
        """Whether every running node holds every running node alive."""
        return all(self._held[id]["alive"] >= len(self.cores) - 1 for id in self.cores)

    def downs(self) -> list[Seen]:
        """Who was concluded to be down, by whom, when."""
        return [seen for seen in self.seen if seen.event.kind == "down"]

    def names(self) -> Iterator[str]:
        """The running nodes, in the order of their numbers."""
        return (id for id in self.ids if id in self.cores)

    # How it runs

    def later(self, at: float, then: Callable[[], None]) -> None:
        """Something that happens at that time."""
        self._push(at, "", "", then)

    def _step(self) -> None:
        at, _, to, sender, what = heapq.heappop(self._queue)
        self.now = at
        if callable(what):
            what()
            return
        asleep_until = self._stalled.get(to, 0.0)
        if at < asleep_until:
            # datagrams are read before timers fire, as the shell does
            self._push(asleep_until + (1e-6 if what is None else 0.0), to, sender, what)
            return
        core = self.cores.get(to)
        if core is None:
            return
        if what is None:
            self._due.pop(to, None)
            deadline = core.next_deadline()
            if deadline is None:
                return
            if deadline <= at:
                core.tick(at)
        else:
            self.trace.update(f"{at!r} {sender}>{to} ".encode() + what)
            core.receive(what, sender, at)
        self._drain(to)

    def _drain(self, id: str) -> None:
        core = self.cores[id]
        for to, datagram in core.outputs():
            self.wires.send(id, to, len(datagram), self.now, self._arrival(to, id, datagram))
        for event in core.events():
            self._note(Seen(self.now, id, event))
        deadline = core.next_deadline()
        if deadline is not None and deadline < self._due.get(id, float("inf")):
            self._due[id] = deadline
            self._push(max(deadline, self.now), id, "", None)

    def _arrival(self, to: str, sender: str, datagram: bytes) -> Callable[[float], None]:
        return lambda at: self._push(at, to, sender, datagram)

    def _note(self, seen: Seen) -> None:
        held, event = self._held[seen.event.member], seen.event
        held[event.before] -= 1
        held[_STATE[event.kind]] += 1
        self.events += 1
        if self.remember:
            self.seen.append(seen)
        self.trace.update(f"{self.now!r} {seen.observer} {event}".encode())
        for watch in self.watchers:
            watch(seen)

    def _push(self, at: float, to: str, sender: str, what: bytes | Callable[[], None] | None) -> None:
        self._count += 1
        heapq.heappush(self._queue, (at, self._count, to, sender, what))


_STATE: dict[str, State] = {"alive": "alive", "suspected": "suspect", "down": "down", "left": "left"}
