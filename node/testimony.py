"""What this node can know of what was sent: its own lists, the manifests of nodes it succeeds, and the heads that other
nodes remember of them. Every word of it is signed by the node it is about; who keeps it can only withhold it.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mesh.codec import Malformed, from_base64, to_base64
from mesh.identity import Identity
from mesh.link_errors import LinkError, Refusal
from mesh.objects import BadObject, Report, open_signed
from mesh.trust import Member
from node import status
from node.copies import keepers
from node.manifests import Gathered, Manifests
from node.membership import Membership
from node.replicator import Peer
from node.sent import Sent
from replication.ledger import Head
from replication.returning import Account, Witness

ASK_S = 10.0
HERE = "this host"


class Testimony(Protocol):
    """What is known, gathered once for one command."""

    async def of(self, owner: str, dataset: str) -> tuple[Account, ...]:
        """Of what *owner*, and whoever inherited from it, sent of *dataset*."""
        ...


Gather = Callable[[Identity | None], Testimony]


class Gathering:
    """`Testimony` from the whole mesh. `recovery` opens manifests that nobody else can."""

    def __init__(
        self, mesh: Membership, sent: Sent, manifests: Manifests, recovery: Identity | None = None
    ) -> None:
        self._mesh = mesh
        self._sent = sent
        self._manifests = manifests
        self._recovery = recovery
        self._gathered: asyncio.Future[Gathered] | None = None
        self._heads: dict[str, asyncio.Future[list[tuple[Peer, Mapping[str, Head]]]]] = {}

    async def of(self, owner: str, dataset: str) -> tuple[Account, ...]:
        """Also of this node itself, if it goes on where *owner* ended."""
        me = self._mesh.me()
        return tuple([await self._account(one, dataset) for one in dict.fromkeys((owner, me.id))])

    async def _account(self, owner: str, dataset: str) -> Account:
        me = self._mesh.me()
        own = self._sent.ledger(dataset) if owner == me.id else None
        if own is not None:
            return Account(own, HERE, (Witness(HERE, me.role, own.head),))
        ledger, source = (await self._manifest()).ledger(owner, dataset)
        told = [
            Witness(peer.name, peer.role, heads[dataset])
            for peer, heads in await self._remembered(owner)
            if dataset in heads
        ]
        if ledger is not None:
            role = next((one.role for one in keepers(self._mesh) if one.name == source), "")
            told.append(Witness(source, role, ledger.head))
        return Account(ledger, source, tuple(told))

    async def _manifest(self) -> Gathered:
        if self._gathered is None:
            work = self._manifests.fetch(keepers(self._mesh), None, self._recovery)
            self._gathered = asyncio.ensure_future(work)
        return await self._gathered

    async def _remembered(self, owner: str) -> Sequence[tuple[Peer, Mapping[str, Head]]]:
        if owner not in self._heads:
            self._heads[owner] = asyncio.ensure_future(self._ask_all(owner))
        return await self._heads[owner]

    async def _ask_all(self, owner: str) -> list[tuple[Peer, Mapping[str, Head]]]:
        me, public = self._mesh.me(), self._mesh.view().members[owner].public
        peers = keepers(self._mesh)
        answers = await asyncio.gather(*(self._ask(peer, owner, public) for peer in peers))
        trust = self._mesh.trust
        own = trust.report_of(public) if trust is not None and owner != me.id else None
        here = Peer(me.id, HERE, me.role, "")
        found = [(here, status.read_heads(own.value.body))] if own is not None else []
        return found + [(peer, heads) for peer, heads in zip(peers, answers, strict=True) if heads]

    async def _ask(self, peer: Peer, owner: str, public: bytes) -> Mapping[str, Head]:
        """What *peer* last heard from *owner*; nothing where it cannot be asked, or is of an earlier version."""
        try:
            answer = await self._mesh.link().call(peer.address, "sent.heads", {"owner": owner}, timeout=ASK_S)
            if answer.get("report") is None:
                return {}
            signed = open_signed(from_base64(str(answer["report"])), self._mesh.view().mesh_id)
        except (LinkError, Malformed, BadObject, KeyError):
            return {}
        if signed.signer != public or not isinstance(signed.value, Report):
            return {}
        return status.read_heads(signed.value.body)


class SentDesk:
    """What peers may ask about it."""

    def __init__(self, mesh: Membership) -> None:
        self._mesh = mesh

    async def heads(self, caller: Member, args: Mapping[str, Any]) -> dict[str, Any]:
        """The last report of a node that the caller is or succeeds, as that node signed it."""
        owner, trust = args.get("owner"), self._mesh.trust
        if (
            not isinstance(owner, str)
            or trust is None
            or not self._mesh.view().may_read_root(caller.id, owner)
        ):
            raise Refusal("not_yours", "only a node itself, or the one that succeeds it, asks for that", "")
        report = trust.report_of(self._mesh.view().members[owner].public)
        return {"report": to_base64(report.data) if report is not None else None}
