"""Drops archived wrapped keys that nothing stored needs any more: once a day, a few of each replica."""

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from node.key_archive import KeyArchive, short
from node.replica_places import KEY, WRAP, Terms
from replication.rotation import original
from replication.wraps import Lying, may_go
from zfs import errors
from zfs.door import Zfs
from zfs.model import Dataset

log = logging.getLogger(__name__)

EVERY = 86400.0
"""Seconds from one round to the next, and from the start of the agent to the first."""


class WrapRounds:
    """`steady` is a clock that nobody sets, in seconds."""

    def __init__(
        self,
        zfs: Zfs,
        keys: KeyArchive,
        *,
        terms: Callable[[], Awaitable[Terms | None]],
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._zfs = zfs
        self._keys = keys
        self._terms = terms
        self._steady = steady
        self._last = steady()

    async def tend(self) -> None:
        """A round, unless the last one was less than a day ago."""
        if self._steady() - self._last < EVERY:
            return
        self._last = self._steady()
        terms = await self._terms()
        if terms is None:
            return
        for owner, replicas in groupby(self._keys.replicas(), key=lambda one: one[0]):
            try:
                stored = await self._zfs.datasets(f"{terms.root}/{owner}")
            except errors.ZfsError as error:  # not there, or its pool is not: everything stays
                log.debug("wraps of %s are left: %s", owner, error)
                continue
            for _, source in replicas:
                archived = self._keys.wraps(owner, source)
                if len(archived) > 1:
                    await self._tend_one(_Sent(terms.root, owner, source), stored, archived)

    async def _tend_one(self, sent: "_Sent", stored: Sequence[Dataset], archived: list[str]) -> None:
        """What is archived was listed first: what comes after that is not thought of."""
        mine = [one for one in stored if sent.is_of_it(one.name)]
        async with self._keys.turn:
            try:
                lying = {one.name: await self._lying(one) for one in mine}
            except errors.ZfsError as error:
                log.debug("wraps of %s are left: %s", sent.place, error)
                return
            in_place = lying.pop(sent.place, None)
            if in_place is None:
                return
            for fingerprint in may_go(archived, in_place, lying.values()):
                self._keys.drop(sent.owner, sent.source, fingerprint)
                log.info(
                    "nothing stored of %s came under the key %s any more", sent.place, short(fingerprint)
                )

    async def _lying(self, one: Dataset) -> Lying:
        """Raises ZfsError, also where another dataset has its name by now."""
        look = await self._zfs.look(one.name)
        if look.dataset.guid != one.guid:
            raise errors.NotFound(one.name)
        notes = await self._zfs.snapshot_property(one.name, WRAP)
        pin = (await self._zfs.get(one.name, [KEY]))[KEY]
        under = {snapshot.name: notes.get(snapshot.name, "") for snapshot in look.snapshots}
        return Lying(under, pin.value if pin.source == "local" else None, look.resume is not None)


@dataclass(frozen=True, slots=True)
class _Sent:
    """What was sent as *source*: a replica in its place, and those that were kept aside, or moved along."""

    root: str
    owner: str
    source: str

    @property
    def place(self) -> str:
        return f"{self.root}/{self.owner}/{self.source}"

    def is_of_it(self, dataset: str) -> bool:
        return original(dataset.removeprefix(f"{self.root}/{self.owner}/")) == self.source
