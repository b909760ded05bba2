"""SWIM with Lifeguard's refinements as a sans-IO core: datagrams and time in, datagrams and events out.

Who is a member is told from outside (`set_members`); the core never invents one. Only a node says of itself
that it is alive or leaving, others may say suspect, and down is everyone's own conclusion, never sent. Who is
down is redialled forever, so partitions heal without a seed. A quiet core (a vault) only answers.
"""

from collections import Counter
from collections.abc import Mapping

from mesh.swim.model import Event, EventKind, MemberState, Peer, Rng, State, SwimConfig, Via
from mesh.swim.post import Post
from mesh.swim.probing import Prober
from mesh.swim.roster import Member, Roster
from mesh.swim.timers import Name, Timers
from mesh.swim.transitions import Evidence, after, age
from mesh.swim.wire import MAX_INCARNATION, Message, Update, WireError, decode

_EVENT: dict[State, EventKind] = {"alive": "alive", "suspect": "suspected", "down": "down", "left": "left"}
_FIRST_DIALS_PER_SECOND = 20


class Swim:
    """One node's view of the mesh.

    Feed `receive` and `tick` with a monotonic `now` (seconds), then drain `outputs` and `events`; call `tick`
    again at `next_deadline`. Each run of a node should begin with a higher `incarnation` than its last one
    ended with (seconds since the epoch will do): what is remembered of that must not count against it.
    """

    def __init__(
        self,
        me: str,
        rng: Rng,
        config: SwimConfig | None = None,
        quiet: bool = False,
        incarnation: int = 0,
    ) -> None:
        self.me = me
        self.quiet = quiet
        self.dropped: Counter[str] = Counter()
        self._config = config or SwimConfig()
        self._rng = rng
        self._roster = Roster(self._config, rng)
        self._timers = Timers()
        self._post = Post(me, quiet, self._config, self._roster, self._timers, rng)
        self._post.incarnation = incarnation
        self._prober = Prober(self._config, rng, self._timers, self._post.send)
        self._events: list[Event] = []
        self._started = self._left = False

    # Outside

    def set_members(self, members: Mapping[str, Peer], now: float) -> None:
        """The admitted, active nodes, by trust. New ones are dialled, missing ones forgotten silently."""
        others = {id: peer for id, peer in members.items() if id != self.me}
        new, gone = self._roster.update(others, now)
        for id in gone:
            self._prober.forget(id)
            self._post.forget(id)
            for name in ("suspicion", "nudge", "redial", "silence"):
                self._timers.cancel((name, id))
        if self.quiet or self._left:
            return
        for member in new:
            delay = self._rng.random() * len(new) / _FIRST_DIALS_PER_SECOND
            self._timers.set(("redial", member.id), now + delay)
        if not self._started:
            self._started = True
            self._timers.set(("round",), now + self._rng.random() * self._config.period)
            self._post.spread_myself(now)

    def receive(self, datagram: bytes, sender: str, now: float) -> None:
        """A datagram from this member. What is malformed or from a stranger is dropped and counted."""
        if self._left:
            return
        member = self._roster.get(sender)
        if member is None:
            self.dropped["stranger"] += 1
            return
        try:
            message = decode(datagram)
        except WireError:
            self.dropped["malformed"] += 1
            return
        fresh = member.state in ("unknown", "down")
        self._heard(member, message, now)
        if not member.quiet:  # nobody is witness for others who is not trusted to be
            for update in message.updates:
                self._rumour(update, now)
        self._answer(message, member, fresh and member.state == "alive", now)

    def tick(self, now: float) -> None:
        """Does what is due. Much too late, it blames itself and not the members."""
        due = self.next_deadline()
        if due is None:
            return
        if now - due > 2 * self._config.period:
            self._woke(now)
        for name in self._timers.due(now):
            self._fire(name, now)

    def outputs(self) -> list[tuple[str, bytes]]:
        """What is to be sent, to whom; each is handed out once."""
        out, self._post.outbox = self._post.outbox, []
        return out

    def events(self) -> list[Event]:
        """What changed, in order; each is handed out once."""
        out, self._events = self._events, []
        return out

    def next_deadline(self) -> float | None:
        """When `tick` is due."""
        return None if self._left else self._timers.next()

    def states(self) -> dict[str, MemberState]:
        """What is held of each member."""
        return {member.id: member.view() for member in self._roster}

    @property
    def incarnation(self) -> int:
        """Ours; it rises when somebody suspects us."""
        return self._post.incarnation

    @property
    def health(self) -> int:
        """0 when all is well here; up to `health_max` when it seems that it is we who do not hear."""
        return self._prober.health.score

    def leave(self, now: float) -> None:
        """Says good-bye. Send `outputs` once more; after that the core is silent and deaf."""
        if self._left:
            return
        self._post.farewell()
        self._left = True

    # What a message tells

    def _heard(self, member: Member, message: Message, now: float) -> None:
        if self.quiet:  # it never probes, so being heard is all it can go by
            self._listen(member, now)
            self._apply(member, "answered", now, "heard from it", "direct")
            if member.state == "left" and message.kind == "ping":  # who left pings no more: it came back
                self._apply(member, ("alive", "newer"), now, "heard from it again", "direct")
        else:
            self._apply(member, "heard", now, "heard from it", "direct")
            if member.state == "down":
                self._redial_soon(member, now)
        leaving = any(u.claim == "left" and u.about == u.by == member.id for u in message.updates)
        if not leaving:
            self._claim(member, "alive", message.incarnation, now, "direct")
        elif member.quiet or self.quiet:
            self._apply(member, ("left", age(message.incarnation, member.incarnation)), now, "says good-bye")

    def _listen(self, member: Member, now: float) -> None:
        silence = max(self._config.quiet_silence, 6 * len(self._roster) * self._config.period)
        self._timers.set(("silence", member.id), now + silence)

    def _rumour(self, update: Update, now: float) -> None:
        if (update.claim == "suspect") == (update.by == update.about):
            return None
        if update.claim == "suspect" and update.incarnation > MAX_INCARNATION:
            return None
        if update.about == self.me:
            return self._about_me(update, now)
        member = self._roster.get(update.about)
        if member is None or self.quiet:
            return None
        if update.claim == "suspect":
            self._suspected(member, update, now)
        else:
            self._claim(member, update.claim, update.incarnation, now, "indirect")
        return None

    def _about_me(self, update: Update, now: float) -> None:
        stale = update.incarnation < self.incarnation
        ours = update.claim == "alive" and update.incarnation == self.incarnation
        if stale or ours:
            return
        if update.claim == "suspect":
            self._prober.health.change(+1)
        self._post.incarnation = min(update.incarnation, MAX_INCARNATION) + 1
        self._post.spread_myself(now)

    def _claim(self, member: Member, claim: str, incarnation: int, now: float, via: Via) -> None:
        """The member says of itself, through whomever, that it is alive or leaving."""
        relation = age(incarnation, member.incarnation)
        if relation == "older":
            return
        member.incarnation = incarnation
        if claim == "left":
            self._apply(member, ("left", relation), now, "said good-bye")
            return
        changed = self._apply(member, ("alive", relation), now, "says it is alive", via)
        if relation == "newer" and not changed and member.state == "alive":
            self._post.spread("alive", member, member.id, now)
        elif member.state == "down" and not self.quiet:
            self._redial_soon(member, now)  # a rumour of life is no proof, but a reason to ask

    def _suspected(self, member: Member, update: Update, now: float) -> None:
        relation = age(update.incarnation, member.incarnation)
        if relation == "older" or not member.here or not self._is_witness(update.by):
            return
        member.incarnation = update.incarnation
        if member.state == "suspect" and relation == "newer":  # it was well in between
            self._suspect(member, now)
        if self._apply(member, ("suspect", relation), now, f"suspected by {update.by}"):
            self._verify(member, now)
        self._confirm(member, update.by, now)

    def _verify(self, member: Member, now: float) -> None:
        """A few of those who hear of a suspicion look for themselves: it is confirmed or refuted the sooner."""
        if self._rng.random() * len(self._roster) < self._config.verifiers:
            self._timers.set(("nudge", member.id), now)

    def _is_witness(self, id: str) -> bool:
        member = self._roster.get(id)
        return id == self.me or (member is not None and not member.quiet)

    def _suspect(self, member: Member, now: float) -> None:
        member.suspicion = self._roster.suspicion(member, now)
        self._timers.set(("suspicion", member.id), member.suspicion.ends)

    def _confirm(self, member: Member, by: str, now: float) -> None:
        if member.suspicion is not None and member.suspicion.confirm(by):
            self._timers.set(("suspicion", member.id), max(now, member.suspicion.ends))
            self._post.spread("suspect", member, by, now)

    def _answer(self, message: Message, sender: Member, introduce: bool, now: float) -> None:
        match message.kind:
            case "ping":
                send = self._post.introduce if introduce else self._post.send
                send("ack", sender.id, message.sequence, sender.id)
            case "ack":
                answer = self._prober.ack(message, sender.id, now)
                if answer is not None:
                    self._answered(answer.target, answer.via, answer.rtt, now)
            case "nack":
                self._prober.nack(message, sender.id)
            case "ping-req":
                target = self._roster.get(message.subject)
                if target is not None and not self.quiet and not sender.quiet:
                    self._prober.help(message, sender.id, target, now)
            case "gossip":
                pass

    def _answered(self, target: str, via: Via, rtt: float | None, now: float) -> None:
        member = self._roster.get(target)
        if member is None:
            return
        if rtt is not None:
            member.measured(rtt)
        self._apply(member, "answered", now, "answered a probe", via)
        if member.state == "alive":
            member.via = via

    # What time tells

    def _fire(self, name: Name, now: float) -> None:
        match name:
            case ("round",):
                target = self._roster.next_target()
                if target is not None:
                    self._prober.start(target, "round", now)
                self._timers.set(name, now + self._prober.interval())
            case ("gossip",):
                self._post.gossip(now)
            case ("again", sequence):
                self._prober.again(int(sequence), self._roster)
            case ("missed", sequence):
                self._missed(int(sequence), now)
            case ("nack", sequence):
                self._prober.give_nack(int(sequence))
            case ("relayed", sequence):
                self._prober.end_relay(int(sequence))
            case (kind, id):
                member = self._roster.get(id)
                if member is not None:
                    self._fire_for(kind, member, now)

    def _fire_for(self, kind: str, member: Member, now: float) -> None:
        match kind:
            case "suspicion":
                self._apply(member, "expired", now, "no answer, and it did not object")
            case "silence":
                self._apply(member, "expired", now, "nothing heard from it")
            case "nudge" if member.state == "suspect":
                self._prober.start(member, "nudge", now)
                self._timers.set(("nudge", member.id), now + self._config.period)
            case "redial" if not member.here:
                self._redial(member, now)

    def _missed(self, sequence: int, now: float) -> None:
        probe = self._prober.missed(sequence)
        member = self._roster.get(probe.target) if probe is not None and probe.purpose != "redial" else None
        if probe is None or member is None:
            return
        if member.state == "alive" and member.since > probe.sent_at:  # it came back since we asked
            return
        if self._apply(member, "missed", now, "no answer, nor through others"):
            self._timers.set(("nudge", member.id), now)
        self._confirm(member, self.me, now)

    def _redial(self, member: Member, now: float) -> None:
        self._prober.start(member, "redial", now)
        member.asked_at = now
        self._wait(member, now)

    def _wait(self, member: Member, now: float) -> None:
        """Until the next dial; twice as long each time."""
        config = self._config
        first = config.period if member.state == "unknown" else config.redial_min
        delay = member.redial_delay or first
        member.redial_delay = min(config.redial_max, 2 * delay)
        self._timers.set(("redial", member.id), now + delay * (0.5 + self._rng.random() / 2))

    def _redial_soon(self, member: Member, now: float) -> None:
        soonest = max(now, member.asked_at + self._config.redial_on_rumour)
        planned = self._timers.get(("redial", member.id))
        if planned is None or planned > soonest:
            self._timers.set(("redial", member.id), soonest)

    def _woke(self, now: float) -> None:
        self._prober.forget_all()
        self._prober.health.change(+1)
        for member in self._roster:
            if member.suspicion is not None:
                self._suspect(member, now)
            if self._timers.get(("silence", member.id)) is not None:
                self._listen(member, now)

    # States and their consequences

    def _apply(
        self, member: Member, evidence: Evidence, now: float, reason: str, via: Via | None = None
    ) -> bool:
        before = member.state
        state = after(before, evidence)
        if state == before:
            return False
        member.state, member.since, member.suspicion = state, now, None
        member.via = via if state == "alive" else None
        for name in ("suspicion", "nudge", "redial"):
            self._timers.cancel((name, member.id))
        self._events.append(Event(_EVENT[state], member.id, now, reason, via, before))
        if not self.quiet:
            self._consequences(member, before, now)
        return True

    def _consequences(self, member: Member, before: State, now: float) -> None:
        match member.state:
            case "alive":
                member.redial_delay = 0.0
                self._post.spread("alive", member, member.id, now)
                if before == "down":  # what kept us from it may have kept us from others too
                    for other in self._roster:
                        if other.state == "down":
                            self._redial_soon(other, now + self._rng.random() * self._config.period)
            case "suspect":
                self._suspect(member, now)
            case "left":
                self._post.spread("left", member, member.id, now)
                self._timers.set(("redial", member.id), now + self._config.redial_max)
            case "down":
                self._post.forget(member.id)
                self._wait(member, now)
