"""The members as the core holds them, our suspicions of them, and the round in which they are probed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice

from mesh.swim.model import MemberState, Peer, Rng, State, SwimConfig, Via


@dataclass(slots=True)
class Suspicion:
    """Lifeguard's: the more others suspect independently, the sooner it runs out."""

    since: float
    shortest: float
    longest: float
    wanted: int
    voices: list[str] = field(default_factory=list)

    def confirm(self, by: str) -> bool:
        """Whether this voice is new: the one that begins it, or one of the first `wanted` beyond that."""
        if by in self.voices or len(self.voices) > self.wanted:
            return False
        self.voices.append(by)
        return True

    @property
    def ends(self) -> float:
        """When it runs out: max(Min, Max - (Max - Min) * ln(C + 1) / ln(K + 1))."""
        if not self.wanted:
            return self.since + self.shortest
        confirmed = max(0, len(self.voices) - 1)
        share = math.log(confirmed + 1) / math.log(self.wanted + 1)
        return self.since + max(self.shortest, self.longest - (self.longest - self.shortest) * share)


@dataclass(slots=True)
class Member:
    """One other node. Only the core changes it."""

    id: str
    quiet: bool
    since: float
    state: State = "unknown"
    incarnation: int = 0
    via: Via | None = None
    rtt: float | None = None
    suspicion: Suspicion | None = None
    redial_delay: float = 0.0
    asked_at: float = -math.inf

    @property
    def here(self) -> bool:
        """Whether it takes part: alive, or suspected of not being."""
        return self.state in ("alive", "suspect")

    def measured(self, rtt: float) -> None:
        """Smooths a round trip in (RFC 6298's 1/8)."""
        self.rtt = rtt if self.rtt is None else self.rtt + (rtt - self.rtt) / 8

    def view(self) -> MemberState:
        """The frozen form for outside."""
        return MemberState(self.state, self.since, self.incarnation, self.via, self.rtt)


class Roster:
    """All members, and a shuffled ring: each is probed once a round, which bounds the detection time."""

    def __init__(self, config: SwimConfig, rng: Rng) -> None:
        self._config = config
        self._rng = rng
        self._members: dict[str, Member] = {}
        self._ring: list[str] = []
        self._order: list[str] = []

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def from_anywhere(self) -> Iterator[Member]:
        """All of them once, beginning with any."""
        start = int(self._rng.random() * len(self._order))
        for id in chain(islice(self._order, start, None), islice(self._order, start)):
            yield self._members[id]

    def get(self, member: str) -> Member | None:
        """The member of this id."""
        return self._members.get(member)

    def update(self, wanted: Mapping[str, Peer], now: float) -> tuple[list[Member], list[str]]:
        """Takes in and drops members; returns the new ones and the ids of the gone ones, in a fixed order."""
        gone = [member for member in self._members if member not in wanted]
        for member in gone:
            del self._members[member]
        new = []
        for id, peer in sorted(wanted.items()):
            known = self._members.get(id)
            if known is None:
                new.append(Member(id, peer.quiet, now))
                self._members[id] = new[-1]
            else:
                known.quiet = peer.quiet
        if new or gone:
            self._order = list(self._members)
        return new, gone

    def next_target(self) -> Member | None:
        """The next alive or suspected member of the round."""
        for _ in range(2):
            while self._ring:
                member = self._members.get(self._ring.pop())
                if member is not None and member.here:
                    return member
            self._ring = [member.id for member in self if member.here]
            self._rng.shuffle(self._ring)
        return None

    def helpers(self, target: str) -> list[str]:
        """Whom to ask to probe `target` for us."""
        able = [m.id for m in self if m.state == "alive" and not m.quiet and m.id != target]
        return self._rng.sample(able, min(self._config.helpers, len(able)))

    def gossip_targets(self) -> list[str]:
        """Whom to tell the news: never a quiet one, which learns only what is about itself."""
        able = [m.id for m in self if m.here and not m.quiet]
        return self._rng.sample(able, min(self._config.gossip_fanout, len(able)))

    def suspicion(self, about: Member, now: float) -> Suspicion:
        """A new one. Without enough others to confirm it, it runs the shortest time (as in memberlist)."""
        config = self._config
        present = 1 + sum(m.here for m in self)
        witnesses = sum(m.here and not m.quiet and m.id != about.id for m in self)
        shortest = config.suspicion_min * max(1.0, math.log10(present)) * config.period
        wanted = config.confirmations if witnesses >= config.confirmations else 0
        return Suspicion(now, shortest, shortest * config.suspicion_max, wanted)
