"""The target's side of `rotate`: an old replica gets another name, and lets a new one be begun.

Renaming takes what lies below it along. Those replicas are as good as before: each comes back to its place when its
owner asks for it and the new one above it is stored. What is kept aside is only listed and read, never added to.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from mesh.link_errors import Refusal
from node.offers import dataset_of
from node.replica_places import Replica, well_formed
from replication.rotation import MOST_OFFERED, Lying, Request, aside_name, asides_of, is_aside, judge
from zfs import errors
from zfs.door import Zfs
from zfs.names import check_dataset, is_below, parent_of

log = logging.getLogger(__name__)

_MAX_64 = (1 << 64) - 1


def parse(args: Mapping[str, Any]) -> tuple[str, Request]:
    """The dataset and what its owner says of it. Raises Refusal."""
    dataset, history, newest = dataset_of(args), args.get("history"), args.get("newest")
    if not isinstance(history, list) or len(history) > MOST_OFFERED or not all(map(_is_guid, history)):
        raise Refusal("bad_request", "'history' is no list of guids", "")
    if newest is None or not _is_guid(newest):
        raise Refusal("bad_request", "'newest' is not a snapshot's guid", "")
    if type(args.get("raw")) is not bool:
        raise Refusal("bad_request", "'raw' is missing", "")
    return dataset, Request(newest, frozenset(history), args["raw"])


def _is_guid(value: object) -> bool:
    return type(value) is int and 0 < value <= _MAX_64


def refuse_aside(source: str) -> None:
    """Nothing is added to, dropped from, or moved of what is kept aside. Raises Refusal."""
    if is_aside(source):
        raise Refusal(
            "kept_aside",
            f"{source} is an old replica that was kept aside: it can be listed and read, and nothing is added to it",
            "replicate the dataset under another name",
        )


class Aside:
    """Renames. `receiving` are the datasets into which streams run."""

    def __init__(self, zfs: Zfs, now: Callable[[], float], receiving: Callable[[], Collection[str]]) -> None:
        self._zfs = zfs
        self._now = now
        self._receiving = receiving
        self._without: set[str] = set()

    async def rotate(self, replica: Replica, request: Request) -> dict[str, Any]:
        """Keep *replica* aside. Raises Refusal, ZfsError."""
        refuse_aside(replica.source)
        root = replica.dataset.removesuffix("/" + replica.source)
        aside = asides_of(replica.dataset, await self._below(root))
        no = judge(request, self._lying(replica, aside))
        if no is not None:
            hint = (
                f"look at zfs list -r {parent_of(replica.dataset)} there"
                if no.code == "too_many_aside"
                else ""
            )
            raise Refusal(no.code, f"{replica.source}: {no.text}", hint, exit=1 if no.passing else 7)
        name = well_formed(check_dataset, aside_name(replica.dataset, int(self._now())))
        self._without.discard(root)
        await self._zfs.rename(replica.dataset, name)
        log.warning(
            "%s is kept aside as %s, as its owner asked: nothing leads on from it", replica.dataset, name
        )
        return {"aside": name.removeprefix(root + "/")}

    def _lying(self, replica: Replica, aside: list[str]) -> Lying:
        look = replica.look
        if look is None:
            return Lying(None, raw=False)
        busy = any(one == replica.dataset or is_below(one, replica.dataset) for one in self._receiving())
        return Lying(
            look.snapshots[-1].guid if look.snapshots else None,
            look.dataset.encrypted,
            partial=look.resume is not None,
            receiving=busy,
            aside=aside,
            drifted=key_root(replica) not in (None, replica.source),
        )

    async def _below(self, root: str) -> list[str]:
        try:
            return [one.name for one in await self._zfs.datasets(root)]
        except errors.NotFound:
            return []

    async def bring_back(self, replica: Replica) -> None:
        """Before a first stream: what moved along with something above it, and is stored, needs none.

        Raises Refusal where it is back in its place: its owner has to look again.
        """
        root = replica.dataset.removesuffix("/" + replica.source)
        if replica.look is not None or root in self._without:
            return
        names = await self._below(root)
        if not any(map(is_aside, names)):
            self._without.add(root)
            return
        for old, above in _carried(replica.dataset, names):
            if await self._zfs.snapshots(old) and await self._zfs.snapshots(above):
                await self._zfs.rename(old, replica.dataset)
                log.info("%s is back in its place; it had moved along with %s", replica.dataset, above)
                raise Refusal(
                    "came_back", f"{replica.source} is stored already, and is back in its place", exit=1
                )


def _carried(dataset: str, names: Collection[str]) -> Iterator[tuple[str, str]]:
    """(what moved away from *dataset* with something above it, that above), nearest and newest first."""
    above = parent_of(dataset)
    while above is not None:
        for aside in reversed(asides_of(above, names)):
            old = aside + dataset.removeprefix(above)
            if above in names and old in names:
                yield old, above
        above = parent_of(above)


def key_root(replica: Replica) -> str | None:
    """The encryption root of what is stored, by its name at home; itself, unless somebody here changed that."""
    if replica.look is None or replica.look.dataset.encryption_root is None:
        return None
    return replica.look.dataset.encryption_root.removeprefix(replica.dataset.removesuffix(replica.source))


def refuse_drift(replica: Replica) -> None:
    """A raw stream onto a replica that inherits its key leaves it with one that opens nothing. Raises Refusal."""
    root = key_root(replica)
    if root is not None and root != replica.source and replica.look is not None and replica.look.snapshots:
        raise Refusal(
            "replica_root_changed",
            f"the replica of {replica.source} was made to inherit the key of {root} here (openzfs#12614)",
            f"meshkeep replicate rotate {replica.source} NODE",
        )
