"""An in-memory double of the door to ZFS, held to the same contract as the real one.

Data is one string of bytes per dataset (`write` appends to it), so that sizes, quotas and streams mean
something. Beyond the door a test may `suspend` a pool, make it read-only, and change a passphrase.
"""

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tests.fakes.zfs_state import DEFAULTS, Node, Snap, State, base_of, body_of, proof, wrapped
from zfs import errors, looking
from zfs.model import Bookmark, Dataset, Look, Pool, PoolStatus, Property, ResumeState, Snapshot, Vdev
from zfs.names import check_dataset, check_snapshot, parent_of, pool_of


class FakeZfs:
    """`zfs.door.Zfs` over nothing. Each instance is one host; `pools` maps names to sizes in bytes."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = lambda: 1_700_000_000.0,
        seed: int = 0,
        pools: Mapping[str, int] | None = None,
    ) -> None:
        self.state = State(dict(pools or {"tank": 1 << 30}), clock, random.Random(seed))
        self.allowed: list[tuple[str, tuple[str, ...], str]] = []
        self.versions = "2.3.9-fake", "2.3.9-fake"
        self.cloned: dict[str, list[str]] = {}
        """What a test says was cloned from a snapshot."""

    def write(self, dataset: str, data: bytes) -> None:
        """As a program would, mounted or not. Raises NoSpace, KeyUnavailable, ReadOnly."""
        node = self.state.node(dataset, write=True)
        if not node.key_available:
            raise errors.KeyUnavailable(dataset)
        if self.state.prop(node, "readonly")[0] == "on":
            raise errors.ReadOnly(dataset)
        if len(data) > self.state.available(dataset):
            raise errors.NoSpace(dataset)
        node.data += data

    def read(self, name: str) -> bytes:
        """The content of a dataset or snapshot. Raises KeyUnavailable."""
        dataset, at, _ = name.partition("@")
        node = self.state.node(dataset)
        if not node.key_available:
            raise errors.KeyUnavailable(name)
        return self.state.snap(name).data if at else node.data

    def suspend(self, pool: str) -> None:
        """From now on everything about it raises PoolUnavailable."""
        self.state.suspended.add(pool)

    def resume(self, pool: str) -> None:
        """End of `suspend`."""
        self.state.suspended.discard(pool)

    def make_readonly(self, pool: str) -> None:
        """As imported with readonly=on."""
        self.state.readonly.add(pool)

    def hurt(self, pool: str, read: int = 0, write: int = 0, checksum: int = 0) -> None:
        """Errors of its only device."""
        self.state.vdev_errors[pool] = (read, write, checksum)

    def change_passphrase(self, dataset: str, passphrase: bytes) -> None:
        """As ``zfs change-key``: the next raw streams of it and of those that inherit its key carry new wraps."""
        node = self.state.node(dataset, write=True)
        if node.wrap is None or not node.key_available:
            raise errors.KeyUnavailable(dataset)
        inheriting = [one for one in self.state.below(dataset) if one.key_root is node.key_root]
        node.wrap = wrapped(passphrase, self.state.rng, node.wrap.guid)
        node.key_loaded = True
        for one in inheriting:
            one.key_root = node
            if one is not node and one.wrap is not None:
                one.wrap = replace(node.wrap, guid=one.wrap.guid, master_key=self.state.rng.randbytes(32))

    def unload_key(self, dataset: str) -> None:
        """As ``zfs unload-key`` of an encryption root."""
        self.state.node(dataset).key_loaded = False

    async def version(self) -> tuple[str, str]:
        return self.versions

    async def pools(self) -> list[Pool]:
        return [self._pool(name, size) for name, size in sorted(self.state.sizes.items())]

    def _pool(self, name: str, size: int) -> Pool:
        used = self.state.used(name)
        health = "SUSPENDED" if name in self.state.suspended else "ONLINE"
        freeing = self.state.freeing.get(name, 0)
        return Pool(name, health, size, size - used, 100 * used // size, name in self.state.readonly, freeing)

    async def pool_status(self, name: str) -> PoolStatus:
        if name not in self.state.sizes:
            raise errors.NotFound(name)
        pool = self._pool(name, self.state.sizes[name])
        errs = self.state.vdev_errors.get(name, (0, 0, 0))
        vdevs = (Vdev(name, pool.health), Vdev("vda", pool.health, *errs))
        return PoolStatus(name, pool.health, vdevs, None, pool.size, pool.free, pool.capacity)

    async def datasets(self, root: str | None = None) -> list[Dataset]:
        if root is not None:
            self.state.node(root)
        roots = [root] if root is not None else sorted(self.state.sizes)
        return [self.state.as_dataset(node) for one in roots for node in self.state.below(one)]

    async def dataset(self, name: str) -> Dataset:
        return self.state.as_dataset(self.state.node(check_dataset(name)))

    async def mountpoints(self, datasets: Sequence[str]) -> dict[str, str | None]:
        nodes = [self.state.node(check_dataset(name)) for name in dict.fromkeys(datasets)]
        told = {node.name: self.state.prop(node, "mountpoint")[0] for node in nodes}
        return {name: None if value == "none" else value for name, value in told.items()}

    async def look(self, dataset: str, properties: Sequence[str] = (), note: str | None = None) -> Look:
        values = {name: one.value for name, one in (await self.get(dataset, properties)).items()}
        return Look(
            await self.dataset(dataset),
            tuple(await self.snapshots(dataset)),
            tuple(await self.bookmarks(dataset)),
            await self.resume_state(dataset),
            {name: value for name, value in values.items() if value != "-"},
            await self.snapshot_property(dataset, note) if note else {},
        )

    async def looks(
        self,
        datasets: Sequence[str],
        properties: Sequence[str] = (),
        note: str | None = None,
        known: Mapping[str, Look] | None = None,
    ) -> dict[str, Look | errors.ZfsError]:
        found: dict[str, Look | errors.ZfsError] = {}
        for name in datasets:
            try:
                found[name] = await self.look(name, properties, note)
            except errors.ZfsError as error:
                found[name] = error
        for name, was in (known or {}).items():
            now = found.get(name)
            if isinstance(now, Look) and looking.unchanged(now.dataset, was):
                found[name] = replace(now, snapshots=was.snapshots, bookmarks=was.bookmarks, notes=was.notes)
        return found

    async def snapshots(self, dataset: str, *, recursive: bool = False) -> list[Snapshot]:
        nodes = [self.state.node(dataset)]
        if recursive:
            nodes = self.state.below(dataset)
        found = [self.state.as_snapshot(node, snap) for node in nodes for snap in node.snapshots.values()]
        return sorted(found, key=lambda one: (one.createtxg, one.creation, one.dataset, one.name))

    async def histories(self, datasets: Sequence[str]) -> dict[str, list[Snapshot] | errors.ZfsError]:
        found: dict[str, list[Snapshot] | errors.ZfsError] = {}
        for name in datasets:
            try:
                found[name] = await self.snapshots(name)
            except errors.ZfsError as error:
                found[name] = error
        return found

    async def bookmarks(self, dataset: str) -> list[Bookmark]:
        found = [
            Bookmark(dataset, one.name, one.guid, one.createtxg, one.creation)
            for one in self.state.node(dataset).bookmarks.values()
        ]
        return sorted(found, key=lambda one: (one.createtxg, one.creation, one.name))

    async def holds(self, snapshot: str) -> list[str]:
        return sorted(self.state.snap(snapshot).holds)

    async def get(self, name: str, properties: Sequence[str]) -> dict[str, Property]:
        dataset, at, _ = name.partition("@")
        node = self.state.node(dataset)
        snap = self.state.snap(name) if at else None
        return {prop: self._property(node, snap, prop) for prop in properties}

    def _property(self, node: Node, snap: Snap | None, prop: str) -> Property:
        fixed = self._snapshot_facts(snap) if snap else self._dataset_facts(node)
        if prop in fixed:
            return Property(fixed[prop], "-")
        if snap is not None and prop in snap.properties:
            return Property(snap.properties[prop], "local")
        value, source = self.state.prop(node, prop)
        if snap is not None and source == "local":
            source = f"inherited from {node.name}"
        if snap is not None and prop in DEFAULTS:
            return Property("-", "-")
        return Property(value, source)

    def _snapshot_facts(self, snap: Snap) -> dict[str, str]:
        return {
            "type": "snapshot",
            "guid": str(snap.guid),
            "createtxg": str(snap.createtxg),
            "creation": str(snap.creation),
            "userrefs": str(len(snap.holds)),
        }

    def _dataset_facts(self, node: Node) -> dict[str, str]:
        seen = self.state.as_dataset(node)
        facts = {
            "type": "filesystem",
            "guid": str(seen.guid),
            "createtxg": str(seen.createtxg),
            "used": str(seen.used),
            "available": str(seen.available),
            "written": str(seen.written),
            "snapshots_changed": str(seen.snapshots_changed or "-"),
            "encryptionroot": seen.encryption_root or "-",
            "keystatus": seen.keystatus or "-",
            "mounted": "yes" if seen.mounted else "no",
        }
        if node.key_root is not None:
            own = node.key_root is node
            facts |= {"encryption": "aes-256-gcm", "keyformat": "passphrase"}
            facts |= {"keylocation": node.properties.get("keylocation", "prompt") if own else "none"}
            wrap = node.key_root.wrap
            if wrap is not None:
                facts |= {"pbkdf2salt": str(wrap.pbkdf2_salt), "pbkdf2iters": str(wrap.pbkdf2_iterations)}
        return facts

    async def own_properties(self, datasets: Sequence[str]) -> dict[str, dict[str, str]]:
        return {name: dict(self.state.node(name).properties) for name in datasets}

    async def snapshot_property(self, dataset: str, prop: str) -> dict[str, str]:
        snapshots = self.state.node(dataset).snapshots.values()
        return {one.name: one.properties[prop] for one in snapshots if prop in one.properties}

    async def clones(self, dataset: str) -> dict[str, list[str]]:
        snapshots = self.state.node(dataset).snapshots
        made = {name: self.cloned.get(f"{dataset}@{name}", []) for name in snapshots}
        return {name: list(found) for name, found in made.items() if found}

    async def ivset_guids(self, dataset: str) -> dict[str, int]:
        return {one.name: one.ivset for one in self.state.node(dataset).snapshots.values() if one.ivset}

    async def set(self, name: str, properties: Mapping[str, str]) -> None:
        limits = ("quota", "refquota", "reservation")  # "none" is how 0 is set
        told = {one: "0" if one in limits and value == "none" else value for one, value in properties.items()}
        self._properties_of(name).update(told)

    async def set_all(self, names: Sequence[str], properties: Mapping[str, str]) -> None:
        for name in names:
            with contextlib.suppress(errors.NotFound):
                await self.set(name, properties)

    async def inherit(self, name: str, prop: str) -> None:
        self._properties_of(name).pop(prop, None)

    def _properties_of(self, name: str) -> dict[str, str]:
        if "@" in name:
            return self.state.snap(name, write=True).properties
        return self.state.node(name, write=True).properties

    async def create(
        self, name: str, properties: Mapping[str, str], *, passphrase: bytes | None = None
    ) -> None:
        check_dataset(name)
        if passphrase is not None and not 8 <= len(passphrase) <= 512:
            raise errors.WrongKey(name, "Passphrase too short (min 8).")
        node = self.state.add(name)
        node.properties.update(properties)
        if passphrase is not None:
            node.wrap = wrapped(passphrase, self.state.rng)
            node.key_root, node.key_loaded = node, True

    async def rename(self, name: str, new_name: str) -> None:
        check_dataset(new_name)
        self.state.node(name, write=True)
        self.state.node(new_name.rpartition("/")[0], write=True)
        if new_name in self.state.nodes:
            raise errors.AlreadyExists(new_name)
        for node in self.state.below(name):
            del self.state.nodes[node.name]
            node.name = new_name + node.name.removeprefix(name)
            self.state.nodes[node.name] = node

    async def destroy_dataset(self, name: str) -> None:
        node = self.state.node(name, write=True)
        if node.snapshots or node.mounted or len(self.state.below(name)) > 1:
            raise errors.Busy(name)
        del self.state.nodes[name]

    async def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        pairs = [check_snapshot(name).partition("@") for name in names]
        if len({pool_of(name) for name in names}) > 1 or len({pair[0] for pair in pairs}) < len(pairs):
            raise errors.StreamMismatch(names[0], "not of one pool, or one dataset twice")
        for dataset, _, short in pairs:
            if short in self.state.node(dataset, write=True).snapshots:
                raise errors.AlreadyExists(f"{dataset}@{short}")
        txg = self.state.next_txg()
        for dataset, _, short in pairs:
            node = self.state.nodes[dataset]
            ivset = self.state.new_guid() if node.wrap else 0
            snap = Snap(short, self.state.new_guid(), txg, self.state.now(), ivset, node.data)
            snap.properties.update(properties or {})
            node.snapshots[short] = snap
            node.snapshots_changed = self.state.now()

    async def destroy_snapshots(self, names: Sequence[str]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        for name in names:
            dataset, _, short = check_snapshot(name).partition("@")
            self.state.check_pool(name, write=True)
            node = self.state.nodes.get(dataset)
            if node is None or short not in node.snapshots:
                continue
            if node.snapshots[short].holds:
                failed[name] = errors.Held(name)
            elif node.snapshots[short].sending:
                failed[name] = errors.Busy(name)
            else:
                del node.snapshots[short]
                node.snapshots_changed = self.state.now()
        return failed

    async def bookmark(self, snapshot: str, bookmark: str) -> None:
        snap = self.state.snap(snapshot, write=True)
        dataset, _, short = bookmark.partition("#")
        marks = self.state.node(dataset, write=True).bookmarks
        if short in marks and marks[short].guid != snap.guid:
            raise errors.AlreadyExists(bookmark)
        marks[short] = replace(snap, name=short, data=b"", holds=set(), properties={})

    async def bookmark_all(self, pairs: Mapping[str, str]) -> None:
        for snapshot in pairs.values():
            self.state.snap(snapshot, write=True)
        for mark, snapshot in pairs.items():
            await self.bookmark(snapshot, mark)

    async def destroy_bookmarks(self, names: Sequence[str]) -> None:
        for name in names:
            self.state.check_pool(name, write=True)
            dataset, _, short = name.partition("#")
            if dataset in self.state.nodes:
                self.state.nodes[dataset].bookmarks.pop(short, None)

    async def hold(self, tag: str, snapshots: Sequence[str]) -> None:
        missing = None
        for name in snapshots:
            try:
                self.state.snap(name, write=True).holds.add(tag)
            except errors.NotFound as error:
                missing = missing or error
        if missing:
            raise missing

    async def release(self, tag: str, snapshots: Sequence[str]) -> None:
        for name in snapshots:
            dataset, _, short = name.partition("@")
            self.state.check_pool(name, write=True)
            node = self.state.nodes.get(dataset)
            if node is not None and short in node.snapshots:
                node.snapshots[short].holds.discard(tag)

    async def allow(self, user: str, permissions: Sequence[str], dataset: str) -> None:
        self.state.node(dataset, write=True)
        self.allowed.append((user, tuple(permissions), dataset))

    async def resume_state(self, dataset: str) -> ResumeState | None:
        partial = self.state.node(dataset).partial
        if partial is None:
            return None
        size = len(partial.body)
        return ResumeState(partial.to_guid, partial.from_guid, partial.to_name, 1, size, size, partial.raw)

    async def abort_receive(self, dataset: str) -> None:
        node = self.state.node(dataset, write=True)
        node.partial = None
        if node.incomplete:
            del self.state.nodes[dataset]

    async def send_size(self, snapshot: str, base: str | None, *, raw: bool) -> int:
        dataset = snapshot.partition("@")[0]
        node, snap = self.state.node(dataset), self.state.snap(snapshot)
        return len(body_of(node, snap, base_of(node, snap, base))[1])

    async def load_key(self, dataset: str, passphrase: bytes) -> None:
        await self.check_key(dataset, passphrase)
        self.state.node(dataset).key_loaded = True

    async def check_key(self, dataset: str, passphrase: bytes) -> None:
        node = self.state.node(dataset)
        if node.wrap is None or node.key_root is not node:
            raise errors.Unexpected(dataset, "not an encryption root")
        if proof(passphrase, node.wrap.pbkdf2_salt) != node.wrap.mac:
            raise errors.WrongKey(dataset)

    async def change_key(self, dataset: str, passphrase: bytes) -> None:
        if self.state.node(dataset, write=True).wrap is None:
            raise errors.Unexpected(dataset, "not encrypted")
        self.change_passphrase(dataset, passphrase)

    async def inherit_key(self, dataset: str) -> None:
        node = self.state.node(dataset, write=True)
        parent = self.state.nodes.get(parent_of(dataset) or "")
        if node.key_root is not node or parent is None or parent.key_root is None:
            raise errors.Unexpected(dataset, "no encryption root, or its parent is not encrypted")
        if node.key_loaded:
            raise errors.Busy(dataset, "its key is loaded")
        # Its wrap stays: opened with the root's passphrase, it does or does not come out.
        for one in self.state.below(dataset):
            if one.key_root is node:
                one.key_root = parent.key_root

    async def mount(self, dataset: str) -> None:
        node = self.state.node(dataset)
        if not node.key_available:
            raise errors.KeyUnavailable(dataset)
        node.mounted = True

    async def unmount(self, dataset: str) -> None:
        self.state.node(dataset).mounted = False
