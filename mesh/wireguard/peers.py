"""Desired peers of a WireGuard device against what it has: pure, no clock, no device.

An unchanged peer is never touched. An endpoint is written only where there is no live session, since the
kernel follows a roaming peer better than we do; then the candidates take turns. A peer that stays without a
session is removed and added again: after a clock went backwards one side drops the other's handshakes
silently, and only forgetting the peer forgets the greater timestamp.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mesh.endpoints import Endpoint
from mesh.wireguard.device import (
    NO_PRESHARED_KEY,
    REJECT_AFTER_S,
    Change,
    Device,
    PeerState,
    RemovePeer,
    SetPeer,
)

CANDIDATE_S = 6.0
"""A candidate's turn: WireGuard repeats a handshake after 5 s and up to 334 ms."""

RENEW_AFTER_S = 60.0
"""A peer this long without a session is removed and added again, and not more often than this."""

KEEPALIVE_S = 25


@dataclass(frozen=True, slots=True)
class PeerWish:
    """A peer that should be there. `address` is its only allowed IP (/128 where no prefix is given)."""

    public_key: bytes
    address: str
    candidates: tuple[Endpoint, ...] = ()
    preshared_key: bytes | None = field(default=None, repr=False)
    keepalive: int = KEEPALIVE_S

    @property
    def allowed_ips(self) -> frozenset[str]:
        return frozenset({self.address if "/" in self.address else f"{self.address}/128"})


@dataclass(frozen=True, slots=True)
class PeerMemory:
    """What the planner knows of a peer beyond the device. All times are steady seconds, as `now`."""

    handshake: float | None = None
    """The device's last handshake at the last look (epoch seconds)."""
    handshake_at: float | None = None
    """When that was, by the steady clock, which no clock change moves."""
    good: Endpoint | None = None
    """Where the last session went: tried first."""
    trying: Endpoint | None = None
    since: float = 0.0
    """When the turn of `trying` began."""
    quiet_since: float | None = None
    """Since when there is no session and the peer was not added again."""

    def live(self, now: float) -> bool:
        """Whether a session carries data: a handshake within REJECT_AFTER_S."""
        return self.handshake_at is not None and now - self.handshake_at < REJECT_AFTER_S


Memory = Mapping[bytes, PeerMemory]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A wish that is not fulfilled, and why."""

    wish: PeerWish
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The changes in the order to apply them, and the memory to hand to the next planning."""

    changes: tuple[Change, ...]
    memory: Memory
    refused: tuple[Refusal, ...] = ()


def plan(wishes: Iterable[PeerWish], device: Device, memory: Memory, now: float, wall: float) -> Plan:
    """What to change so that *device* has exactly the peers of *wishes*.

    *now* is a steady clock that counts sleep (CLOCK_BOOTTIME), *wall* the host's clock, which alone dates the
    device's handshakes; both in seconds. A handshake that *wall* puts in the future counts as made just now.
    """
    wanted, refused = _refuse_clashes(tuple(wishes), device)
    changes: list[Change] = [
        RemovePeer(key, "not among the desired peers") for key in device.peers if key not in wanted
    ]
    remembered: dict[bytes, PeerMemory] = {}
    for key, wish in wanted.items():
        state = device.peers.get(key)
        known = _look(memory.get(key, PeerMemory()), state, now, wall)
        steps, remembered[key] = _add(wish, known, now) if state is None else _tend(wish, state, known, now)
        changes += steps
    return Plan(tuple(changes), remembered, refused)


def _refuse_clashes(
    wishes: Sequence[PeerWish], device: Device
) -> tuple[dict[bytes, PeerWish], tuple[Refusal, ...]]:
    """Two wishes for one key or one address would take it from each other for ever. Who has it keeps it (so
    that no newcomer can push out an established peer); where nobody has it, none gets it."""
    keys = Counter(wish.public_key for wish in wishes)
    addresses = Counter(wish.allowed_ips for wish in wishes)
    wanted: dict[bytes, PeerWish] = {}
    refused: list[Refusal] = []
    for wish in wishes:
        state = device.peers.get(wish.public_key)
        incumbent = state is not None and state.allowed_ips == wish.allowed_ips
        if wish.public_key == device.public_key:
            refused.append(Refusal(wish, "it is this device's own key"))
        elif keys[wish.public_key] > 1 and (not incumbent or wish.public_key in wanted):
            refused.append(Refusal(wish, "another peer claims the same key"))
        elif addresses[wish.allowed_ips] > 1 and not incumbent:
            refused.append(Refusal(wish, "another peer claims the same address"))
        else:
            wanted[wish.public_key] = wish
    return wanted, tuple(refused)


