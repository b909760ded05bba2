"""Coming into a mesh by an invite: the guest's side of the door. Handler of the local API."""

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from mesh.door import GuestDoor, GuestKeys, NobodyThere
from mesh.endpoints import Endpoint, NamedEndpoint
from mesh.frames import FrameError, read_frame, write_frame
from mesh.identity import x25519_public
from mesh.invite import BadInvite, Token
from mesh.join import Finished, Joiner, Keep, Output, Refused, Send, Welcomed
from mesh.objects import Record, sign
from node.admission import checked_name, host_name
from node.api import Request
from node.errors import Exit, MeshkeepError
from node.membership import Membership
from node.resolver import look_up_once
from node.version import version

log = logging.getLogger(__name__)

DIALLING_TIMEOUT = 60.0
WAITING_TIMEOUT = 24 * 3600.0
ATTEMPT_TIMEOUT = 60.0


class Joining:
    """One join at a time. Nothing of a mesh is kept before its issuer has admitted this node."""

    def __init__(
        self,
        membership: Membership,
        door: Callable[[], GuestDoor],
        *,
        own_record: Callable[[], Awaitable[tuple[int, tuple[Endpoint, ...]]]],
        joined: Callable[[], Awaitable[None]],
        now: Callable[[], float] = time.time,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        look_up: Callable[[Iterable[NamedEndpoint]], Awaitable[list[Endpoint]]] = look_up_once,
    ) -> None:
        self._mesh = membership
        self._door = door
        self._own_record = own_record
        self._joined = joined
        self._now = now
        self._steady = steady
        self._look_up = look_up
        self._turn = asyncio.Lock()

    async def join(self, request: Request) -> dict[str, Any]:
        """``join``. Raises MeshkeepError; then nothing has changed."""
        if self._mesh.joined:
            raise MeshkeepError(
                "this host is in a mesh already",
                code="already_joined",
                exit=Exit.REFUSED,
                hint="meshkeep status",
            )
        if self._turn.locked():
            raise MeshkeepError("another join is under way on this host", code="joining", exit=Exit.REFUSED)
        token = self._parse(str(request.args.get("invite") or ""))
        if (wanted := request.args.get("name")) is not None:
            checked_name(wanted, "this node")
        waiting = bool(request.args.get("wait"))
        if not waiting and not token.endpoints and not token.names:
            raise MeshkeepError(
                "the invite names no address to dial",
                code="no_endpoints",
                exit=Exit.REFUSED,
                hint="meshkeep join --wait here, then meshkeep invite dial ID ADDRESS where it was made",
            )
        timeout = float(request.args.get("timeout") or (WAITING_TIMEOUT if waiting else DIALLING_TIMEOUT))
        async with self._turn:
            door = self._door()
            try:
                await self._enter(door, token, () if waiting else await self._to_dial(token))
                await request.progress({"state": "waiting" if waiting else "dialling"})
                return await self._until(door, token, request, self._steady() + timeout)
            finally:
                await door.close()

    async def _to_dial(self, token: Token) -> tuple[Endpoint, ...]:
        """Raises MeshkeepError where the names lead nowhere and there is no address."""
        found = tuple(dict.fromkeys([*await self._look_up(token.names), *token.endpoints]))
        if not found:
            raise MeshkeepError(
                f"{token.names[0].name} cannot be looked up",
                code="name_unknown",
                exit=Exit.NO_PEER,
                why="the invite names no address beside it",
                hint=f"getent ahosts {token.names[0].name}",
            )
        return found

    def _parse(self, text: str) -> Token:
        try:
            return Token.parse(text).check(int(self._now()))
        except BadInvite as error:
            raise _no_good(error) from None

    @staticmethod
    async def _enter(door: GuestDoor, token: Token, endpoints: tuple[Endpoint, ...]) -> None:
        keys = token.door()
        guest = GuestKeys(keys.private, keys.psk, keys.guest_address, token.door_public, keys.issuer_address)
        await door.enter(guest, endpoints)

    async def _until(
        self, door: GuestDoor, token: Token, request: Request, deadline: float
    ) -> dict[str, Any]:
        """Try until admitted, refused, or out of time: a conversation that breaks is begun again."""
        while True:
            try:
                reader, writer = await door.connect(deadline)
            except NobodyThere as error:
                raise MeshkeepError(
                    "the issuer of the invite does not answer",
                    code="issuer_unreachable",
                    exit=Exit.NO_PEER,
                    why=str(error),
                    hint="meshkeep join --wait here, then meshkeep invite dial ID ADDRESS where it was made",
                ) from None
            await request.progress({"state": "talking"})
            try:
                async with asyncio.timeout(ATTEMPT_TIMEOUT):
                    return await self._converse(reader, writer, token, request)
            except BadInvite as error:  # it expired while this node waited to be dialled
                raise _no_good(error) from None
            except (FrameError, OSError, TimeoutError) as error:
                log.info("the join was interrupted (%s); trying again", error)
            finally:
                writer.close()

    async def _converse(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        token: Token,
        request: Request,
    ) -> dict[str, Any]:
        name = request.args.get("name") or token.name or host_name()
        key = x25519_public(self._mesh.wireguard_key)
        joiner = Joiner(self._mesh.identity, key, token, name, secrets.token_bytes(16), int(self._now()))
        outputs: list[Output] = joiner.start()
        kept: tuple[bytes, ...] = ()
        while True:
            for output in outputs:
                match output:
                    case Send(message):
                        await write_frame(writer, message)
                    case Keep(objects):
                        kept = objects
                    case Welcomed():
                        record = await self._record(token)
                        kept = (*kept, record)
                        for send in joiner.record(record):
                            if isinstance(send, Send):
                                await write_frame(writer, send.message)
                    case Refused(code, text, hint):
                        raise MeshkeepError(
                            text, code=f"join_{code}", exit=Exit.REFUSED, why="nothing was changed", hint=hint
                        )
                    case Finished():
                        return await self._finish(token, kept)
            outputs = joiner.receive(await read_frame(reader))

    async def _record(self, token: Token) -> bytes:
        port, endpoints = await self._own_record()
        record = Record(
            node_public=self._mesh.identity.public,
            version=self._mesh.store.next_version(),
            boot=secrets.token_bytes(8),
            wireguard_public=x25519_public(self._mesh.wireguard_key),
            door_public=x25519_public(self._mesh.door_key),
            port=port,
            software=version(),
            endpoints=endpoints,
        )
        return sign(self._mesh.identity, token.mesh_id, record).data

    async def _finish(self, token: Token, kept: tuple[bytes, ...]) -> dict[str, Any]:
        if token.vault is not None:
            self._mesh.local.save_terms(token.vault)
        self._mesh.enter(token.mesh_id, kept)
        await self._joined()
        me = self._mesh.me()
        return {
            "schema": "meshkeep.join/1",
            "mesh": self._mesh.view().mesh_name,
            "node": me.name,
            "id": me.id,
            "address": self._mesh.address_of(me.id),
            "role": me.role,
        }


def _no_good(error: BadInvite) -> MeshkeepError:
    return MeshkeepError(
        str(error),
        code=f"invite_{error.why}",
        exit=Exit.REFUSED if error.why == "expired" else Exit.USAGE,
        why="nothing was changed",
        hint="ask for a new invite: meshkeep invite",
    )
