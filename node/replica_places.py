"""Where replicas lie on this node: below POOL/…/meshkeep/NODE-ID, each node's root with its safety properties."""

import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from mesh.link_errors import Refusal
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

    def __init__(self, zfs: Zfs, terms: Callable[[], Awaitable[Terms | None]]) -> None:
        self._zfs = zfs
        self._terms = terms

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
        root = (await self.terms()).root
        well_formed(check_dataset, source)
        places = [(owner, well_formed(check_dataset, f"{root}/{owner}/{source}")) for owner in owners]
        for owner, dataset in places:
            with contextlib.suppress(errors.NotFound):
                return Replica(owner, source, dataset, await self.look(dataset))
        return Replica(places[0][0], source, places[0][1], None)

    async def look(self, dataset: str) -> Look:
        """What is there, with receipts. Raises NotFound."""
        return await self._zfs.look(dataset, ("canmount", KEY), RECEIVED)

    async def room(self, replica: Replica) -> int:
        """Bytes that may still be stored there."""
        if replica.look is not None:
            return replica.look.dataset.available
        name = parent_of(replica.dataset)
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
