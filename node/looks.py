"""Looks that are shared: what many want to see in the same short moment is listed, or asked of a peer, in one go.

What is answered was always looked at after it was asked for, but for the snapshots of a dataset of which ZFS says that
they have not changed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

from node.histories import SETTLED
from zfs import looking
from zfs.door import Zfs
from zfs.errors import ZfsError
from zfs.model import Look
from zfs.names import pool_of

V = TypeVar("V")

MOMENT = 0.005
"""Seconds that the first who asks waits for others. While an answer is on its way, all others wait for the next."""

AT_ONCE = 1000
"""Names in one look: a listing of so many is over in the time that a peer waits for an answer."""

MAX_AGE = 600.0
"""Seconds after which snapshots are listed again all the same: bookmarks and holds come and go without a trace."""


class Batches(Generic[V]):
    """`fetch` answers for many names; whoever asks for one gets its value, or its error raised."""

    def __init__(self, fetch: Callable[[Sequence[str]], Awaitable[Mapping[str, V | Exception]]]) -> None:
        self._fetch = fetch
        self._waiting: dict[str, asyncio.Future[V]] = {}
        self._work: asyncio.Future[None] | None = None

    async def of(self, name: str) -> V:
        """Raises what `fetch` has for *name*, or what it raised."""
        answer = self._waiting.get(name)
        if answer is None:
            answer = self._waiting[name] = asyncio.get_running_loop().create_future()
        if self._work is None:
            self._work = asyncio.ensure_future(self._run())
        return await asyncio.shield(answer)

    async def _run(self) -> None:
        try:
            while self._waiting:
                await asyncio.sleep(MOMENT)
                names = list(islice(self._waiting, AT_ONCE))
                await self._answer({name: self._waiting.pop(name) for name in names})
        finally:
            self._work = None
            for answer in self._waiting.values():  # only where this was cancelled
                answer.cancel()

    async def _answer(self, asked: Mapping[str, asyncio.Future[V]]) -> None:
        try:
            told = await self._fetch(list(asked))
        except BaseException as error:
            if not isinstance(error, Exception):
                for answer in asked.values():
                    answer.cancel()
                raise
            told = dict.fromkeys(asked, error)  # whoever asked knows what to make of it
        for name, answer in asked.items():
            value = told.get(name, LookupError(f"nothing was said of {name}"))
            if isinstance(value, Exception):
                answer.set_exception(value)
                answer.exception()  # who asked may be gone
            else:
                answer.set_result(value)


@dataclass(frozen=True, slots=True)
class _Seen:
    at: float
    look: Look


class Looks:
    """Looks at datasets of this host, with *properties* and the *note* of their snapshots as in `Zfs.look`."""

    def __init__(
        self, zfs: Zfs, now: Callable[[], float], properties: Sequence[str] = (), note: str | None = None
    ) -> None:
        self._zfs = zfs
        self._now = now
        self._wanted = (properties, note)
        self._pools: dict[str, Batches[Look]] = {}
        self._known: dict[str, _Seen] = {}
        self._changed: dict[str, int] = {}
        self._changes = 0

    async def at(self, dataset: str) -> Look:
        """The dataset itself as it is now; its snapshots, bookmarks, notes and holds as they were listed when
        `snapshots_changed` last moved, or since `forget`. Raises NotFound.
        """
        pool = pool_of(dataset)  # one that hangs keeps only those waiting who want to see it
        if pool not in self._pools:
            self._pools[pool] = Batches(self._look)
        return await self._pools[pool].of(dataset)

    async def at_all(self, datasets: Sequence[str]) -> dict[str, Look | ZfsError]:
        """`at` each of them, with the error of those that cannot be looked at."""
        found = await asyncio.gather(*(self.at(name) for name in datasets), return_exceptions=True)
        answers: dict[str, Look | ZfsError] = {}
        for name, one in zip(datasets, found, strict=True):
            if not isinstance(one, Look | ZfsError):
                raise one
            answers[name] = one
        return answers

    def forget(self, dataset: str) -> None:
        """Its bookmarks, holds or notes are being changed by us: list them anew the next time."""
        self._known.pop(dataset, None)
        self._changes += 1
        self._changed[dataset] = self._changes

    async def _look(self, datasets: Sequence[str]) -> Mapping[str, Look | ZfsError]:
        now, changes = self._now(), self._changes
        known = {name: seen.look for name in datasets if (seen := self._recent(name, now))}
        found = await self._zfs.looks(datasets, *self._wanted, known)
        for name, look in found.items():
            if self._changed.get(name, 0) > changes:
                continue
            if isinstance(look, ZfsError) or not self._can_be_kept(look, now):
                self._known.pop(name, None)
            elif name not in known or not looking.unchanged(look.dataset, known[name]):
                self._known[name] = _Seen(now, look)
        return found

    def _recent(self, name: str, now: float) -> _Seen | None:
        seen = self._known.get(name)
        return seen if seen is not None and seen.at <= now < seen.at + MAX_AGE else None

    def _can_be_kept(self, look: Look, now: float) -> bool:
        """The property has whole seconds: what happened in this one may not all be seen. Notes are made once."""
        changed = look.dataset.snapshots_changed
        noted = self._wanted[1] is None or len(look.notes) == len(look.snapshots)
        return changed is not None and now >= changed + SETTLED and noted
