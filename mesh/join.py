"""The join as two sans-IO machines, `Joiner` and `Issuer`. Messages are JSON-able; the shell frames them.

    joiner                                              issuer
    hello(invite, keys, name, nonce)          ->
                                              <-        challenge(nonce, key, its chain, signature)
    proof(signature)                          ->        Redeem: the shell saves `used_by`, calls `redeemed`
                                              <-        welcome(admission and all visible objects)
    record(the node's signed RECORD)          ->
                                              <-        done

A `refusal(code, text, try)` may stand in place of any answer and ends the dialogue. Both signatures are
over the mesh id, the invite and its secret, both identity keys, the WireGuard key, the name and both nonces,
under a prefix per side. The joiner believes no word of the issuer, only a chain of admissions that ends at
the genesis in its token.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, cast

from mesh.codec import Malformed, from_base64, to_base64
from mesh.identity import Identity, digest, mesh_id, node_id, valid_name, verify
from mesh.invite import Accept, Invite, Refuse, Token, judge, long_invite_id
from mesh.objects import Admission, BadObject, Kind, Record, Role, Signed, open_signed, sign
from mesh.trust import Member, Trust, View

Message = dict[str, Any]
WELCOME_BUDGET = 2 * 1024 * 1024
"""Bytes of objects in a welcome, before base64: a frame is at most 4 MiB. What is left out comes by sync."""
MAX_OBJECTS = 8192


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message."""

    message: Message


@dataclass(frozen=True, slots=True)
class Redeem:
    """Judge the invite again, write `used_by` durably if accepted, then call `Issuer.redeemed`."""

    invite_id: str
    node: str


