"""On what terms this node keeps others' data: what they are and where each comes from, and how they are changed here.

Owners may lengthen the floor of their own from afar. Shortening is for root at this console, or for the recovery key.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import asdict
from typing import Any

from mesh.identity import valid_node_id
from mesh.link_errors import Refusal
from node.errors import Exit, MeshkeepError
from node.promises import Promises, span
from node.replica_keeper import ReplicaKeeper
from node.storage import Storage
from replication import terms
from replication.target_retention import Keep
from replication.terms import FOREVER, SHORTEST, Agreed
from zfs import errors
from zfs.door import Zfs

TWO_WAYS = (
    "on its own console: meshkeep vault terms --shorten; "
    "or with the recovery key, and in seven days: meshkeep vault shorten --recovery"
)


class TermsDesk:
    """`policy` is what the configuration says, `admitted` when this node came into its mesh (epoch seconds)."""

    def __init__(
        self,
        zfs: Zfs,
        storage: Storage,
        promises: Promises,
        keeper: ReplicaKeeper,
        *,
        policy: Callable[[], Keep],
        named: Callable[[str], str] = str,
        admitted: Callable[[], int | None] = lambda: None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._zfs = zfs
        self._storage = storage
        self._promises = promises
        self._keeper = keeper
        self._policy = policy
        self._named = named
        self._admitted = admitted
        self._now = now

    # -- showing -----------------------------------------------------------------------------------------------

    async def document(self, owners: Collection[str] | None = None) -> dict[str, Any]:
        """The terms, for *owners* of those that store here, None for all."""
        place = await self._storage.terms()
        by_invite = self._admitted() if self._storage.granted() else None
        origin = self._storage.origin()
        keep = asdict(self._policy())
        keep.pop("floor")
        found = [await self._of(place.root, one) for one in await self._roots(owners)] if place else []
        return {
            "root": _term(place.root if place else None, origin, by_invite if origin == "invite" else None),
            "floor": self._floor(Agreed()),
            "quota": _term(place.quota if place else None, "invite", by_invite),
            "keep": _term(keep, "configuration", None),
            "owners": found,
        }

    async def _of(self, root: str, owner: str) -> dict[str, Any]:
        agreed = await self._promises.noted(root, owner)
        limits = await self._zfs.get(f"{root}/{owner}", ["quota", "reservation"])
        place = await self._storage.terms()
        quota, reserved = _bytes(limits["quota"].value), _bytes(limits["reservation"].value)
        invited = place is not None and place.quota is not None and place.quota == quota
        return {
            "owner": owner,
            "node": self._named(owner),
            "floor": self._floor(agreed),
            "quota": _term(quota, "invite" if invited else "zfs", self._admitted() if invited else None),
            "reservation": _term(reserved, "zfs", None),
            "waiting": await self._waiting(agreed),
        }

    def _floor(self, agreed: Agreed) -> dict[str, Any]:
        """The floor in force, in seconds, and whose it is: the longest of what is promised counts."""
        floor = self._promises.keep(agreed).floor
        if agreed.floor == floor:
            return _term(floor, agreed.by, agreed.at or None)
        if floor > self._policy().floor:
            return _term(floor, "invite", self._admitted())
        return _term(floor, "configuration", None)

    async def _waiting(self, agreed: Agreed) -> dict[str, Any] | None:
        """`left`: seconds, None while the clock is not believed."""
        waiting, clock = agreed.waiting, await self._keeper.clock()
        if waiting is None or clock is None:
            return None
        marks, now = clock
        left = None if marks.jump else terms.left(waiting, marks, now)
        return {"floor": waiting.floor, "since": waiting.since, "left": left, "by": "recovery key"}

    async def _roots(self, owners: Collection[str] | None) -> list[str]:
        """The ids of those of *owners* that have a root here."""
        place = await self._storage.terms()
        if place is None:
            return []
        try:
            names = [one.name.removeprefix(place.root + "/") for one in await self._zfs.datasets(place.root)]
        except errors.NotFound:
            return []
        return [one for one in names if valid_node_id(one) and (owners is None or one in owners)]

    # -- lengthening, by owners from afar ----------------------------------------------------------------------

    async def extend(self, owners: Collection[str], floor: Any, by: terms.By = "owner") -> dict[str, Any]:
        """For *owners*, all of them or none. Raises Refusal: to shorten is not for peers."""
        seconds = _checked(floor)
        place = await self._storage.terms()
        roots = await self._roots(owners)
        if place is None or not roots:
            raise Refusal(
                "nothing_stored",
                "nothing of yours is stored there, so there is no floor to lengthen",
                "replicate to it first: meshkeep replicate add",
                exit=9,
            )
        for owner in roots:
            self._refuse_shorter(await self._promises.noted(place.root, owner), seconds)
        now = int(self._now())
        for owner in roots:
            await self._promises.change(
                place.root, owner, lambda agreed: terms.lengthened(agreed, seconds, by, now)
            )
        return await self.document(roots)

    def _refuse_shorter(self, agreed: Agreed, seconds: int) -> None:
        if seconds < (floor := self._promises.keep(agreed).floor):
            raise Refusal(
                "shorter_floor",
                f"the floor is {span(floor)}; nobody shortens it from afar to {span(seconds)}",
                TWO_WAYS,
            )

    # -- at the console ----------------------------------------------------------------------------------------

    async def freed(self, owner: str | None, floor: Any) -> dict[str, Any]:
        """What could go with that floor and may not now, of one owner or of all. Changes nothing."""
        seconds = _checked(floor)
        found = []
        for one in await self._chosen(owner):
            names = await self._keeper.freed(one, seconds)
            found.append({"owner": one, "node": self._named(one), "snapshots": names})
        configured = self._policy().floor
        return {"floor": seconds, "configured": configured, "owners": found}

    async def shorten(self, owner: str | None, floor: Any) -> dict[str, Any]:
        """Root here says so. What the configuration says stays the least."""
        seconds, chosen = _checked(floor), await self._chosen(owner)
        place = await self._storage.terms()
        assert place is not None
        now = int(self._now())
        for one in chosen:
            newest = self._promises.newest(one)

            def shorter(agreed: Agreed, newest: int = newest) -> Agreed:
                return terms.shortened(agreed, seconds, newest, now)

            await self._promises.change(place.root, one, shorter)
        return await self.document(chosen)

    async def cancel(self, owner: str) -> dict[str, Any]:
        """What waits about that owner does not take effect. Raises MeshkeepError if nothing does."""
        place = await self._storage.terms()
        (one,) = await self._chosen(owner)
        assert place is not None
        newest = self._promises.newest(one)

        def void(agreed: Agreed) -> Agreed:
            waiting = agreed.waiting.version if agreed.waiting else 0
            return terms.dropped(agreed, max(newest, waiting))

        before, after = await self._promises.change(place.root, one, void)
        if before == after:
            raise MeshkeepError(
                f"nothing waits here about {self._named(one)}", code="nothing_waits", exit=Exit.NOT_FOUND
            )
        return await self.document([one])

    async def _chosen(self, owner: str | None) -> list[str]:
        """Of those that store here, the one by name or id, or all. Raises MeshkeepError."""
        stored = await self._roots(None)
        chosen = [one for one in stored if owner is None or owner in (one, self._named(one))]
        if not chosen:
            raise MeshkeepError(
                f"{owner} stores nothing here" if owner else "nothing is stored here",
                code="nothing_stored",
                exit=Exit.NOT_FOUND,
                hint="meshkeep vault terms",
            )
        if owner is not None and len(chosen) > 1:
            raise MeshkeepError(
                f"{owner} could be several nodes", code="ambiguous", exit=Exit.USAGE, why=", ".join(chosen)
            )
        return chosen


def _term(value: Any, origin: str, since: int | None) -> dict[str, Any]:
    return {"value": value, "from": origin, "since": since}


def _bytes(text: str) -> int | None:
    return int(text) if text.isdecimal() and int(text) else None


def _checked(floor: Any) -> int:
    if not isinstance(floor, int) or isinstance(floor, bool) or not SHORTEST <= floor <= FOREVER:
        raise Refusal("bad_floor", "a floor is from an hour to a hundred years", "--floor 180d", exit=2)
    return floor
