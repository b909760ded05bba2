"""What goes out: every datagram says what is held against its receiver, then passes on rumours."""

from itertools import islice

from mesh.swim.model import Rng, SwimConfig
from mesh.swim.roster import Member, Roster
from mesh.swim.rumours import Rumours, retransmit_limit
from mesh.swim.timers import Timers
from mesh.swim.transitions import Claim
from mesh.swim.wire import Kind, Message, Update, encode, room

FAREWELLS = 16
"""How many are told directly that we leave; they pass it on."""


class Post:
    """The outbox. Nobody gets rumours from a quiet node, and a quiet node gets only what is about itself."""

    def __init__(
        self, me: str, quiet: bool, config: SwimConfig, roster: Roster, timers: Timers, rng: Rng
    ) -> None:
        self.incarnation = 0
        self._timers = timers
        self.outbox: list[tuple[str, bytes]] = []
        self._me = me
        self._quiet = quiet
        self._config = config
        self._roster = roster
        self._rng = rng
        self._rumours = Rumours()

    def forget(self, member: str) -> None:
        """Passes on nothing more about a member."""
        self._rumours.forget(member)

    def spread(self, claim: Claim, member: Member, by: str, now: float) -> None:
        """Passes on what `by` says of a member, with what goes out anyway and by gossip from soon on."""
        self._spread(Update(claim, member.id, member.incarnation, by), now)

    def spread_myself(self, now: float) -> None:
        """That we are alive, in this incarnation."""
        self._spread(Update("alive", self._me, self.incarnation, self._me), now)

    def _spread(self, update: Update, now: float) -> None:
        if self._quiet:
            return
        self._rumours.add(update)
        if self._timers.get(("gossip",)) is None:
            self._timers.set(("gossip",), now + self._config.gossip_interval * self._rng.random())

    def gossip(self, now: float) -> None:
        """One round of gossip; the next is set while there is something to say and somebody to hear it."""
        targets = self._roster.gossip_targets() if self._rumours else []
        for id in targets:
            self.send("gossip", id, 0, id)
        if targets and self._rumours:
            self._timers.set(("gossip",), now + self._config.gossip_interval)

    def send(self, kind: Kind, to: str, sequence: int, subject: str) -> None:
        """Sends with rumours, first what is held against the receiver, so that it can object at once."""
        self._put(kind, to, sequence, subject, introduce=False)

    def introduce(self, kind: Kind, to: str, sequence: int, subject: str) -> None:
        """As `send`, to one we meet anew: with who else is alive."""
        self._put(kind, to, sequence, subject, introduce=True)

    def farewell(self) -> None:
        """Tells some members directly that we leave."""
        bye = (Update("left", self._me, self.incarnation, self._me),)
        here = [member.id for member in self._roster if member.here]
        for id in self._rng.sample(here, min(FAREWELLS, len(here))):
            self.outbox.append((id, encode(Message("gossip", 0, self.incarnation, id, bye))))

    def _put(self, kind: Kind, to: str, sequence: int, subject: str, *, introduce: bool) -> None:
        member = self._roster.get(to)
        if member is None:
            return
        updates = self._held_against(member)
        if member.here and not self._quiet and not member.quiet:  # sends to the dead would use rumours up
            limit = retransmit_limit(1 + len(self._roster), self._config.retransmit_floor)
            free = room(self._config.max_datagram)
            updates += self._rumours.take(free - len(updates), limit)
            if introduce:
                updates += self._introduction(to, updates, free - len(updates))
        self.outbox.append((to, encode(Message(kind, sequence, self.incarnation, subject, tuple(updates)))))

    def _held_against(self, member: Member) -> list[Update]:
        if self._quiet or member.state in ("unknown", "alive"):
            return []
        if member.state == "left":
            return [Update("left", member.id, member.incarnation, member.id)]
        return [Update("suspect", member.id, member.incarnation, self._me)]

    def _introduction(self, to: str, told: list[Update], count: int) -> list[Update]:
        """Up to *count* others that are alive, beginning with any of them."""
        named = {to, *(update.about for update in told)}
        alive = (m for m in self._roster.from_anywhere() if m.state == "alive" and m.id not in named)
        return [Update("alive", m.id, m.incarnation, m.id) for m in islice(alive, count)]