@dataclass(frozen=True, slots=True)
class Keep:
    """Store these objects durably before any later output is acted on."""

    objects: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Welcomed:
    """The joiner is admitted under this name and role; next, `Joiner.record` is due."""

    name: str
    role: Role
    issuer: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The join is complete; `node` is the id of the one who joined. Close the connection."""

    node: str


@dataclass(frozen=True, slots=True)
class Refused:
    """The join has ended without effect on the mesh. `hint` is what to try. Close the connection."""

    code: str
    text: str
    hint: str = ""


Output = Send | Redeem | Keep | Welcomed | Finished | Refused


@dataclass(frozen=True, slots=True)
class Bound:
    """Everything that both signatures of one join are over."""

    mesh_id: bytes
    secret: bytes
    node_public: bytes
    wireguard_public: bytes
    name: str
    node_nonce: bytes
    issuer_public: bytes
    issuer_nonce: bytes

    def transcript(self, side: Literal["issuer", "node"]) -> bytes:
        """The bytes that *side* signs. The secret enters as a hash: signatures may be logged."""
        parts = (
            self.mesh_id, long_invite_id(self.secret), digest(b"mk-join-secret", self.secret),
            self.node_public, self.wireguard_public, self.name.encode(),
            self.node_nonce, self.issuer_public, self.issuer_nonce,
        )  # fmt: skip
        framed = b"".join(len(part).to_bytes(2, "big") + part for part in parts)
        return b"mk-join1-" + side.encode() + b"\0" + framed


class _Broken(ValueError):
    """The other side broke the protocol. Nothing was changed."""


def _expect(message: object, kind: str) -> Message:
    if not isinstance(message, dict) or message.get("kind") != kind:
        raise _Broken(f"something else where {kind!r} belongs")
    return message


def _text(message: Message, key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise _Broken(f"{key!r} is missing")
    return value


def _bytes(message: Message, key: str, size: int | None = None) -> bytes:
    try:
        value = from_base64(_text(message, key))
    except Malformed as error:
        raise _Broken(f"{key!r}: {error}") from error
    if size is not None and len(value) != size:
        raise _Broken(f"{key!r} has {len(value)} bytes where {size} belong")
    return value


def _objects(message: Message) -> list[bytes]:
    values = message.get("objects")
    if not isinstance(values, list) or len(values) > MAX_OBJECTS:
        raise _Broken("'objects' is missing or too long")
    try:
        return [from_base64(value) for value in values if isinstance(value, str)]
    except Malformed as error:
        raise _Broken(f"'objects': {error}") from error


def _refusal(refused: Refused) -> list[Output]:
    message = {"kind": "refusal", "code": refused.code, "text": refused.text, "try": refused.hint}
    return [Send(message), refused]


class Joiner:
    """The new node's side. `nonce`: 16 random bytes; `wireguard_public`: the 32 bytes of the mesh's device.

    Raises BadInvite if the token has expired at *now* (seconds since the epoch).
    """

    def __init__(
        self,
        identity: Identity,
        wireguard_public: bytes,
        token: Token,
        name: str | None,
        nonce: bytes,
        now: int,
    ) -> None:
        if name is not None and not valid_name(name):
            raise Malformed(f"{name!r} is no valid name: lower-case letters, digits and hyphens, at most 32")
        self._identity = identity
        self._wireguard = wireguard_public
        self._token = token.check(now)
        self._name = name or token.name or ""
        self._nonce = nonce
        self._issuer = b""
        self._state = "new"

    def start(self) -> list[Output]:
        """The hello."""
        self._state = "challenge"
        message = {
            "kind": "hello",
            "invite": self._token.id,
            "node": to_base64(self._identity.public),
            "wireguard": to_base64(self._wireguard),
            "name": self._name,
            "nonce": to_base64(self._nonce),
        }
        return [Send(message)]

    def receive(self, message: object) -> list[Output]:
        """Feed one message of the issuer. Raises nothing, whatever it is: ends in a Refused at worst."""
        state, self._state = self._state, "ended"
        if isinstance(message, dict) and message.get("kind") == "refusal":
            code, text, hint = (str(message.get(key, ""))[:500] for key in ("code", "text", "try"))
            return [Refused(code, text, hint)]
        try:
            message = _expect(message, state)
            if state == "challenge":
                return self._challenge(message)
            if state == "welcome":
                return self._welcome(message)
            return [Finished(self._identity.id)]
        except _Broken as error:
            return [Refused("bad_issuer", f"the issuer's answer cannot be trusted: {error}")]

    def record(self, data: bytes) -> list[Output]:
        """After Welcomed: send the node's signed RECORD, with the WireGuard key that was bound."""
        self._state = "done"
        return [Send({"kind": "record", "record": to_base64(data)})]

    def _challenge(self, message: Message) -> list[Output]:
        self._issuer = _bytes(message, "issuer", 32)
        bound = Bound(
            mesh_id=self._token.mesh_id,
            secret=self._token.secret,
            node_public=self._identity.public,
            wireguard_public=self._wireguard,
            name=self._name,
            node_nonce=self._nonce,
            issuer_public=self._issuer,
            issuer_nonce=_bytes(message, "nonce", 16),
        )
        if not verify(self._issuer, bound.transcript("issuer"), _bytes(message, "signature", 64)):
            raise _Broken("its signature is not right")
        self._check_issuer(self._trust(_objects(message)).view())
        self._state = "welcome"
        return [
            Send({"kind": "proof", "signature": to_base64(self._identity.sign(bound.transcript("node")))})
        ]

    def _welcome(self, message: Message) -> list[Output]:
        trust = self._trust(_objects(message))
        view = trust.view()
        self._check_issuer(view)
        me = view.members.get(self._identity.id)
        if me is None or not me.active:
            raise _Broken("our admission is not in it, or does not stand")
        if me.role != self._token.role:
            raise _Broken(f"it admits us as {me.role}, and the invite says {self._token.role}")
        if self._name and me.name != self._name:
            raise _Broken(f"it names us {me.name}, and we asked for {self._name}")
        self._state = "record"
        kept = tuple(item.data for item in trust.all_signed())
        return [Keep(kept), Welcomed(me.name, me.role, node_id(self._issuer))]

    def _trust(self, objects: Iterable[bytes]) -> Trust:
        trust = Trust(self._token.mesh_id)
        for data in objects:
            trust.add(data)  # what it rejects (a newer version's, say) just does not count
        if trust.genesis is None:
            raise _Broken("the genesis of the mesh is not in it")
        return trust

    def _check_issuer(self, view: View) -> None:
        issuer = view.members.get(node_id(self._issuer))
        replaced = issuer is not None and issuer.succeeded_by == self._identity.id
        if issuer is None or issuer.role != "admin" or not (issuer.active or replaced):
            raise _Broken("it is no admin of the mesh that the invite names")


