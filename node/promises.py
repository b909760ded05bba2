"""What this node promised to keep of each node's data: read and written in ZFS, on the dataset above its replicas.

Here the words of the recovery key meet the target's own clock; what follows from them is said in `replication.terms`.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from node.status import Problem
from replication import terms
from replication.target_clock import Marks
from replication.target_retention import Keep
from replication.terms import Agreed, Ask
from zfs.door import Zfs

log = logging.getLogger(__name__)

TERMS = "meshkeep:terms"


@dataclass(frozen=True, slots=True)
class Words:
    """What is said of this node: by owner the newest word of the recovery key, and the oids that admins oppose."""

    asks: Mapping[str, Ask] = field(default_factory=dict)
    vetoed: Collection[str] = frozenset()


class Promises:
    """`keep` gives the policy with an agreed floor, None for none. Whoever holds `turn` sees no change."""

    def __init__(
        self,
        zfs: Zfs,
        *,
        keep: Callable[[int | None], Keep],
        words: Callable[[], Words] = Words,
        named: Callable[[str], str] = str,
    ) -> None:
        self._zfs = zfs
        self._keep = keep
        self._words = words
        self._named = named
        self._settled = Words()
        self._known: dict[str, Agreed] = {}
        self.turn = asyncio.Lock()

    def keep(self, agreed: Agreed) -> Keep:
        """The policy for the replicas of an owner with whom that was agreed."""
        return self._keep(agreed.floor)

    @property
    def news(self) -> bool:
        """Whether anything was said since `settle` last looked."""
        return self._words() != self._settled

    def newest(self, owner: str) -> int:
        """The version of the newest word of the recovery key about *owner*, 0 for none."""
        ask = self._words().asks.get(owner)
        return ask.version if ask else 0

    async def noted(self, root: str, owner: str) -> Agreed:
        """Only what stands on the owner's root itself was written there. Raises NotFound."""
        found = (await self._zfs.get(f"{root}/{owner}", [TERMS]))[TERMS]
        return terms.load(found.value) if found.source == "local" else Agreed()

    async def change(self, root: str, owner: str, how: Callable[[Agreed], Agreed]) -> tuple[Agreed, Agreed]:
        """What was agreed before and after; durable when this returns. Raises NotFound."""
        async with self.turn:
            before = await self.noted(root, owner)
            after = how(before)
            if after != before:
                await self._zfs.set(f"{root}/{owner}", {TERMS: terms.dump(after)})
            self._known[owner] = after
        return before, after

    async def settle(self, root: str, owners: Iterable[str], marks: Marks, now: int) -> None:
        """Hear what was said, and let take effect what stood for seven days by *marks* and the wall clock's *now*."""
        words = self._words()
        for owner in owners:
            ask = words.asks.get(owner)

            def follow(agreed: Agreed, ask: Ask | None = ask) -> Agreed:
                since = max(now, marks.last.wall)
                floor = self.keep(agreed).floor
                return terms.settled(terms.heard(agreed, ask, words.vetoed, since, floor), marks, now)

            self._tell(owner, *await self.change(root, owner, follow))
        self._settled = words

    async def correct(self, root: str, owners: Iterable[str], now: int) -> None:
        """The clock is right *now*, and was wrong."""
        for owner in owners:
            await self.change(root, owner, lambda agreed: terms.corrected(agreed, now))

    def problems(self) -> list[Problem]:
        """For `status`: what waits here, and what cannot be read."""
        found = []
        for owner, agreed in sorted(self._known.items()):
            name = self._named(owner)
            if agreed.by == "damaged":
                text = f"what was agreed with {name} cannot be read, so nothing of it goes"
                found.append(Problem("terms_damaged", text, "meshkeep vault terms"))
            if agreed.waiting is not None:
                text = (
                    f"by the recovery key, what is stored here for {name} is to be kept for "
                    f"{span(agreed.waiting.floor)} only, after seven days unless somebody objects"
                )
                hint = f"meshkeep vault cancel --owner {name}"
                found.append(Problem("floor_shortening", text, hint))
        return found

    def _tell(self, owner: str, before: Agreed, after: Agreed) -> None:
        if after == before:
            return
        name = self._named(owner)
        if after.floor != before.floor:
            log.warning("by the recovery key, what %s stores is kept for %s", name, span(after.floor or 0))
        elif after.waiting is not None:
            log.warning(
                "the recovery key asks that what %s stores be kept for %s only",
                name,
                span(after.waiting.floor),
            )
        elif before.waiting is not None:
            log.warning("what the recovery key asked about %s was opposed, and is void", name)


def span(seconds: int) -> str:
    """A floor in words: whole days, or hours where it is none."""
    days, rest = divmod(seconds, terms.DAY)
    return f"{days} days" if days and not rest else f"{-(-seconds // 3600)} hours"
