"""Where replicas lie on this node: below POOL/…/meshkeep/NODE-ID, each node's root with its safety properties."""

import contextlib
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from mesh.link_errors import Refusal
from node.looks import Looks
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look
from zfs.names import InvalidName, check_dataset, parent_of

RECEIVED = "meshkeep:received"
KEY = "meshkeep:key"
WRAP = "meshkeep:wrap"
"""On a snapshot: the fingerprint of the wrapped key that it was received under."""
NODE = "meshkeep:node"
RECEIVE_USER = "meshkeep"
DELEGATED = ("create", "mount", "receive:append")
# Inherited by every replica below a node's root: it can not be mounted, written, or run from.
ROOT_PROPERTIES = {
    "canmount": "off",
    "mountpoint": "none",
    "readonly": "on",
    "setuid": "off",
    "exec": "off",
    "devices": "off",
    "snapdir": "hidden",
}
PLACEHOLDER = {"canmount": "off", "mountpoint": "none"}


@dataclass(frozen=True, slots=True)
class Terms:
    """Where replicas lie (`root`, e.g. tank/meshkeep) and how much of it one node may use (bytes)."""

    root: str
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica: whose it is, its dataset's name at home, the dataset that holds it here, and what that has."""

    owner: str
    source: str
    dataset: str
    look: Look | None


class Places:
    """Finds and prepares places. Raises `mesh.link.Refusal` for names that fit nowhere, and without a pool."""

    def __init__(
        self,
        zfs: Zfs,
        terms: Callable[[], Awaitable[Terms | None]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._zfs = zfs
        self._terms = terms
        self._looks = Looks(zfs, now, ("canmount", KEY), RECEIVED)

    async def terms(self) -> Terms:
        terms = await self._terms()
        if terms is None:
            raise Refusal(
                "no_storage",
                "this node has no pool to keep replicas in",
                "set [storage] under in its configuration",
            )
        return terms

    async def find(self, owners: Sequence[str], source: str) -> Replica:
        """Where *source* is kept: with the first of *owners* that has it, else with the caller itself."""
        found = (await self.find_all(owners, [source]))[source]
        if isinstance(found, Replica):
            return found
        raise found

    async def find_all(
        self, owners: Sequence[str], sources: Collection[str]
    ) -> dict[str, Replica | Refusal | errors.ZfsError]:
        """`find` for each of *sources*, by as many listings as there are *owners*; or why it cannot be found."""
        root = (await self.terms()).root
        found: dict[str, Replica | Refusal | errors.ZfsError] = {}
        left: list[str] = []
        for source in sources:
            try:
                well_formed(check_dataset, source)
                for owner in owners:
                    well_formed(check_dataset, f"{root}/{owner}/{source}")
                left.append(source)
            except Refusal as refusal:
                found[source] = refusal
        for owner in owners:
            looks = await self._looks.at_all([f"{root}/{owner}/{source}" for source in left])
            for source, (dataset, look) in zip(left, looks.items(), strict=True):
                if isinstance(look, Look):
                    found[source] = Replica(owner, source, dataset, look)
                elif not isinstance(look, errors.NotFound):
                    found[source] = look
            left = [source for source in left if source not in found]
        nowhere = {
            source: Replica(owners[0], source, f"{root}/{owners[0]}/{source}", None) for source in left
        }
        return {**found, **nowhere}

    async def look(self, dataset: str) -> Look:
        """What is there, with receipts. Raises NotFound."""
        return await self._looks.at(dataset)

    async def looks(self, datasets: Sequence[str]) -> dict[str, Look | errors.ZfsError]:
        """`look` at many."""
        return await self._looks.at_all(datasets)

    def forget(self, dataset: str) -> None:
        """Its holds or receipts are being changed: the next look lists them anew."""
        self._looks.forget(dataset)

    async def room(self, replica: Replica, known: dict[str, int] | None = None) -> int:
        """Bytes that may still be stored there. *known* has those of places that were asked before, and takes more."""
        if replica.look is not None:
            return replica.look.dataset.available
        rooms = {} if known is None else known
        above = parent_of(replica.dataset)
        if above is not None and above not in rooms:
            rooms[above] = await self._room_below(above)
        return rooms[above] if above else 0

    async def _room_below(self, name: str | None) -> int:
        while name is not None:
            try:
                return (await self._zfs.dataset(name)).available
            except errors.NotFound:
                name = parent_of(name)
        return 0

    async def prepare(self, replica: Replica) -> None:
        """The node's root with its safety properties and delegation, and the placeholders below it."""
        terms = await self.terms()
        node_root = f"{terms.root}/{replica.owner}"
        for name in _ancestors(terms.root):
            await self._ensure(name, PLACEHOLDER)
        properties = dict(ROOT_PROPERTIES) | {NODE: replica.owner}
        if terms.quota is not None:
            properties["quota"] = str(terms.quota)
        if await self._ensure(node_root, properties):
            await self._zfs.allow(RECEIVE_USER, DELEGATED, node_root)
        for name in _ancestors(parent_of(replica.dataset) or ""):
            if name.startswith(node_root + "/"):
                await self._ensure(name, PLACEHOLDER)

    async def _ensure(self, name: str, properties: Mapping[str, str]) -> bool:
        """Create *name* unless it is there. Returns whether it was created."""
        with contextlib.suppress(errors.NotFound):
            await self._zfs.dataset(name)
            return False
        await self._zfs.create(name, properties)
        return True


def well_formed(check: Callable[[str], str], name: str) -> str:
    """*name* if it passes; else a refusal with the reason."""
    try:
        return check(name)
    except InvalidName as error:
        raise Refusal("bad_name", str(error), "") from error


def _ancestors(dataset: str) -> list[str]:
    """``a/b/c`` -> ``a/b``, ``a/b/c`` (the pool itself is there or nothing is)."""
    parts = dataset.split("/")
    return ["/".join(parts[: end + 1]) for end in range(1, len(parts))]
