"""Probes under way: a ping, then helpers, then an outcome; and the probes we make as somebody's helper.

    0                    ping the target
    timeout              no ack: ask helpers, and ping again in case a datagram was lost
    interval             nothing by any way: missed

Both times stretch with our local health: who hears little should blame himself first (Lifeguard).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mesh.swim.model import Rng, SwimConfig, Via
from mesh.swim.roster import Member, Roster
from mesh.swim.timers import Timers
from mesh.swim.wire import Kind, Message

Purpose = Literal["round", "redial", "nudge"]
Send = Callable[[Kind, str, int, str], None]

MAX_RELAYS = 256
"""Probes under way for others; beyond it we help no more."""


@dataclass(slots=True)
class Probe:
    """One question whether `target` is there. `nacks` counts helpers that at least answered themselves."""

    target: str
    purpose: Purpose
    sent_at: float
    helpers: list[str] = field(default_factory=list)
    asked_again: bool = False
    nacks: int = 0


@dataclass(frozen=True, slots=True)
class Relay:
    """A probe made for `asker`, who knows it as `sequence`."""

    asker: str
    sequence: int
    target: str


@dataclass(frozen=True, slots=True)
class Answer:
    """`target` is there. `rtt` in seconds where it was measured."""

    target: str
    via: Via
    rtt: float | None


class Health:
    """Lifeguard's local health multiplier: 0 is well, each point stretches our timeouts once."""

    def __init__(self, worst: int) -> None:
        self._worst = worst
        self.score = 0

    def change(self, by: int) -> None:
        """Adds to the score, within its bounds."""
        self.score = min(self._worst, max(0, self.score + by))

    @property
    def stretch(self) -> int:
        """What to multiply a timeout with."""
        return self.score + 1


class Prober:
    """Keeps the probes, says what came of them. Timers: again, missed, nack, relayed; with a sequence."""

    def __init__(self, config: SwimConfig, rng: Rng, timers: Timers, send: Send) -> None:
        self._config = config
        self._timers = timers
        self._send = send
        self._probes: dict[int, Probe] = {}
        self._relays: dict[int, Relay] = {}
        self._sequence = int(rng.random() * 2**32)
        self.health = Health(config.health_max)

    def interval(self) -> float:
        """Seconds from one probe of the round to the next."""
        return self._config.period * self.health.stretch

    def start(self, target: Member, purpose: Purpose, now: float) -> None:
        """Pings `target`."""
        sequence = self._next()
        self._probes[sequence] = Probe(target.id, purpose, now)
        self._send("ping", target.id, sequence, target.id)
        self._timers.set(("again", str(sequence)), now + self._timeout(target.rtt))
        self._timers.set(("missed", str(sequence)), now + self._config.probe_deadline * self.interval())

    def again(self, sequence: int, roster: Roster) -> None:
        """The timeout passed: helpers, and a second ping."""
        probe = self._probes.get(sequence)
        if probe is None:
            return
        probe.asked_again = True
        probe.helpers = roster.helpers(probe.target)
        for helper in probe.helpers:
            self._send("ping-req", helper, sequence, probe.target)
        self._send("ping", probe.target, sequence, probe.target)

    def missed(self, sequence: int) -> Probe | None:
        """The interval passed: the probe that found nobody, if it had not ended otherwise."""
        probe = self._probes.pop(sequence, None)
        if probe is not None and probe.purpose == "round":
            self.health.change(len(probe.helpers) - probe.nacks if probe.helpers else 1)
        return probe

    def nack(self, message: Message, sender: str) -> None:
        """A helper is well but did not reach the target either."""
        probe = self._probes.get(message.sequence)
        if probe is not None and sender in probe.helpers:
            probe.nacks = min(probe.nacks + 1, len(probe.helpers))

    def ack(self, message: Message, sender: str, now: float) -> Answer | None:
        """What an ack tells; None for one that nobody asked for. One for a relay is passed on."""
        relay = self._relays.get(message.sequence)
        if relay is not None and relay.target == sender:
            self._end_relay(message.sequence)
            self._send("ack", relay.asker, relay.sequence, relay.target)
            return Answer(sender, "direct", None)
        probe = self._probes.get(message.sequence)
        if probe is None:
            return None
        direct = sender == probe.target
        if not direct and not (sender in probe.helpers and message.subject == probe.target):
            return None
        self._end(message.sequence)
        if probe.purpose == "round":
            self.health.change(-1)
        unambiguous = direct and not probe.asked_again  # Karn: of two pings, which one was answered?
        return Answer(
            probe.target, "direct" if direct else "indirect", now - probe.sent_at if unambiguous else None
        )

    def help(self, message: Message, asker: str, target: Member, now: float) -> None:
        """Probes `target` for `asker`; a nack goes out at four fifths of what a probe may take."""
        if len(self._relays) >= MAX_RELAYS:
            return
        sequence = self._next()
        self._relays[sequence] = Relay(asker, message.sequence, target.id)
        self._send("ping", target.id, sequence, target.id)
        self._timers.set(("nack", str(sequence)), now + 0.8 * self._timeout(target.rtt))
        self._timers.set(("relayed", str(sequence)), now + self._config.period)

    def give_nack(self, sequence: int) -> None:
        """Tells the asker that we are here, but have heard nothing yet."""
        relay = self._relays.get(sequence)
        if relay is not None:
            self._send("nack", relay.asker, relay.sequence, relay.target)

    def end_relay(self, sequence: int) -> None:
        """Stops waiting on somebody's behalf."""
        self._relays.pop(sequence, None)

    def forget(self, member: str) -> None:
        """Drops what has to do with a member that is none any more."""
        for sequence in [n for n, probe in self._probes.items() if probe.target == member]:
            self._end(sequence)
        for sequence in [n for n, relay in self._relays.items() if member in (relay.target, relay.asker)]:
            self._end_relay(sequence)

    def forget_all(self) -> None:
        """Drops every probe without an outcome: we slept and would blame others for it."""
        for sequence in list(self._probes):
            self._end(sequence)

    def _timeout(self, rtt: float | None) -> float:
        low, high = self._config.probe_timeout_min, self._config.probe_timeout_max
        return (high if rtt is None else min(high, max(low, 3 * rtt))) * self.health.stretch

    def _next(self) -> int:
        self._sequence = (self._sequence + 1) % 2**32
        return self._sequence

    def _end(self, sequence: int) -> None:
        del self._probes[sequence]
        self._timers.cancel(("again", str(sequence)))
        self._timers.cancel(("missed", str(sequence)))

    def _end_relay(self, sequence: int) -> None:
        del self._relays[sequence]
        self._timers.cancel(("nack", str(sequence)))
        self._timers.cancel(("relayed", str(sequence)))
