"""The values of the membership core. Times are seconds of whatever clock the caller passes as `now`."""

from collections.abc import MutableSequence, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

T = TypeVar("T")

State = Literal["unknown", "alive", "suspect", "down", "left"]
Via = Literal["direct", "indirect"]
EventKind = Literal["alive", "suspected", "down", "left"]


class Rng(Protocol):
    """What the core needs of chance; `random.Random` is one. The same rng, the same run."""

    def random(self) -> float: ...

    def shuffle(self, x: MutableSequence[Any], /) -> None: ...

    def sample(self, population: Sequence[T], k: int) -> list[T]: ...


@dataclass(frozen=True, slots=True)
class SwimConfig:
    """Parameters, in seconds where they are times. The defaults are for 3 to 50 nodes at homes and clouds.

    SWIM (Das, Gupta, Motivala 2002): period, helpers. Lifeguard (Dadgar, Phillips, Currey 2018):
    suspicion_min is its alpha, suspicion_max its beta, health_max its S, confirmations its K (memberlist's
    value). About `verifiers` of those who hear of a suspicion look for themselves. A probe has failed after
    probe_deadline of a period; by then a helper's nack is back even if it had to make its tunnel first.
    retransmit_floor was measured: with 8, one kill in twenty leaves one of 50 nodes without the last voice.
    """

    period: float = 2.0
    probe_timeout_min: float = 0.3
    probe_timeout_max: float = 0.6
    probe_deadline: float = 0.75
    helpers: int = 3
    suspicion_min: float = 4.0
    suspicion_max: float = 6.0
    confirmations: int = 2
    verifiers: int = 6
    health_max: int = 8
    gossip_interval: float = 0.2
    gossip_fanout: int = 3
    retransmit_floor: int = 12
    redial_min: float = 30.0
    redial_max: float = 300.0
    redial_on_rumour: float = 5.0
    quiet_silence: float = 60.0
    max_datagram: int = 1200


@dataclass(frozen=True, slots=True)
class Peer:
    """What trust says of an admitted node. A quiet one (a vault) answers, and is never heard on others."""

    quiet: bool = False


@dataclass(frozen=True, slots=True)
class MemberState:
    """What we hold of a member: since when, by which way it was last shown alive, smoothed round trip (s)."""

    state: State = "unknown"
    since: float = 0.0
    incarnation: int = 0
    via: Via | None = None
    rtt: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A member's state changed, and why."""

    kind: EventKind
    member: str
    at: float
    reason: str
    via: Via | None = None
    before: State = "unknown"
