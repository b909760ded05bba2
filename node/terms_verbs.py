"""The verbs about what nodes keep for each other, here and on other nodes; and what a peer is answered about them.

What another node keeps is its own business: it is asked, or told by the recovery key's signed word, which every node
carries on and shows.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mesh.link_errors import LinkError, PeerRefused, PeerUnreachable
from mesh.link_server import IncomingStream
from mesh.trust import Member
from node.api import Api, Request
from node.decrees import Decrees
from node.errors import Exit, MeshkeepError
from node.key_archive import SHORT
from node.key_verbs import KeyApprovals
from node.membership import Membership
from node.peer_api import Answer
from node.terms_desk import TWO_WAYS, TermsDesk
from replication.terms import FOREVER, NOTICE, SHORTEST

TIMEOUT_S = 15.0
TERMS = "meshkeep.vault-terms/1"


class TermsVerbs:
    """`tell` brings what was signed here to every node within reach."""

    def __init__(
        self,
        mesh: Membership,
        desk: TermsDesk,
        decrees: Decrees,
        approvals: KeyApprovals,
        *,
        tell: Callable[[], Awaitable[None]],
    ) -> None:
        self._mesh = mesh
        self._desk = desk
        self._decrees = decrees
        self._approvals = approvals
        self._tell = tell

    def register(self, api: Api) -> None:
        """Everyone on this host may look; root changes."""
        api.register("terms.show", self.show, access="group")
        api.register("terms.extend", self.extend, access="root")
        api.register("terms.freed", self.freed, access="group")
        api.register("terms.shorten", self.shorten, access="root")
        api.register("terms.ask", self.ask, access="root")
        api.register("terms.cancel", self.cancel, access="root")
        api.register("key.offered", self.offered, access="root")
        api.register("key.approve_afar", self.approve_afar, access="root")

    # -- what a peer is answered -------------------------------------------------------------------------------

    def answers(self) -> Mapping[str, Answer]:
        """By verb."""
        return {
            "terms.show": self._answer_show,
            "terms.extend": self._answer_extend,
            "key.offered": self._answer_offered,
        }

    async def _answer_show(self, caller: Member, _args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        """An admin sees the terms of all, another node its own."""
        return await self._desk.document(self._whose(caller))

    async def _answer_extend(self, caller: Member, args: dict[str, Any], _: IncomingStream) -> dict[str, Any]:
        """Of what the caller stores here. An admin has no more to say: who is to keep what is its owner's affair, and
        floors without end on others' data would fill their quotas.
        """
        return await self._desk.extend(self._mesh.owned_by(caller.id), args.get("floor"))

    async def _answer_offered(
        self, caller: Member, _args: dict[str, Any], _: IncomingStream
    ) -> dict[str, Any]:
        """What waits, so that the recovery key can say which it means."""
        return await self._approvals.offered(self._whose(caller))

    def _whose(self, caller: Member) -> list[str] | None:
        return None if caller.role == "admin" else self._mesh.owned_by(caller.id)

    # -- looking, and lengthening ------------------------------------------------------------------------------

    async def show(self, request: Request) -> dict[str, Any]:
        """The terms of this node, or of another."""
        node = request.args.get("node")
        if node is None or self._is_here(str(node)):
            return {"schema": TERMS, "node": self._here(), "here": True} | await self._desk.document()
        answer = await self._call(str(node), "terms.show", {})
        return {"schema": TERMS, "node": str(node), "here": False} | answer

    async def extend(self, request: Request) -> dict[str, Any]:
        """Another node keeps what this one stores there for longer, from now on."""
        node, floor = str(request.args.get("node") or ""), _floor(request.args)
        answer = await self._call(node, "terms.extend", {"floor": floor})
        return {"schema": TERMS, "node": node, "here": False} | answer

    # -- at this console ---------------------------------------------------------------------------------------

    async def freed(self, request: Request) -> dict[str, Any]:
        """What a shorter floor would let go here. Changes nothing."""
        found = await self._desk.freed(_text(request.args, "owner"), _floor(request.args))
        return {"schema": "meshkeep.vault-freed/1"} | found

    async def shorten(self, request: Request) -> dict[str, Any]:
        """A shorter floor here, from now on."""
        found = await self._desk.shorten(_text(request.args, "owner"), _floor(request.args))
        return {"schema": TERMS, "node": self._here(), "here": True} | found

    # -- the recovery key --------------------------------------------------------------------------------------

    async def ask(self, request: Request) -> dict[str, Any]:
        """Sign, with the recovery key, that a node may keep what an owner stores there for a shorter time."""
        floor, words = _floor(request.args), request.args.get("words")
        target = self._member(_text(request.args, "node") or "")
        owner = self._member(_text(request.args, "owner") or self._here())
        if words is None:
            raise MeshkeepError(
                f"nobody shortens from afar what {target.name} keeps",
                code="shorter_floor",
                exit=Exit.REFUSED,
                why="whoever holds this host could have that asked",
                hint=TWO_WAYS,
            )
        value = self._decrees.shorten(target, owner, floor, words)
        await self._tell()
        return {
            "schema": "meshkeep.vault-shorten/1",
            "node": target.name,
            "owner": owner.name,
            "floor": floor,
            "version": value.version,
            "notice": NOTICE,
        }

    async def cancel(self, request: Request) -> dict[str, Any]:
        """Void what the recovery key asked: at once where it would take effect, else by an admin's signed word."""
        node = _text(request.args, "node")
        if node is None or self._is_here(node):
            owner = _text(request.args, "owner")
            if owner is None:
                raise MeshkeepError("whose?", code="no_owner", exit=Exit.USAGE, hint="--owner NODE")
            await self._desk.cancel(owner)
            return {"schema": "meshkeep.vault-cancel/1", "node": self._here(), "owner": owner, "here": True}
        target, of = self._member(node), self._member(_text(request.args, "owner") or self._here())
        self._decrees.object_to(target, of)
        await self._tell()
        return {
            "schema": "meshkeep.vault-cancel/1",
            "node": target.name,
            "owner": of.name,
            "here": False,
        }

    async def offered(self, request: Request) -> dict[str, Any]:
        """The keys that wait on another node."""
        node = _text(request.args, "node") or ""
        answer = await self._call(node, "key.offered", {})
        return {"schema": "meshkeep.key-pending/1", "pending": answer["offered"]}

    async def approve_afar(self, request: Request) -> dict[str, Any]:
        """Sign, with the recovery key, that a node may take the key that waits there."""
        node, which = _text(request.args, "node") or "", _text(request.args, "which") or ""
        prefix = (_text(request.args, "fingerprint") or "").lower()
        if len(prefix) < SHORT:
            raise MeshkeepError(
                f"{prefix!r} is not the fingerprint of a key",
                code="bad_fingerprint",
                exit=Exit.USAGE,
                why=f"it has {SHORT} letters or more",
                hint=f"meshkeep key offered {node}",
            )
        target, (owner_name, _, dataset) = self._member(node), which.partition(":")
        owner = self._member(owner_name)
        answer = await self._call(node, "key.offered", {})
        chosen = [one for one in answer["offered"] if (one["owner"], one["dataset"]) == (owner.id, dataset)]
        if not chosen or not str(chosen[0]["offered"]).startswith(prefix):
            raise MeshkeepError(
                f"the key {prefix} does not wait for {which} on {target.name}",
                code="another_key" if chosen else "nothing_pending",
                exit=Exit.REFUSED if chosen else Exit.NOT_FOUND,
                hint=f"meshkeep key offered {node}",
            )
        one = chosen[0]
        self._decrees.approve(
            target, owner, dataset, _hex(one["pinned"]), _hex(one["offered"]), request.args.get("words")
        )
        await self._tell()
        return {"schema": "meshkeep.key-approve/1", "approved": [one]}

    # -- finding -----------------------------------------------------------------------------------------------

    def _here(self) -> str:
        return self._mesh.me().name

    def _is_here(self, node: str) -> bool:
        me = self._mesh.me()
        return node in (me.name, me.id)

    def _member(self, node: str) -> Member:
        """By name, those in the mesh first; or by id. Raises MeshkeepError."""
        view = self._mesh.view()
        named = [one for one in view.members.values() if one.name == node]
        member = view.by_name(node) or view.members.get(node) or (named[0] if len(named) == 1 else None)
        if member is None:
            raise MeshkeepError(
                f"there is no node {node!r} in the mesh",
                code="no_node",
                exit=Exit.NOT_FOUND,
                hint="meshkeep status",
            )
        return member

    async def _call(self, node: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        peer = self._mesh.peer(node)
        try:
            return await self._mesh.link().call(peer.address, verb, args, TIMEOUT_S)
        except PeerRefused as refused:
            known = refused.exit in list(Exit) and refused.exit != Exit.OK
            raise MeshkeepError(
                f"{peer.name}: {refused}",
                code=refused.code,
                exit=Exit(refused.exit) if known else Exit.REFUSED,
                hint=refused.hint,
            ) from refused
        except PeerUnreachable as error:
            raise MeshkeepError(
                f"{peer.name} is not reachable",
                code="peer_unreachable",
                exit=Exit.NO_PEER,
                why=str(error),
                hint="meshkeep status",
            ) from error
        except LinkError as error:
            raise MeshkeepError(f"{peer.name}: {error}", code="peer_failed", exit=Exit.NO_PEER) from error


def _text(args: dict[str, Any], name: str) -> str | None:
    value = args.get(name)
    return value if isinstance(value, str) and value else None


def _floor(args: dict[str, Any]) -> int:
    floor = args.get("floor")
    if not isinstance(floor, int) or isinstance(floor, bool) or not SHORTEST <= floor <= FOREVER:
        raise MeshkeepError(
            "a floor is from an hour to a hundred years",
            code="bad_floor",
            exit=Exit.USAGE,
            hint="--floor 180d",
        )
    return floor


def _hex(text: Any) -> str:
    """A whole fingerprint, as the other node says it. Raises MeshkeepError."""
    if not isinstance(text, str) or len(text) != 64 or not set(text) <= set("0123456789abcdef"):
        raise MeshkeepError(
            "the other node's answer names no key", code="bad_answer", why="it may be of another version"
        )
    return text
