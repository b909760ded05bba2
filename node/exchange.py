"""Keeping signed objects the same everywhere: answers peers who compare, and compares with peers, one a round and all
of them after something new. A vault only answers."""

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mesh.link_errors import LinkError, Refusal
from mesh.objects import Record, Report
from mesh.store import StoreError
from mesh.sync import BadSync, Digest, SignedItem, batches, digest, missing, pick
from mesh.trust import Item, Member
from node.errors import MeshkeepError
from node.membership import Membership

log = logging.getLogger(__name__)

EVERY_S = 10.0
TIMEOUT_S = 15.0
SPREAD_S = 10.0
COMPARE_S = 60.0
MAX_ROUNDS = 32
"""A peer that has ever more to say gets no more of our time in one comparison."""


class Exchange:
    """`served` gives the ids of the nodes that a vault stores for: those whose reports it may see; `reachable`
    whether a node is worth waiting for."""

    def __init__(
        self,
        membership: Membership,
        served: Callable[[str], Iterable[str]],
        rng: random.Random,
        reachable: Callable[[str], bool] = lambda _node: True,
    ) -> None:
        self._reachable = reachable
        self._mesh = membership
        self._served = served
        self._rng = rng
        self._news = asyncio.Event()

    def news(self) -> None:
        """Something changed here: tell everyone now rather than at the next round."""
        self._news.set()

    # -- answering ---------------------------------------------------------------------------------------------

    def answer(self, caller: Member, args: Mapping[str, Any]) -> dict[str, Any]:
        """``mesh.sync``: my digest, and the first batch of what the caller lacks."""
        theirs = _parsed(args.get("digest"))
        mine = list(self._for(caller))
        to_send, _ = missing(digest(mine), theirs)
        rest = batches(pick(mine, to_send))
        first = next(rest, [])
        return {
            "digest": digest(mine).as_json(),
            "items": [item.as_json() for item in first],
            "more": next(rest, None) is not None,
        }

    def accept(self, caller: Member, args: Mapping[str, Any]) -> dict[str, Any]:
        """``mesh.push``: take what is new and valid."""
        try:
            items = [SignedItem.from_json(raw) for raw in args.get("items", ())]
        except (BadSync, TypeError) as error:
            raise Refusal("bad_request", str(error)) from error
        return {"new": self._mesh.add(item.data for item in items)}

    # -- asking ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            everyone = False
            try:
                async with asyncio.timeout(EVERY_S * self._rng.uniform(0.7, 1.3)):
                    await self._news.wait()
                    everyone = True
            except TimeoutError:
                everyone = False
            self._news.clear()
            if everyone:
                await self._compare_with(self._within_reach())
            elif peers := self._peers():
                await self._compare(self._rng.choice(peers))

    async def tell_everyone(self, within: float = SPREAD_S) -> None:
        """Compare with every peer within reach now; returns when that is done, or after *within* seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within):
                await self._compare_with(self._within_reach())

    async def _compare_with(self, peers: Iterable[Member]) -> None:
        await asyncio.gather(*(self._compare(peer) for peer in peers))

    def _within_reach(self) -> list[Member]:
        """Peers that are down are left to the rounds: waiting for them would keep the news from the others."""
        return [peer for peer in self._peers() if self._reachable(peer.id)]

    def _peers(self) -> list[Member]:
        if not self._mesh.joined:
            return []
        view = self._mesh.view()
        me = view.members.get(self._mesh.identity.id)
        if me is None or not me.active or me.role == "vault":
            return []
        return [
            m for m in view.active() if m.record and m.id != me.id and not (m.role == me.role == "client")
        ]

    async def _compare(self, peer: Member) -> None:
        try:
            async with asyncio.timeout(COMPARE_S):
                await self.compare(peer)
        except (LinkError, BadSync, KeyError, TypeError, MeshkeepError, TimeoutError) as error:
            log.debug("no exchange with %s: %s", peer.name, error)
        except (OSError, StoreError) as error:
            log.error("what %s sent could not be stored: %s", peer.name, error)

    async def compare(self, peer: Member) -> None:
        """Until both know the same. Raises LinkError, BadSync."""
        link, address = self._mesh.link(), self._mesh.address_of(peer.id)
        for _ in range(MAX_ROUNDS):
            mine = list(self._for(peer))
            answer = await link.call(address, "mesh.sync", {"digest": digest(mine).as_json()}, TIMEOUT_S)
            new = self._mesh.add(SignedItem.from_json(raw).data for raw in answer["items"])
            if not answer["more"] or not new:  # what is not taken here would be sent again for ever
                break
        to_send, _ = missing(digest(mine), Digest.from_json(answer["digest"]))
        for batch in batches(pick(mine, to_send)):
            await link.call(address, "mesh.push", {"items": [item.as_json() for item in batch]}, TIMEOUT_S)

    def _for(self, viewer: Member) -> Iterable[SignedItem]:
        """What *viewer* may see."""
        trust = self._mesh.trust
        if trust is None:
            return
        view, served = trust.view(), frozenset(self._served(viewer.id))
        for item in trust.all_signed():
            if view.visible(item, viewer, served):
                yield _as_item(item)


def _as_item(item: Item) -> SignedItem:
    value = item.value
    if isinstance(value, Record):
        return SignedItem(item.oid.hex(), "record", item.author, value.version, item.data)
    if isinstance(value, Report):
        return SignedItem(item.oid.hex(), "report", item.author, value.version, item.data)
    return SignedItem(item.oid.hex(), "trust", item.author, 0, item.data)


def _parsed(raw: object) -> Digest:
    try:
        return Digest.from_json(raw)
    except BadSync as error:
        raise Refusal("bad_request", str(error)) from error
