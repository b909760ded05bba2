"""The console's word on keys: which of those that were offered for stored replicas are their owners' own.

These verbs are for root on this host alone. No peer has them, neither the source (it may be the thief) nor an admin.
The recovery key has the same word from afar, by a signed object that names this node, the replica and both keys.
"""

import contextlib
import logging
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from node.api import Api, Request
from node.decrees import Approval
from node.errors import Exit, MeshkeepError
from node.key_archive import SHORT, KeyArchive, Pending, short
from node.replica_places import KEY, Terms
from node.status import Problem
from zfs import errors
from zfs.door import Zfs

log = logging.getLogger(__name__)

LOOK = "meshkeep key pending"
WORD = "meshkeep:key-word"
"""Up to which version the recovery key's words about a replica are spent: each is good once."""


class KeyApprovals:
    """`named` gives the name of a node id, `words` what the recovery key said to this node about keys."""

    def __init__(
        self,
        zfs: Zfs,
        keys: KeyArchive,
        *,
        terms: Callable[[], Awaitable[Terms | None]],
        named: Callable[[str], str] = str,
        words: Callable[[], Collection[Approval]] = tuple,
    ) -> None:
        self._zfs = zfs
        self._keys = keys
        self._terms = terms
        self._named = named
        self._words = words

    def register(self, api: Api) -> None:
        """Everyone on this host may see what waits; root decides."""
        api.register("key.pending", self.pending, access="group")
        api.register("key.approve", self.approve, access="root")
        api.register("key.refuse", self.refuse, access="root")

    def problems(self) -> list[Problem]:
        """For `status`: one line, however many there are."""
        waiting = self._keys.pending()
        if not waiting:
            return []
        first, more = self._label(waiting[0]), len(waiting) - 1
        text = f"another key was offered for {first}" + (f" and {more} more" if more else "")
        return [
            Problem(
                "key_pending", f"{text}: nothing more is stored of it until somebody here has looked", LOOK
            )
        ]

    async def pending(self, request: Request) -> dict[str, Any]:
        """What was offered in place of a pinned key; of one replica, or of all."""
        which = request.args.get("which")
        waiting = self._keys.pending()
        chosen = [self._one(waiting, str(which))] if which else waiting
        return {
            "schema": "meshkeep.key-pending/1",
            "pending": [self._as_json(one, waiting) for one in chosen],
        }

    async def approve(self, request: Request) -> dict[str, Any]:
        """Pin the key that was offered. The one before stays in the archive, from which it can be put back."""
        waiting = self._keys.pending()
        fingerprint = _fingerprint(request.args)
        owner = request.args.get("all_of")
        if owner:
            chosen = self._kin(waiting, str(owner), fingerprint)
        else:
            chosen = [self._one(waiting, str(request.args.get("which") or ""))]
            if not chosen[0].fingerprint.startswith(fingerprint):
                raise _another(self._label(chosen[0]), chosen[0])
        if not request.args.get("without_old"):
            self._refuse_without_old(chosen)
        approved = [await self._pin(one, self._spent(one), "at the console") for one in chosen]
        return {"schema": "meshkeep.key-approve/1", "approved": approved}

    async def refuse(self, request: Request) -> dict[str, Any]:
        """Forget what was offered. It is refused again if it comes again."""
        one = self._one(self._keys.pending(), str(request.args.get("which") or ""))
        terms, spent = await self._terms(), self._spent(one)
        if terms is not None and spent:
            with contextlib.suppress(errors.NotFound):
                await self._zfs.set(f"{terms.root}/{one.owner}/{one.dataset}", {WORD: str(spent)})
        self._keys.forget(one.owner, one.dataset)
        log.warning("the key offered for %s was refused at the console", self._label(one))
        return {"schema": "meshkeep.key-refuse/1", "refused": self._as_json(one, [])}

    # -- the recovery key --------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Pin what waits and the recovery key approved. Its word is of these two keys, and good once."""
        words = {(one.owner, one.dataset, one.pinned, one.offered): one for one in self._words()}
        for one in self._keys.pending() if words else ():
            word = words.get((one.owner, one.dataset, one.pinned, one.fingerprint))
            if word is None or not await self._fresh(word):
                continue
            if not self._keys.has(one.owner, one.dataset, one.pinned):
                log.warning(
                    "the recovery key approves a key of %s, but the old one is lost", self._label(one)
                )
                continue
            with contextlib.suppress(MeshkeepError):  # what it was for is gone, and that is told
                await self._pin(one, word.version, "by the recovery key")

    async def _fresh(self, word: Approval) -> bool:
        """Whether the word was not spent, and what it would replace is what is pinned. Only what stands on the replica
        itself counts, not what it has from the one above it."""
        terms = await self._terms()
        if terms is None:
            return False
        try:
            found = await self._zfs.get(f"{terms.root}/{word.owner}/{word.dataset}", [KEY, WORD])
        except errors.NotFound:
            return False
        pinned, spent = found[KEY], found[WORD]
        known = int(spent.value) if spent.source == "local" and spent.value.isdecimal() else 0
        return (pinned.source, pinned.value) == ("local", word.pinned) and word.version > known

    def _spent(self, one: Pending) -> int:
        """The version of the newest word of the recovery key about that replica, 0 for none: root here has the last."""
        about = (one.owner, one.dataset)
        return max((word.version for word in self._words() if (word.owner, word.dataset) == about), default=0)

    async def offered(self, owners: Collection[str] | None) -> dict[str, Any]:
        """For peers: what waits of the replicas of *owners*, None for all of them."""
        waiting = [one for one in self._keys.pending() if owners is None or one.owner in owners]
        return {"offered": [self._as_json(one, waiting) for one in waiting]}

    async def _pin(self, one: Pending, spent: int, how: str) -> dict[str, Any]:
        """Archived first, then pinned, then forgotten: after a crash in between it is approved again."""
        terms = await self._terms()
        dataset = f"{terms.root}/{one.owner}/{one.dataset}" if terms else ""
        try:
            if not terms or not await self._zfs.snapshots(dataset):
                raise errors.NotFound(dataset)
        except errors.NotFound:
            self._keys.forget(one.owner, one.dataset)
            raise MeshkeepError(
                f"nothing is stored of {self._label(one)} any more",
                code="no_replica",
                exit=Exit.NOT_FOUND,
                why="what waited for it is forgotten",
            ) from None
        changes = {KEY: one.fingerprint} | ({WORD: str(spent)} if spent else {})
        async with self._keys.turn:
            self._keys.keep(one.owner, one.dataset, one.fingerprint, one.payload)
            await self._zfs.set(dataset, changes)
        self._keys.forget(one.owner, one.dataset)
        log.warning(
            "key %s of %s was approved %s, in place of %s",
            short(one.fingerprint),
            self._label(one),
            how,
            short(one.pinned),
        )
        return self._as_json(one, [])

    def _refuse_without_old(self, chosen: Iterable[Pending]) -> None:
        """A wrong approval is mended with the old wrap; without it, it could not be. Raises MeshkeepError."""
        lost = [self._label(one) for one in chosen if not self._keys.has(one.owner, one.dataset, one.pinned)]
        if lost:
            raise MeshkeepError(
                f"not approved: the key that {lost[0]} is stored under is not in the archive here",
                code="old_key_lost",
                exit=Exit.REFUSED,
                why="if the new one turned out to be somebody else's, the old one could not be put back",
                hint="if you are certain, once more with --without-old",
            )

    # -- finding -----------------------------------------------------------------------------------------------

    def _label(self, one: Pending) -> str:
        return f"{self._named(one.owner)}:{one.dataset}"

    def _one(self, waiting: Iterable[Pending], which: str) -> Pending:
        """What waits for OWNER:DATASET, the owner by name or id. Raises MeshkeepError."""
        owner, _, dataset = which.partition(":")
        found = [one for one in waiting if self._is(one, owner) and one.dataset == dataset]
        if not found:
            raise MeshkeepError(
                f"no key waits for {which or 'that'}", code="nothing_pending", exit=Exit.NOT_FOUND, hint=LOOK
            )
        if len(found) > 1:
            raise MeshkeepError(
                f"{which} could be that of several nodes",
                code="ambiguous",
                exit=Exit.USAGE,
                why="it has: " + ", ".join(f"{one.owner}:{one.dataset}" for one in found),
            )
        return found[0]

    def _is(self, one: Pending, owner: str) -> bool:
        return owner in (one.owner, self._named(one.owner))

    def _kin(self, waiting: Iterable[Pending], owner: str, fingerprint: str) -> list[Pending]:
        """The one with that fingerprint, and what waits under the same passphrase. Raises MeshkeepError."""
        waiting = [one for one in waiting if self._is(one, owner)]
        named = [one for one in waiting if one.fingerprint.startswith(fingerprint)]
        if not named:
            raise MeshkeepError(
                f"no key {fingerprint} waits for a dataset of {owner}",
                code="nothing_pending",
                exit=Exit.NOT_FOUND,
                hint=LOOK,
            )
        return [one for one in waiting if one in named or _same_passphrase(one, named[0])]

    def _as_json(self, one: Pending, waiting: Iterable[Pending]) -> dict[str, Any]:
        """`kin` are the others that wait under the same passphrase: an encryption root and what inherits from it."""
        kin = [other.dataset for other in waiting if other != one and _same_passphrase(other, one)]
        return {
            "owner": one.owner,
            "node": self._named(one.owner),
            "by": self._named(one.by),
            "dataset": one.dataset,
            "pinned": one.pinned,
            "offered": one.fingerprint,
            "since": one.since,
            "kin": kin,
        }


def _same_passphrase(one: Pending, other: Pending) -> bool:
    return one.owner == other.owner and one.passphrase is not None and one.passphrase == other.passphrase


def _fingerprint(args: dict[str, Any]) -> str:
    """As much of it as was typed. Raises MeshkeepError if that is too little to mean one key."""
    text = str(args.get("fingerprint") or "").lower()
    if not re.fullmatch(rf"[0-9a-f]{{{SHORT},64}}", text):
        raise MeshkeepError(
            f"{text!r} is not the fingerprint of a key",
            code="bad_fingerprint",
            exit=Exit.USAGE,
            why=f"it has {SHORT} letters or more, 0-9 and a-f",
            hint=LOOK,
        )
    return text


def _another(label: str, one: Pending) -> MeshkeepError:
    return MeshkeepError(
        f"that is not the key that waits for {label}",
        code="another_key",
        exit=Exit.REFUSED,
        why=f"it is {short(one.fingerprint)}; another may have been offered since you looked",
        hint=LOOK,
    )