def _look(known: PeerMemory, state: PeerState | None, now: float, wall: float) -> PeerMemory:
    """Brings the memory of a peer up to what the device shows."""
    if state is None or state.last_handshake is None:
        return replace(known, handshake=None, handshake_at=None)
    if state.last_handshake != known.handshake:
        age = max(0.0, wall - state.last_handshake)
        good = known.good or _writable(state)  # at first sight: where it went before this process began
        known = replace(known, handshake=state.last_handshake, handshake_at=now - age, good=good)
    if known.live(now):
        return replace(known, good=_writable(state) or known.good, trying=None, quiet_since=None)
    return known


def _writable(state: PeerState) -> Endpoint | None:
    return None if state.endpoint is None or state.endpoint.link_local else state.endpoint


def _add(wish: PeerWish, known: PeerMemory, now: float) -> tuple[list[Change], PeerMemory]:
    turn = known.trying or _next(wish, known, None)
    change = SetPeer(
        wish.public_key,
        allowed_ips=wish.allowed_ips,
        endpoint=turn,
        preshared_key=wish.preshared_key or NO_PRESHARED_KEY,
        keepalive=wish.keepalive,
        reason="new peer",
    )
    since = known.since if turn is not None and turn == known.trying else now
    return [change], replace(known, trying=turn, since=since, quiet_since=now)


def _tend(wish: PeerWish, state: PeerState, known: PeerMemory, now: float) -> tuple[list[Change], PeerMemory]:
    """A peer that is there: repair what differs; without a session, let the next candidate have its turn."""
    endpoint: Endpoint | None = None
    if not known.live(now):
        known = replace(known, quiet_since=now if known.quiet_since is None else known.quiet_since)
        known = _turn(wish, state, known, now)
        endpoint = known.trying if known.trying != state.endpoint else None
        if known.quiet_since is not None and now - known.quiet_since >= RENEW_AFTER_S:
            return _renew(wish, known, now)
    change = SetPeer(
        wish.public_key,
        allowed_ips=wish.allowed_ips if state.allowed_ips != wish.allowed_ips else None,
        endpoint=endpoint,
        preshared_key=_new_preshared(wish, state),
        keepalive=wish.keepalive if state.keepalive != wish.keepalive else None,
        reason=f"no session: trying {endpoint}" if endpoint else "its settings differ",
    )
    return ([] if change == SetPeer(wish.public_key) else [change]), known


def _turn(wish: PeerWish, state: PeerState, known: PeerMemory, now: float) -> PeerMemory:
    if known.trying is None:
        # The device may still have a candidate from before this process: its turn goes on rather than over.
        kept = state.endpoint if state.endpoint in wish.candidates and known.good is None else None
        return replace(known, trying=kept or _next(wish, known, None), since=now)
    if known.trying not in _order(wish, known) or now - known.since >= CANDIDATE_S:
        return replace(known, trying=_next(wish, known, known.trying), since=now)
    return known


def _renew(wish: PeerWish, known: PeerMemory, now: float) -> tuple[list[Change], PeerMemory]:
    steps, fresh = _add(wish, replace(known, handshake=None, handshake_at=None), now)
    why = f"no session for {RENEW_AFTER_S:.0f} s: adding it again, in case a clock went back"
    again = [replace(step, reason=why) for step in steps if isinstance(step, SetPeer)]
    return [RemovePeer(wish.public_key, why), *again], fresh


def _order(wish: PeerWish, known: PeerMemory) -> list[Endpoint]:
    first = [known.good] if known.good is not None else []
    return list(dict.fromkeys([*first, *wish.candidates]))


def _next(wish: PeerWish, known: PeerMemory, current: Endpoint | None) -> Endpoint | None:
    order = _order(wish, known)
    if not order:
        return None
    return order[(order.index(current) + 1) % len(order)] if current in order else order[0]


def _new_preshared(wish: PeerWish, state: PeerState) -> bytes | None:
    wanted = wish.preshared_key or NO_PRESHARED_KEY
    return wanted if wanted != (state.preshared_key or NO_PRESHARED_KEY) else None
