"""The target's side of one transfer: each snapshot that came in is found by its guid, held, and given its receipt.

That goes on beside the stream, for all at once that came in since the last time: each waits for the disk, and the
stream would wait for it too.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

from node.key_archive import KeyArchive
from node.offers import Offer, OfferedStep
from node.replica_places import KEY, RECEIVED, WRAP, Places, Replica
from replication.guard import FLOOR_HOLD
from replication.jobs import Received
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look

log = logging.getLogger(__name__)


class Receipts:
    """For one transfer of *offer* into *replica*. `pinned` is the key of the replica, None until its first one came."""

    def __init__(
        self,
        zfs: Zfs,
        places: Places,
        keys: KeyArchive,
        replica: Replica,
        offer: Offer,
        *,
        pinned: str | None,
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._places = places
        self._keys = keys
        self._replica = replica
        self._offer = offer
        self.pinned = pinned
        self._now = now
        self._came: list[Received] = []
        self._archived: set[str] = set()
        self._given: dict[int, int] = {}
        self._work: asyncio.Future[None] | None = None

    def came(self, one: Received) -> None:
        """A worker says that a snapshot is stored. It is believed when it is found."""
        if 0 <= one.number < len(self._offer.steps):
            self._came.append(one)
        if self._work is None or self._work.done():
            self._work = asyncio.ensure_future(self._as_they_come())

    @property
    def missing(self) -> list[OfferedStep]:
        """What was announced and has no receipt."""
        return [step for step in self._offer.steps if step.to_guid not in self._given]

    async def finish(self) -> None:
        """The stream has ended: what is here has its receipt now. Raises ZfsError, OSError."""
        if self._work is not None:
            await self._work
        if self.missing:  # a worker that was killed could not say what it had stored
            await self._give(self.missing)

    async def stop(self) -> None:
        """Nobody waits any more; what has no receipt yet gets it when its owner asks again."""
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError, errors.ZfsError, OSError):
                await self._work

    def as_json(self) -> list[dict[str, Any]]:
        """In the order in which they were announced."""
        return [
            {"guid": step.to_guid, "received": self._given[step.to_guid]}
            for step in self._offer.steps
            if step.to_guid in self._given
        ]

    async def _as_they_come(self) -> None:
        while self._came:
            said = {self._offer.steps[one.number].to_guid for one in self._came}
            await self._give([step for step in self.missing if step.to_guid in said])

    async def _give(self, steps: Sequence[OfferedStep]) -> None:
        """One look, one hold, one receipt for all of *steps* that is here. The key before the receipt: a snapshot is
        worth nothing without.
        """
        came, self._came = self._came, []
        self._places.forget(self._replica.dataset)
        try:
            look = await self._places.look(self._replica.dataset)
        except errors.NotFound:
            return
        here = {one.guid: one.full_name for one in look.snapshots}
        new = {step.to_guid: here[step.to_guid] for step in steps if step.to_guid in here}
        if not new:
            return
        received, names = int(self._now()), list(new.values())
        await self._zfs.hold(FLOOR_HOLD, names)
        async with self._keys.turn:
            await self._note_keys(look, came)
            under = {WRAP: self.pinned} if self.pinned else {}
            await self._zfs.set_all(names, {RECEIVED: str(received)} | under)
        self._places.forget(self._replica.dataset)
        self._given |= dict.fromkeys(new, received)
        log.info("stored %s for %s", ", ".join(names), self._replica.owner)

    async def _note_keys(self, look: Look, came: Sequence[Received]) -> None:
        changes = {"canmount": "noauto"}
        for one in came:
            fingerprint = one.key_fingerprint
            if not fingerprint or fingerprint in self._archived:
                continue
            self._keys.keep(self._replica.owner, self._replica.source, fingerprint, one.begin)
            self._archived.add(fingerprint)
            if self.pinned is None:  # later only a person at this console changes it
                changes[KEY] = self.pinned = fingerprint
        if any(look.properties.get(name) != value for name, value in changes.items()):
            await self._zfs.set(self._replica.dataset, changes)
