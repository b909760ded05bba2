"""What other nodes keep of this one, asked of all of them at once.

Who keeps a replica may say anything of it: what does not fit its form is no answer, and a vault that offers
plaintext offers a forgery, since none is ever sent to one.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mesh.link_errors import LinkTimeout, PeerBroke, PeerRefused, PeerUnreachable
from node.membership import Membership
from node.replicator import Directory, Peer
from zfs.model import Snapshot
from zfs.names import check_dataset, check_snapshot

if TYPE_CHECKING:
    from node.vouching import Vouched

LIST_S = 120.0
"""Seconds for one page of a list, and for ten times as many that are all of it."""

MOST = 1_000_000
"""Snapshots that one node can say it keeps of us: it shall not fill the memory here."""

_MAX_64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Copy:
    """One replica. `snapshots` oldest first, at least one; `used` in bytes, as its keeper says.

    `known` are the guids of all snapshots there, also of those behind the one that is wanted. `vouched` is what speaks
    for it, once that was looked into.
    """

    peer: Peer
    owner: str
    dataset: str
    encrypted: bool
    used: int
    snapshots: tuple[Snapshot, ...]
    known: frozenset[int]
    vouched: "Vouched | None" = None

    @property
    def newest(self) -> Snapshot:
        return self.snapshots[-1]

    @property
    def credible(self) -> bool:
        """Whether it can be what this node once sent there."""
        return self.encrypted or self.peer.role != "vault"

    def up_to(self, snapshot: Snapshot) -> "Copy":
        """Itself without what is newer than *snapshot*."""
        return replace(self, snapshots=self.snapshots[: self.snapshots.index(snapshot) + 1])


@dataclass(frozen=True, slots=True)
class Silent:
    """A node that could not be asked, and why."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """What all that answered keep, and who did not."""

    copies: tuple[Copy, ...]
    silent: tuple[Silent, ...] = ()


class Copies:
    """Asks. `others` gives the nodes that may keep something."""

    def __init__(self, directory: Directory, others: Callable[[], Sequence[Peer]]) -> None:
        self._directory = directory
        self._others = others

    async def on(self, peer: Peer) -> tuple[Copy, ...]:
        """All that *peer* keeps of ours. Raises PeerUnreachable (also for nonsense), LinkTimeout, PeerRefused."""
        try:
            async with asyncio.timeout(10 * LIST_S):
                return await self._pages(peer)
        except ValueError as error:
            raise PeerBroke(peer.name, f"its list of replicas makes no sense: {error}") from error
        except TimeoutError as error:
            raise LinkTimeout(peer.address, "replica.list", 10 * LIST_S) from error

    async def _pages(self, peer: Peer) -> tuple[Copy, ...]:
        """As many as there are; each must bring something new. Raises ValueError."""
        found: dict[tuple[str, str], Copy] = {}
        args: dict[str, Any] = {}
        left = MOST
        while True:
            answer = await self._directory.link().call(peer.address, "replica.list", args, timeout=LIST_S)
            told = read(peer, answer)
            for one in told:
                left -= len(one.snapshots)
                key = one.owner, one.dataset
                found[key] = _joined(found[key], one) if key in found else one
            if answer.get("more") is not True:
                return tuple(found.values())
            if not told or left < 0:
                raise ValueError("it has no end")
            args = {"after": _end(told[-1])}

    async def everywhere(self) -> Found:
        """What every node keeps; those that cannot say it are told of."""
        peers = self._others()
        answers = await asyncio.gather(*(self._told(peer) for peer in peers))
        copies = [copy for one in answers if not isinstance(one, Silent) for copy in one]
        return Found(tuple(copies), tuple(one for one in answers if isinstance(one, Silent)))

    async def _told(self, peer: Peer) -> tuple[Copy, ...] | Silent:
        try:
            return await self.on(peer)
        except PeerRefused as refused:
            return () if refused.code == "no_storage" else Silent(peer.name, str(refused))
        except (PeerUnreachable, LinkTimeout) as error:
            return Silent(peer.name, str(error))


def newest_of(copies: Iterable[Copy]) -> Copy | None:
    """The one that is as of the latest time, and of several the one with the longest history."""
    return max(
        (copy for copy in copies if copy.credible),
        key=lambda one: (one.newest.creation, len(one.snapshots), one.peer.name, one.owner),
        default=None,
    )


def keepers(mesh: Membership) -> list[Peer]:
    """The other nodes of the mesh that store replicas."""
    active = mesh.view().active()
    return [mesh.peer(one.id) for one in active if one.id != mesh.identity.id and one.role != "client"]


def read(peer: Peer, answer: Mapping[str, Any]) -> tuple[Copy, ...]:
    """The answer to ``replica.list``. Raises ValueError for what is not of its form."""
    found = tuple(_copy(peer, one) for one in _list(answer, "replicas"))
    if len({(one.owner, one.dataset) for one in found}) != len(found):
        raise ValueError("one replica is listed twice")
    return found


def _end(copy: Copy) -> dict[str, Any]:
    """Behind which snapshot the next page begins."""
    last = max((one.createtxg, one.guid) for one in copy.snapshots)
    return {"owner": copy.owner, "dataset": copy.dataset, "snapshot": list(last)}


def _joined(one: Copy, more: Copy) -> Copy:
    """One replica of which two pages tell. Raises ValueError."""
    if one.encrypted != more.encrypted:
        raise ValueError(f"{one.dataset} is encrypted on one page and not on another")
    return replace(
        one, snapshots=_in_order(one.dataset, (*one.snapshots, *more.snapshots)), known=one.known | more.known
    )


def _in_order(dataset: str, listed: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """Oldest first. Raises ValueError."""
    if min(len({one.name for one in listed}), len({one.guid for one in listed})) != len(listed):
        raise ValueError(f"one snapshot of {dataset} is listed twice")
    return tuple(sorted(listed, key=lambda one: (one.createtxg, one.creation)))


def _copy(peer: Peer, raw: Any) -> Copy:
    if not isinstance(raw, dict):
        raise ValueError("a replica is no object")
    dataset = check_dataset(_text(raw, "dataset"))
    snapshots = _in_order(dataset, [_snapshot(dataset, one) for one in _list(raw, "snapshots")])
    if not snapshots:
        raise ValueError(f"{dataset} has no snapshot")
    known = frozenset(one.guid for one in snapshots)
    encrypted = raw.get("encrypted") is True
    return Copy(peer, _text(raw, "owner"), dataset, encrypted, _number(raw, "used"), snapshots, known)


def _snapshot(dataset: str, raw: Any) -> Snapshot:
    if not isinstance(raw, dict):
        raise ValueError("a snapshot is no object")
    name = _text(raw, "name")
    check_snapshot(f"{dataset}@{name}")
    return Snapshot(dataset, name, _number(raw, "guid"), _number(raw, "createtxg"), _number(raw, "creation"))


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key!r} is no list")
    return value


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ValueError(f"{key!r} is no name")
    return value


def _number(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_64:
        raise ValueError(f"{key!r} is no number")
    return value
