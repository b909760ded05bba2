"""Drops archived wrapped keys that nothing stored needs any more: once a day, a few of each replica."""

import logging
import time
from collections.abc import Awaitable, Callable

from node.key_archive import KeyArchive, short
from node.replica_places import KEY, WRAP, Terms
from replication.wraps import Lying, may_go
from zfs import errors
from zfs.door import Zfs

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
        for owner, source in self._keys.replicas():
            archived = self._keys.wraps(owner, source)
            if len(archived) > 1:
                try:
                    await self._tend_one(terms.root, owner, source, archived)
                except errors.ZfsError as error:  # not there, or its pool is not: everything stays
                    log.debug("wraps of %s/%s are left: %s", owner, source, error)

    async def _tend_one(self, root: str, owner: str, source: str, archived: list[str]) -> None:
        """What is archived was listed first: what comes after that is not thought of."""
        dataset = f"{root}/{owner}/{source}"
        async with self._keys.turn:
            look = await self._zfs.look(dataset)
            notes = await self._zfs.snapshot_property(dataset, WRAP)
            pin = (await self._zfs.get(dataset, [KEY]))[KEY]
            under = {one.name: notes.get(one.name, "") for one in look.snapshots}
            pinned = pin.value if pin.source == "local" else None
            for fingerprint in may_go(archived, Lying(under, pinned, look.resume is not None)):
                self._keys.drop(owner, source, fingerprint)
                log.info("nothing stored of %s came under the key %s any more", dataset, short(fingerprint))
