"""Where this node keeps replicas: what a vault's invite fixed, what the settings say, or the pool there is."""

from collections.abc import Callable, Iterable
from dataclasses import replace

from mesh.identity import valid_node_id
from node.local_state import LocalState
from node.replica_places import Terms
from replication.target_retention import DAY, Keep
from zfs.door import Zfs

FOLDER = "meshkeep"


class Storage:
    """A pool that was chosen stays the choice for the run. `roots` is what was answered last."""

    def __init__(self, zfs: Zfs, local: LocalState, under: Callable[[], str | None]) -> None:
        self._zfs = zfs
        self._local = local
        self._under = under
        self._chosen: str | None = None
        self.roots: tuple[str, ...] = ()

    async def terms(self) -> Terms | None:
        """None where there is no pool to store in."""
        granted = self._local.terms()
        under = (granted.under if granted else "") or self._under() or await self._pool()
        if under is None:
            return None
        terms = Terms(f"{under}/{FOLDER}", granted.quota if granted else None)
        self.roots = (terms.root,)
        return terms

    def origin(self) -> str:
        """Where it comes from that replicas lie where they lie."""
        granted = self._local.terms()
        if granted is not None and granted.under:
            return "invite"
        return "configuration" if self._under() else "the pools there are"

    def keep(self, policy: Keep, agreed: int | None = None) -> Keep:
        """*policy*, with a floor of at least the seconds that were *agreed* for one node, else that a vault's invite
        promised to all.
        """
        least = self.promised() if agreed is None else agreed
        return replace(policy, floor=max(policy.floor, least))

    def granted(self) -> bool:
        """Whether this node came by an invite that has terms."""
        return self._local.terms() is not None

    def promised(self) -> int:
        """The floor, in seconds, that a vault's invite promised; 0 for none."""
        granted = self._local.terms()
        return (granted.floor_days or 0) * DAY if granted else 0

    async def _pool(self) -> str | None:
        """The pool that has our folder already, else the one with the most room."""
        if self._chosen is not None:
            return self._chosen
        pools = [pool for pool in await self._zfs.pools() if not pool.readonly]
        names = {dataset.name for dataset in await self._zfs.datasets()} if pools else set()
        begun = [pool for pool in pools if f"{pool.name}/{FOLDER}" in names]
        chosen = max(begun or pools, key=lambda pool: pool.free, default=None)
        self._chosen = chosen.name if chosen else None
        return self._chosen


def node_roots(datasets: Iterable[str]) -> set[str]:
    """The roots of nodes' replicas among *datasets*, by their names alone: wherever replicas were ever kept."""
    found = set()
    for name in datasets:
        parent, _, last = name.rpartition("/")
        if valid_node_id(last) and parent.rpartition("/")[2] == FOLDER:
            found.add(name)
    return found
