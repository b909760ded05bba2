"""The state of the ZFS that is not there: pools, datasets and snapshots as plain objects."""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from zfs import errors
from zfs.model import Dataset, Snapshot
from zfs.names import parent_of, pool_of
from zfs.stream import KeyMaterial

DEFAULTS = {
    "readonly": "off", "canmount": "on", "mountpoint": "", "compression": "on", "snapdir": "hidden",
    "setuid": "on", "exec": "on", "devices": "on", "atime": "on", "quota": "0", "refquota": "0",
    "reservation": "0", "recordsize": "131072", "encryption": "off", "keyformat": "none",
    "keylocation": "none", "sharenfs": "off", "pbkdf2iters": "0",
}  # fmt: skip
NOT_INHERITED = {"canmount", "quota", "refquota", "reservation", "encryption", "keyformat", "keylocation"}


@dataclass(slots=True)
class Snap:
    """A snapshot, or what a bookmark remembers of one (then without data)."""

    name: str
    guid: int
    createtxg: int
    creation: int
    ivset: int = 0
    data: bytes = b""
    holds: set[str] = field(default_factory=set)
    sending: int = 0
    properties: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Partial:
    """What has arrived of a stream that was cut."""

    to_guid: int
    from_guid: int | None
    to_name: str
    total: int
    appends: bool
    raw: bool
    body: bytes = b""


@dataclass(slots=True)
class Node:
    """A filesystem. `key_root` is the node whose passphrase opens it."""

    name: str
    guid: int
    createtxg: int
    data: bytes = b""
    properties: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, Snap] = field(default_factory=dict)
    bookmarks: dict[str, Snap] = field(default_factory=dict)
    wrap: KeyMaterial | None = None
    key_root: "Node | None" = None
    key_loaded: bool = False
    mounted: bool = False
    incomplete: bool = False
    partial: Partial | None = None
    snapshots_changed: int | None = None

    @property
    def used(self) -> int:
        """Its own bytes."""
        return len(self.data) + (len(self.partial.body) if self.partial else 0)

    @property
    def newest(self) -> Snap | None:
        """The snapshot made last."""
        return max(self.snapshots.values(), key=lambda one: one.createtxg, default=None)

    @property
    def key_available(self) -> bool:
        """Whether its data can be read: not encrypted, or the key is loaded."""
        return self.key_root is None or self.key_root.key_loaded


def wrapped(passphrase: bytes, rng: random.Random, guid: int | None = None) -> KeyMaterial:
    """A wrapped key that only *passphrase* opens; for a change of passphrase the *guid* stays."""
    salt = rng.getrandbits(63)
    return KeyMaterial(
        suite=8,
        guid=guid or rng.getrandbits(63),
        version=1,
        master_key=rng.randbytes(32),
        hmac_key=rng.randbytes(64),
        iv=rng.randbytes(12),
        mac=proof(passphrase, salt),
        keyformat=3,
        pbkdf2_iterations=350_000,
        pbkdf2_salt=salt,
        to_ivset_guid=0,
        from_ivset_guid=None,
    )


def proof(passphrase: bytes, salt: int) -> bytes:
    """Stands in for the tag by which ZFS knows a wrong passphrase."""
    return hashlib.blake2b(passphrase + salt.to_bytes(8, "big"), digest_size=16).digest()


def base_of(node: Node, snap: Snap, base: str | None) -> Snap | None:
    """The snapshot or bookmark *base* of the same dataset. Raises NotFound, StreamMismatch."""
    if base is None:
        return None
    short = base.removeprefix(node.name)
    found = (node.snapshots if short.startswith("@") else node.bookmarks).get(short[1:])
    if found is None:
        raise errors.NotFound(base)
    if found.createtxg >= snap.createtxg:
        raise errors.StreamMismatch(snap.name, "not later than its base")
    return found


def body_of(node: Node, snap: Snap, base: Snap | None) -> tuple[bool, bytes]:
    """(whether it appends, bytes): all of it, or what came after the base if that snapshot is still there."""
    if base is None:
        return False, snap.data
    twin = next((one for one in node.snapshots.values() if one.guid == base.guid), None)
    if twin is None or not snap.data.startswith(twin.data):
        return False, snap.data
    return True, snap.data[len(twin.data) :]


