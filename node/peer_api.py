"""What a peer may ask over the mesh: who it is comes from its address, what it may from its admission."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from mesh.link_errors import Refusal
from mesh.link_server import IncomingStream
from mesh.trust import Member
from node.exchange import Exchange
from node.manifest_desk import ManifestDesk
from node.membership import Membership
from node.offers import dataset_of
from node.peer_rules import judge
from node.replicas import Replicas

Answer = Callable[[Member, dict[str, Any], IncomingStream], Awaitable[dict[str, Any]]]


class PeerApi:
    """The handler of the link server. `refused` counts the streams that were not taken, by code."""

    def __init__(
        self,
        mesh: Membership,
        exchange: Exchange,
        replicas: Replicas,
        manifests: ManifestDesk,
        more: Mapping[str, Answer] = MappingProxyType({}),
    ) -> None:
        self._mesh = mesh
        self._exchange = exchange
        self._replicas = replicas
        self._manifests = manifests
        self.refused: Counter[str] = Counter()
        self._answers: Mapping[str, Answer] = {
            "mesh.sync": self._sync,
            "mesh.push": self._push,
            "replica.state": self._state,
            "replica.states": self._states,
            "replica.list": self._list,
            "replica.receive": self._receive,
            "replica.abort": self._abort,
            "replica.rotate": self._rotate,
            "replica.send": self._send,
            "replica.wraps": self._wraps,
            "manifest.put": lambda caller, args, _: self._manifests.put(caller, args),
            "manifest.get": lambda caller, args, _: self._manifests.get(caller, args),
            "manifest.open": lambda caller, args, _: self._manifests.open(caller, args),
            **more,
        }

    async def __call__(
        self, caller: str, verb: str, args: dict[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        member = self._mesh.caller(caller)
        if member is None:
            raise Refusal("not_admitted", "this node is not in the mesh, or not any more", "", exit=8)
        denied = judge(verb, member.role, self._mesh.my_role())
        if denied is not None:
            raise Refusal(denied.code, denied.text, denied.hint, exit=7)
        return await self._answers[verb](member, args, stream)

    async def _sync(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return self._exchange.answer(caller, args)

    async def _push(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return self._exchange.accept(caller, args)

    async def _state(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return await self._replicas.state(self._mesh.owned_by(caller.id), dataset_of(args))

    async def _states(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return await self._replicas.states(self._mesh.owned_by(caller.id), args)

    async def _list(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return await self._replicas.listing(self._mesh.owned_by(caller.id), args)

    async def _receive(self, caller: Member, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        try:
            return await self._replicas.receive(self._mesh.owned_by(caller.id), args, stream)
        except Refusal as refusal:
            self.refused[refusal.code] += 1
            raise

    async def _abort(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return await self._replicas.abort(self._mesh.owned_by(caller.id), dataset_of(args))

    async def _wraps(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return await self._replicas.wraps(self._mesh.owned_by(caller.id), args)

    async def _rotate(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        return await self._replicas.rotate(self._mesh.owned_by(caller.id), args)

    async def _send(self, caller: Member, args: dict[str, Any], stream: IncomingStream) -> dict[str, Any]:
        return await self._replicas.send(self._mesh.owned_by(caller.id), args, stream)