class Issuer:
    """The admin's side, for one connection. `invite`: the one whose tunnel it comes through.

    `nonce`: 16 random bytes; `now`: seconds since the epoch. Nothing is changed before `redeemed`.
    """

    def __init__(
        self, identity: Identity, trust: Trust, invite: Invite | None, now: int, nonce: bytes
    ) -> None:
        self._identity = identity
        self._trust = trust
        self._invite = invite
        self._now = now
        self._nonce = nonce
        self._bound: Bound | None = None
        self._state = "hello"

    def receive(self, message: object) -> list[Output]:
        """Feed one message of the joiner. Raises nothing, whatever it is: ends in a Refused at worst."""
        state, self._state = self._state, "ended"
        try:
            message = _expect(message, state)
            if state == "hello":
                return self._hello(message)
            if state == "proof":
                return self._proof(message)
            return self._record(message)
        except _Broken as error:
            return _refusal(Refused("bad_message", str(error), "update meshkeep on both sides"))

    def redeemed(self, verdict: Accept | Refuse) -> list[Output]:
        """After Redeem: go on with what the store decided, `used_by` being on disk by now."""
        if isinstance(verdict, Refuse):
            return _refusal(Refused(verdict.code, verdict.text, verdict.hint))
        bound = cast(Bound, self._bound)
        self._invite = verdict.invite
        if refused := self._objection(verdict.invite, bound):
            return _refusal(refused)
        node, outputs = node_id(bound.node_public), list[Output]()
        if node not in self._trust.view().members:
            outputs.append(Keep((self._admit(verdict.invite, bound).data,)))
        view = self._trust.view()
        joined = view.members.get(node)
        if joined is None or not joined.active:
            return [*outputs, *_refusal(Refused("not_admitted", "this admission does not stand in the mesh"))]
        self._state = "record"
        return [*outputs, Send({"kind": "welcome", "objects": self._visible(view, joined)})]

    def _hello(self, message: Message) -> list[Output]:
        node, wireguard = _bytes(message, "node", 32), _bytes(message, "wireguard", 32)
        nonce, name = _bytes(message, "nonce", 16), _text(message, "name")
        if name and not valid_name(name):
            raise _Broken("the name is not valid")
        named = self._invite if _text(message, "invite") == (self._invite and self._invite.id) else None
        verdict = judge(named, node_id(node), self._now)
        if isinstance(verdict, Refuse):
            return _refusal(Refused(verdict.code, verdict.text, verdict.hint))
        invite = verdict.invite
        self._bound = Bound(
            mesh_id=self._trust.mesh_id,
            secret=invite.secret,
            node_public=node,
            wireguard_public=wireguard,
            name=name,
            node_nonce=nonce,
            issuer_public=self._identity.public,
            issuer_nonce=self._nonce,
        )
        if refused := self._objection(invite, self._bound):
            return _refusal(refused)
        self._state = "proof"
        return [Send(self._challenge(self._bound))]

    def _challenge(self, bound: Bound) -> Message:
        genesis = [item.data for item in self._trust.objects(Kind.GENESIS)]
        chain = genesis + self._trust.view().chain(self._identity.id)
        return {
            "kind": "challenge",
            "issuer": to_base64(self._identity.public),
            "nonce": to_base64(self._nonce),
            "objects": [to_base64(data) for data in chain],
            "signature": to_base64(self._identity.sign(bound.transcript("issuer"))),
        }

    def _proof(self, message: Message) -> list[Output]:
        bound = cast(Bound, self._bound)
        if not verify(bound.node_public, bound.transcript("node"), _bytes(message, "signature", 64)):
            raise _Broken("the signature is not right")
        return [Redeem(cast(Invite, self._invite).id, node_id(bound.node_public))]

    def _record(self, message: Message) -> list[Output]:
        bound = cast(Bound, self._bound)
        data = _bytes(message, "record")
        try:
            value = open_signed(data, self._trust.mesh_id).value
        except BadObject as error:
            raise _Broken(str(error)) from error
        if not isinstance(value, Record) or value.node_public != bound.node_public:
            raise _Broken("not the record of the node that joins")
        if value.wireguard_public != bound.wireguard_public:
            raise _Broken("the record has another WireGuard key than the hello")
        self._trust.add(data)
        return [Keep((data,)), Send({"kind": "done"}), Finished(node_id(bound.node_public))]

    def _objection(self, invite: Invite, bound: Bound) -> Refused | None:
        """What stands against this node under this name; all of it changes nothing."""
        view = self._trust.view()
        me, known = view.members.get(self._identity.id), view.members.get(node_id(bound.node_public))
        if known is not None:
            return self._objection_to_known(known, invite, bound.name)
        if me is None or not me.active or me.role != "admin":
            return Refused(
                "not_admin", "the issuer of this invite is no longer an admin", "ask another admin"
            )
        if mesh_id(bound.node_public) == self._trust.mesh_id:
            return Refused("bad_key", "the genesis key cannot be a node")
        if invite.succeeds is not None:
            old = view.members.get(invite.succeeds)
            if old is None or old.succeeded_by is not None:
                what = "is not known here" if old is None else f"is succeeded by {old.succeeded_by} already"
                return Refused("cannot_succeed", f"node {invite.succeeds} {what}", "meshkeep status")
        return self._objection_to_name(self._fixed_name(view, invite), invite, bound.name)

    def _objection_to_name(self, fixed: str | None, invite: Invite, wanted: str) -> Refused | None:
        if fixed and wanted not in ("", fixed):
            return Refused("name_fixed", f"this invite is for the name {fixed}", f"--name {fixed}")
        name = fixed or wanted
        if not name:
            return Refused("name_missing", "the invite names no node, and the joiner neither", "--name NAME")
        holder = self._trust.view().by_name(name)
        if holder is not None and holder.id != invite.succeeds:
            return Refused("name_taken", f"the name {name} is taken by node {holder.id}", "--name OTHER")
        return None

    def _objection_to_known(self, known: Member, invite: Invite, wanted: str) -> Refused | None:
        """A known key may come again by its own invite only, and only while it is in the mesh."""
        if known.state != "active":
            return Refused(
                f"node_{known.state}", f"this key is {known.state} in this mesh", "join with a new key"
            )
        if known.invite_id != long_invite_id(invite.secret):
            return Refused("already_member", f"this node is in the mesh already, as {known.name}")
        if wanted not in ("", known.name):
            text = f"this node has joined already, as {known.name}"
            return Refused("name_fixed", text, f"--name {known.name}")
        return None

    def _fixed_name(self, view: View, invite: Invite) -> str | None:
        old = view.members.get(invite.succeeds or "")
        return invite.name or (old.name if old else None)

    def _admit(self, invite: Invite, bound: Bound) -> Signed[Any]:
        view = self._trust.view()
        old = view.members.get(invite.succeeds or "")
        admission = Admission(
            issuer_public=self._identity.public,
            node_public=bound.node_public,
            role=invite.role,
            created=self._now,
            invite_id=long_invite_id(invite.secret),
            name=self._fixed_name(view, invite) or bound.name,
            succeeds=old.public if old else None,
            keep=view.issued_by(old.id) if old else (),
        )
        signed = sign(self._identity, self._trust.mesh_id, admission)
        self._trust.add(signed.data)
        return signed

    def _visible(self, view: View, viewer: Member) -> list[str]:
        chosen: list[str] = []
        room = WELCOME_BUDGET
        for item in self._trust.all_signed():
            room -= len(item.data) if item.type > Kind.TOMBSTONE else 0
            if room >= 0 and view.visible(item, viewer):
                chosen.append(to_base64(item.data))
        return chosen