class State:
    """All pools of one host."""

    def __init__(self, pools: dict[str, int], clock: Callable[[], float], rng: random.Random) -> None:
        self.sizes = pools
        self.suspended: set[str] = set()
        self.readonly: set[str] = set()
        self.freeing: dict[str, int] = {}
        self.vdev_errors: dict[str, tuple[int, int, int]] = {}
        self.nodes: dict[str, Node] = {}
        self.rng = rng
        self._clock = clock
        self._txg = 10
        for pool in pools:
            self.nodes[pool] = Node(pool, self.new_guid(), self.next_txg())

    def next_txg(self) -> int:
        """The transaction group of the next change."""
        self._txg += 1
        return self._txg

    def now(self) -> int:
        """Whole seconds of the injected clock."""
        return int(self._clock())

    def new_guid(self) -> int:
        """As ZFS draws them: at random, never 0."""
        return self.rng.getrandbits(63) + 1

    def check_pool(self, name: str, *, write: bool = False) -> None:
        """Raise what any call about *name* would meet first."""
        pool = pool_of(name)
        if pool not in self.sizes:
            raise errors.NotFound(name)
        if pool in self.suspended:
            raise errors.PoolUnavailable(name)
        if write and pool in self.readonly:
            raise errors.ReadOnly(name)

    def node(self, name: str, *, write: bool = False) -> Node:
        """The dataset of that name. Raises NotFound, PoolUnavailable, ReadOnly."""
        self.check_pool(name, write=write)
        if name not in self.nodes:
            raise errors.NotFound(name)
        return self.nodes[name]

    def snap(self, full_name: str, *, write: bool = False) -> Snap:
        """The snapshot of that name. Raises NotFound."""
        dataset, _, name = full_name.partition("@")
        snapshots = self.node(dataset, write=write).snapshots
        if name not in snapshots:
            raise errors.NotFound(full_name)
        return snapshots[name]

    def below(self, name: str) -> list[Node]:
        """*name* and all under it, parents first."""
        nodes = list(self.nodes.values())  # workers are threads here, and make some meanwhile
        found = [one for one in nodes if one.name == name or one.name.startswith(name + "/")]
        return sorted(found, key=lambda one: one.name.split("/"))

    def used(self, name: str) -> int:
        """Bytes of *name* and all under it."""
        return sum(one.used for one in self.below(name))

    def available(self, name: str) -> int:
        """What may still be written: the pool's free space or the least that a quota above leaves."""
        room = self.sizes[pool_of(name)] - self.used(pool_of(name))
        above: str | None = name
        while above is not None:
            quota = int(self.nodes[above].properties.get("quota", "0")) if above in self.nodes else 0
            room = min(room, quota - self.used(above)) if quota else room
            above = parent_of(above)
        return max(room, 0)

    def add(self, name: str) -> Node:
        """A new filesystem; encrypted like its parent. Raises AlreadyExists, NotFound, KeyUnavailable."""
        if name in self.nodes:
            raise errors.AlreadyExists(name)
        parent = self.node(parent_of(name) or name, write=True)
        if not parent.key_available:
            raise errors.KeyUnavailable(name)
        node = Node(name, self.new_guid(), self.next_txg())
        if parent.key_root is not None and parent.wrap is not None:
            node.key_root = parent.key_root
            node.wrap = replace(parent.wrap, guid=self.new_guid(), master_key=self.rng.randbytes(32))
        self.nodes[name] = node
        return node

    def as_dataset(self, node: Node) -> Dataset:
        """The value that the door hands out."""
        newest = node.newest
        before = len(newest.data) if newest and node.data.startswith(newest.data) else 0
        return Dataset(
            name=node.name,
            kind="filesystem",
            guid=node.guid,
            createtxg=node.createtxg,
            used=self.used(node.name),
            available=self.available(node.name),
            written=len(node.data) - before,
            encryption_root=node.key_root.name if node.key_root else None,
            keystatus=None if node.key_root is None else "available" if node.key_available else "unavailable",
            mounted=node.mounted,
            snapshots_changed=node.snapshots_changed,
        )

    def as_snapshot(self, node: Node, snap: Snap) -> Snapshot:
        """The value that the door hands out."""
        return Snapshot(node.name, snap.name, snap.guid, snap.createtxg, snap.creation, 0, len(snap.holds))

    def prop(self, node: Node, name: str) -> tuple[str, str]:
        """(value, source) of a settable property, inherited where ZFS inherits it."""
        if name in node.properties:
            return node.properties[name], "local"
        above = parent_of(node.name)
        while above is not None and name not in NOT_INHERITED:
            value = self.nodes[above].properties.get(name)
            if value is not None:
                rest = node.name.removeprefix(above) if name == "mountpoint" and value != "none" else ""
                return value + rest, f"inherited from {above}"
            above = parent_of(above)
        if name == "mountpoint":
            return "/" + node.name, "default"
        return (DEFAULTS[name], "default") if name in DEFAULTS else ("-", "-")
