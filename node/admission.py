"""Letting nodes in and shutting them out: init, invites and their door, evict. Handlers of the local API."""

import asyncio
import logging
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mesh.door import DoorPeer, IssuerDoor
from mesh.endpoints import BadEndpoint, Endpoint, NamedEndpoint, parse_endpoint
from mesh.frames import FrameError, read_frame, write_frame
from mesh.identity import genesis_from_words, mesh_id, new_recovery_words, valid_name, x25519_public
from mesh.invite import Accept, Invite, Refuse, VaultTerms, derive_door, door_address, judge
from mesh.join import Finished, Issuer, Keep, Output, Redeem, Refused, Send
from mesh.objects import ROLES, Genesis, Tombstone, sign
from mesh.objects import Admission as Admitted
from mesh.ports import DOOR, WIREGUARD
from mesh.trust import Member
from node.api import Request
from node.errors import Exit, MeshkeepError
from node.membership import Membership
from zfs.names import InvalidName, check_dataset

log = logging.getLogger(__name__)

TTL = 3600
DIAL_TIMEOUT = 120.0
DIALOGUE_TIMEOUT = 60.0


class Admissions:
    """The issuer's side. `joined` brings the mesh up; `expelled` takes a node's access away."""

    def __init__(
        self,
        membership: Membership,
        door: IssuerDoor,
        *,
        joined: Callable[[], Awaitable[None]],
        expelled: Callable[[Member], Awaitable[None]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._mesh = membership
        self._door = door
        self._joined = joined
        self._expelled = expelled
        self._now = now
        self._server: asyncio.Server | None = None
        self._open_for: list[DoorPeer] = []
        self._arrivals: dict[str, asyncio.Event] = {}
        self._turn = asyncio.Lock()

    # -- the first node ----------------------------------------------------------------------------------------

    async def init(self, request: Request) -> dict[str, Any]:
        """``init``: a mesh, its genesis key in words, and this node as its founder."""
        if self._mesh.joined:
            raise MeshkeepError(
                "this host is in a mesh already",
                code="already_joined",
                exit=Exit.REFUSED,
                hint="meshkeep status",
            )
        mesh_name = checked_name(request.args.get("mesh"), "the mesh")
        name = checked_name(request.args.get("name") or host_name(), "this node")
        words = new_recovery_words()
        genesis = genesis_from_words(words)
        mesh, now = mesh_id(genesis.public), int(self._now())
        founder = Admitted(
            issuer_public=genesis.public,
            node_public=self._mesh.identity.public,
            role="admin",
            created=now,
            invite_id=bytes(8),
            name=name,
        )
        objects = [
            sign(genesis, mesh, value).data for value in (Genesis(genesis.public, mesh_name, now), founder)
        ]
        self._mesh.enter(mesh, objects)
        await self._joined()
        return {
            "schema": "meshkeep.init/1",
            "mesh": mesh_name,
            "mesh_id": mesh.hex(),
            "node": name,
            "id": self._mesh.identity.id,
            "address": self._mesh.address_of(self._mesh.identity.id),
            "recovery_words": words,
        }

    # -- invites -----------------------------------------------------------------------------------------------

    async def create(self, request: Request) -> dict[str, Any]:
        """``invite.create``"""
        self._admin("invite a node")
        invite = self._wanted(request.args)
        async with self._turn:
            self._mesh.store.add_invite(invite)
            await self._open_door()
        token = invite.token(
            self._mesh.view().mesh_id,
            x25519_public(self._mesh.door_key),
            self._door_endpoints(),
            self._door_names(),
        )
        return {
            "schema": "meshkeep.invite/1",
            "id": invite.id,
            "invite": token.text,
            "expires": invite.expires,
            "role": invite.role,
        }

    def _wanted(self, args: Mapping[str, Any]) -> Invite:
        wanted = args.get("role") or "member"
        role = next((one for one in ROLES if one == wanted), None)
        if role is None:
            raise MeshkeepError(
                f"{wanted!r} is no role", code="bad_role", exit=Exit.USAGE, why=", ".join(ROLES)
            )
        name = args.get("name")
        succeeds = None
        if args.get("succeeds"):
            old = self._old(str(args["succeeds"]))
            succeeds, name = old.id, name or old.name
            if name != old.name:
                raise MeshkeepError(
                    f"who succeeds {old.name} takes its name",
                    code="bad_name",
                    exit=Exit.USAGE,
                    hint="leave out --name",
                )
        elif name is not None:
            self._free(checked_name(name, "the new node"))
        now = int(self._now())
        terms = None
        if role == "vault":
            terms = VaultTerms(_under(args.get("under")), args.get("quota"), args.get("floor_days"))
        elif any(args.get(key) for key in ("under", "quota", "floor_days")):
            raise MeshkeepError(
                "--under, --quota and --floor are terms of a vault",
                code="terms_without_vault",
                exit=Exit.USAGE,
                hint="meshkeep invite --role vault",
            )
        return Invite(
            secret=secrets.token_bytes(16),
            role=role,
            created=now,
            expires=now + int(args.get("ttl") or TTL),
            name=name,
            succeeds=succeeds,
            vault=terms,
        )

    def _old(self, name: str) -> Member:
        """The node that is to be succeeded: known, and not succeeded already."""
        view = self._mesh.view()
        member = view.by_name(name) or view.members.get(name)
        if member is None:
            member = next((m for m in view.members.values() if m.name == name and m.state == "evicted"), None)
        if member is None:
            raise MeshkeepError(
                f"there is no node {name!r} to succeed",
                code="no_node",
                exit=Exit.NOT_FOUND,
                hint="meshkeep status",
            )
        if member.id == self._mesh.identity.id:
            raise MeshkeepError(
                "this node cannot be succeeded by its own word", code="self", exit=Exit.REFUSED
            )
        return member

    def _free(self, name: str) -> None:
        if self._mesh.view().by_name(name) is not None:
            raise MeshkeepError(
                f"there is a node named {name!r} already",
                code="name_taken",
                exit=Exit.REFUSED,
                hint=f"choose another name, or meshkeep invite --succeeds {name}",
            )

    async def listing(self, _: Request) -> dict[str, Any]:
        """``invite.list``"""
        self._mesh.me()
        now = int(self._now())
        names = {m.id: m.name for m in self._mesh.view().members.values()}
        return {
            "invites": [
                {
                    "id": invite.id,
                    "role": invite.role,
                    "name": invite.name,
                    "expires": invite.expires,
                    "state": _state(invite, now),
                    "used_by": names.get(invite.used_by, invite.used_by) if invite.used_by else None,
                }
                for invite in self._mesh.store.invites()
            ]
        }

    async def revoke(self, request: Request) -> dict[str, Any]:
        """``invite.revoke``"""
        async with self._turn:
            invite = self._find(str(request.args.get("id")))
            self._mesh.store.revoke_invite(invite.id)
        return {"id": invite.id, "state": "revoked"}

    async def dial(self, request: Request) -> dict[str, Any]:
        """``invite.dial``: call the waiting node, and wait until it is in."""
        self._admin("admit a node")
        invite = self._find(str(request.args.get("id")))
        endpoint = await _resolve(str(request.args.get("address")), int(request.args.get("port") or DOOR))
        arrived = self._arrivals.setdefault(invite.id, asyncio.Event())
        keys = derive_door(invite.secret, x25519_public(self._mesh.door_key))
        timeout = float(request.args.get("timeout") or DIAL_TIMEOUT)
        verdict = judge(invite, self._mesh.identity.id, int(self._now()))
        used_by = self._mesh.view().members.get(invite.used_by or "")
        if isinstance(verdict, Refuse) and (verdict.code != "used" or (used_by and used_by.record)):
            raise MeshkeepError(
                verdict.text, code=f"invite_{verdict.code}", exit=Exit.REFUSED, hint=verdict.hint
            )
        async with self._turn:
            await self._open_door()
            await self._door.dial(keys.public, endpoint)
        await request.progress({"state": "dialling", "address": str(endpoint)})
        try:
            async with asyncio.timeout(timeout):
                await arrived.wait()
        except TimeoutError:
            raise MeshkeepError(
                f"nobody waits for invite {invite.id} at {endpoint}",
                code="nobody_there",
                exit=Exit.NO_PEER,
                why=f"no answer within {timeout:.0f} s",
                hint="on the new node: meshkeep join --wait --invite-file FILE",
            ) from None
        member = self._mesh.view().members[self._find(invite.id).used_by or ""]
        self._mesh.hint(
            member.id, Endpoint(endpoint.host, member.record.port if member.record else WIREGUARD)
        )
        await self._joined()
        return {
            "schema": "meshkeep.dial/1",
            "id": invite.id,
            "node": member.id,
            "name": member.name,
            "role": member.role,
            "address": self._mesh.address_of(member.id),
        }

    # -- the door ----------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Have the door open while an invite lives, for exactly those that do; closed otherwise."""
        async with self._turn:
            if self._server is None or self._guests() != self._open_for:
                await self._open_door()
            elif self._open_for:
                await self._door.tend()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
            await self._door.close()

    def _guests(self) -> list[DoorPeer]:
        public, now = x25519_public(self._mesh.door_key), int(self._now())
        living = [invite for invite in self._mesh.store.invites() if now < invite.expires]
        keys = [derive_door(invite.secret, public) for invite in living]
        return [DoorPeer(one.public, one.psk, one.guest_address) for one in keys]

    async def _open_door(self) -> None:
        guests = self._open_for = self._guests()
        if not guests:
            await self.close()
            return
        address = door_address(x25519_public(self._mesh.door_key))
        await self._door.open(self._mesh.door_key, address, guests)
        if self._server is None:
            self._server = await self._door.listen(self._converse)

    def _door_endpoints(self) -> tuple[Endpoint, ...]:
        record = self._mesh.me().record
        return tuple(Endpoint(one.host, DOOR) for one in (record.endpoints if record else ()))

    def _door_names(self) -> tuple[NamedEndpoint, ...]:
        record = self._mesh.me().record
        return tuple(NamedEndpoint(one.name, DOOR) for one in (record.names if record else ()))

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guest_address: str
    ) -> None:
        """One guest's join. Its address says which invite it holds."""
        public = x25519_public(self._mesh.door_key)
        invite = next(
            (
                one
                for one in self._mesh.store.invites()
                if derive_door(one.secret, public).guest_address == guest_address
            ),
            None,
        )
        assert self._mesh.trust is not None
        nonce = secrets.token_bytes(16)
        dialogue = Issuer(self._mesh.identity, self._mesh.trust, invite, int(self._now()), nonce)
        try:
            async with asyncio.timeout(DIALOGUE_TIMEOUT):
                while await self._act(dialogue, dialogue.receive(await read_frame(reader)), writer):
                    pass
        except (FrameError, TimeoutError) as error:
            log.info("a guest went away during its join: %s", error)

    async def _act(self, dialogue: Issuer, outputs: Sequence[Output], writer: asyncio.StreamWriter) -> bool:
        """Do what the dialogue says, in order; False when it is over."""
        for output in outputs:
            match output:
                case Send(message):
                    await write_frame(writer, message)
                case Redeem(id_, node):
                    return await self._act(dialogue, dialogue.redeemed(await self._redeem(id_, node)), writer)
                case Keep():
                    self._mesh.persist()
                case Refused(code, text):
                    log.warning("a join was refused (%s): %s", code, text)
                    return False
                case Finished(node):
                    await self._arrived(node)
                    return False
        return True

    async def _redeem(self, id_: str, node: str) -> Accept | Refuse:
        """Whether the node may have the invite; that it has is on disk before anyone is told."""
        async with self._turn:
            return self._mesh.store.redeem(id_, node, int(self._now()))

    async def _arrived(self, node: str) -> None:
        member = self._mesh.view().members[node]
        log.info("%s has joined as %s (%s)", member.name, member.role, node)
        await self._joined()
        for invite in self._mesh.store.invites():
            if invite.used_by == node:
                self._arrivals.setdefault(invite.id, asyncio.Event()).set()

    def _find(self, id_: str) -> Invite:
        found = [one for one in self._mesh.store.invites() if one.id == id_]
        if not found:
            raise MeshkeepError(
                f"there is no invite {id_} here",
                code="no_invite",
                exit=Exit.NOT_FOUND,
                why="an invite is known only where it was made",
                hint="meshkeep invite list",
            )
        return found[0]

    # -- out ---------------------------------------------------------------------------------------------------

    async def evict(self, request: Request) -> dict[str, Any]:
        """``evict``: gone from this host before the answer, from the others as the tombstone spreads."""
        me = self._admin("evict a node")
        view = self._mesh.view()
        name = str(request.args.get("node"))
        member = view.by_name(name) or view.members.get(name)
        if member is None or not member.active:
            raise MeshkeepError(
                f"there is no node {name!r} in the mesh",
                code="no_node",
                exit=Exit.NOT_FOUND,
                hint="meshkeep status",
            )
        if not view.may_evict(me.id, member.id):
            raise MeshkeepError(
                f"{me.name} may not evict {member.name}",
                code="above_us",
                exit=Exit.NOT_PERMITTED,
                why="an admin evicts non-admins, and admins that it admitted itself or through others",
            )
        self._mesh.issue(
            Tombstone(
                issuer_public=self._mesh.identity.public,
                node_public=member.public,
                created=int(self._now()),
                keep=view.issued_by(member.id),
            )
        )
        await self._expelled(member)
        return {"schema": "meshkeep.evict/1", "node": member.name, "id": member.id}

    def _admin(self, what: str) -> Member:
        me = self._mesh.me()
        if me.role != "admin":
            raise MeshkeepError(
                f"a {me.role} may not {what}",
                code="not_admin",
                exit=Exit.NOT_PERMITTED,
                hint="run it on an admin: meshkeep status",
            )
        return me


def _state(invite: Invite, now: int) -> str:
    if invite.used_by:
        return "used"
    if invite.revoked:
        return "revoked"
    return "expired" if now >= invite.expires else "open"


def host_name() -> str:
    name = re.sub(r"[^a-z0-9-]", "-", socket.gethostname().partition(".")[0].lower()).strip("-")
    return name[:32].strip("-")


def checked_name(text: object, whose: str) -> str:
    """Returns *text* if a node or mesh can be called that. Raises MeshkeepError."""
    if not isinstance(text, str) or not valid_name(text):
        raise MeshkeepError(
            f"{text!r} cannot be the name of {whose}",
            code="bad_name",
            exit=Exit.USAGE,
            why="a name has 1 to 32 lower-case letters, digits and inner hyphens",
            hint="--name NAME",
        )
    return text


def _under(value: object) -> str:
    if not value:
        return ""
    try:
        return check_dataset(str(value))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from error


async def _resolve(address: str, port: int) -> Endpoint:
    """An address, or a host name that this host can resolve now."""
    try:
        return parse_endpoint(address, port)
    except BadEndpoint:
        pass
    try:
        found = await asyncio.get_running_loop().getaddrinfo(address, port, type=socket.SOCK_DGRAM)
        return parse_endpoint(str(found[0][4][0]), port)
    except (OSError, BadEndpoint) as error:
        raise MeshkeepError(
            f"{address!r} cannot be dialled", code="bad_address", exit=Exit.USAGE, why=str(error)
        ) from error
