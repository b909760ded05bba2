"""The signed words about what nodes keep for others: which of them count here, signing new ones, telling people."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from mesh.decrees import ApproveKey, Decree, Shorten, Veto
from mesh.identity import Identity, mesh_id, node_id
from mesh.objects import Signed, sign
from mesh.trust import Member
from node.errors import Exit, MeshkeepError
from node.manifests import recovery_key
from node.membership import Membership
from node.promises import Words, span
from node.status import Problem
from replication.terms import Ask

SHOWN = 30 * 86400
"""Seconds for which a node that is not itself told shows a word of the recovery key, from when it heard it."""


@dataclass(frozen=True, slots=True)
class Approval:
    """The recovery key's word that a wrapped key may take the place of another; fingerprints in hex."""

    owner: str
    dataset: str
    pinned: str
    offered: str
    version: int


class Decrees:
    """`heard` remembers when (epoch seconds) this node first heard of each; it is asked with all that are known."""

    def __init__(
        self,
        mesh: Membership,
        *,
        heard: Callable[[Iterable[str], int], Mapping[str, int]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._mesh = mesh
        self._heard = heard
        self._now = now

    # -- what counts -------------------------------------------------------------------------------------------

    def words(self) -> Words:
        """What is said to this node about floors."""
        me = self._mesh.identity.public
        asks = {
            node_id(one.value.owner_public): Ask(one.oid.hex(), one.value.version, one.value.floor)
            for one in self._shortenings()
            if one.value.target_public == me
        }
        return Words(asks, frozenset(oid.hex() for oid in self._vetoed()))

    def approvals(self) -> list[Approval]:
        """What is said to this node about keys."""
        me = self._mesh.identity.public
        return [
            Approval(
                node_id(one.value.owner_public),
                one.value.dataset,
                one.value.pinned.hex(),
                one.value.offered.hex(),
                one.value.version,
            )
            for one in self._approvals()
            if one.value.target_public == me
        ]

    def _all(self) -> list[Signed[Decree]]:
        return self._mesh.trust.decrees() if self._mesh.trust is not None else []

    def _shortenings(self) -> Iterator[Signed[Shorten]]:
        return (cast(Signed[Shorten], one) for one in self._all() if isinstance(one.value, Shorten))

    def _approvals(self) -> Iterator[Signed[ApproveKey]]:
        return (cast(Signed[ApproveKey], one) for one in self._all() if isinstance(one.value, ApproveKey))

    def _vetoed(self) -> set[bytes]:
        """What is opposed by somebody who is an admin now, or by the recovery key itself."""
        found = set()
        for one in self._all():
            if isinstance(one.value, Veto) and self._may_object(one.signer):
                found.add(one.value.against)
        return found

    def _may_object(self, signer: bytes) -> bool:
        view = self._mesh.view()
        member = view.members.get(node_id(signer))
        return mesh_id(signer) == view.mesh_id or (
            member is not None and member.public == signer and member.active and member.role == "admin"
        )

    # -- saying ------------------------------------------------------------------------------------------------

    def shorten(self, target: Member, owner: Member, floor: int, words: Any) -> Shorten:
        """Sign with the recovery key, and keep for everyone. Raises MeshkeepError."""
        key = self._key(words)
        known = [one.value for one in self._shortenings()]
        version = self._version(
            one.version for one in known if (one.target_public, one.owner_public) == _pair(target, owner)
        )
        now = int(self._now())
        value = Shorten(key.public, target.public, owner.public, version, now, floor)
        self._publish(key, value)
        return value

    def approve(
        self, target: Member, owner: Member, dataset: str, pinned: str, offered: str, words: Any
    ) -> ApproveKey:
        """Sign with the recovery key, and keep for everyone. Raises MeshkeepError."""
        key = self._key(words)
        version = self._version(
            one.value.version
            for one in self._approvals()
            if (one.value.target_public, one.value.owner_public) == _pair(target, owner)
            and one.value.dataset == dataset
        )
        value = ApproveKey(
            key.public,
            target.public,
            owner.public,
            version,
            int(self._now()),
            dataset,
            bytes.fromhex(pinned),
            bytes.fromhex(offered),
        )
        self._publish(key, value)
        return value

    def object_to(self, target: Member, owner: Member) -> Veto:
        """As an admin: the newest word about that owner is not to take effect there. Raises MeshkeepError."""
        me = self._mesh.me()
        if me.role != "admin":
            raise MeshkeepError(
                f"only an admin can object from afar; this node is a {me.role}",
                code="not_an_admin",
                exit=Exit.NOT_PERMITTED,
                hint=f"on {target.name}: meshkeep vault cancel --owner {owner.name}",
            )
        found = next(
            (
                one
                for one in self._shortenings()
                if (one.value.target_public, one.value.owner_public) == _pair(target, owner)
            ),
            None,
        )
        if found is None:
            raise MeshkeepError(
                f"the recovery key asked nothing of {target.name} about {owner.name}, as far as is known here",
                code="nothing_waits",
                exit=Exit.NOT_FOUND,
            )
        value = Veto(me.public, target.public, owner.public, found.value.version, int(self._now()), found.oid)
        self._publish(self._mesh.identity, value)
        return value

    def _key(self, words: Any) -> Identity:
        key = recovery_key(self._mesh, words)
        if key is None:
            raise MeshkeepError("this needs the recovery words", code="bad_words", exit=Exit.USAGE)
        return key

    def _version(self, known: Iterable[int]) -> int:
        return max(int(self._now()), max(known, default=0) + 1)

    def _publish(self, key: Identity, value: Decree) -> None:
        signed = sign(key, self._mesh.view().mesh_id, value)
        if not self._mesh.add([signed.data]):
            raise MeshkeepError("this was said already, or something newer was", code="stale")

    # -- telling -----------------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """For `status` of every node but the one that is told: that one knows better what became of it."""
        if not self._mesh.joined:
            return []
        me, now, vetoed = self._mesh.identity.public, int(self._now()), self._vetoed()
        decrees = [one for one in self._all() if not isinstance(one.value, Veto)]
        heard = self._heard((one.oid.hex() for one in decrees), now)
        found = []
        for one in decrees:
            fresh = now - heard.get(one.oid.hex(), now) < SHOWN
            if fresh and one.oid not in vetoed and (one.value.target_public != me or _is_key(one)):
                found.append(self._problem(one.value))
        return found

    def _problem(self, value: Decree) -> Problem:
        target, owner = self._name(value.target_public), self._name(value.owner_public)
        if isinstance(value, ApproveKey):
            text = f"by the recovery key, {target} takes another key for {owner}:{value.dataset}"
            return Problem("key_by_recovery", text, f"meshkeep key offered {target}")
        assert isinstance(value, Shorten)
        text = (
            f"by the recovery key, {target} is to keep what {owner} stores there for {span(value.floor)} only, "
            "seven days after it heard of that, unless an admin objects"
        )
        return Problem("floor_shortening", text, f"meshkeep vault cancel {target} --owner {owner}")

    def _name(self, public: bytes) -> str:
        member = self._mesh.view().members.get(node_id(public))
        return member.name if member else node_id(public)


def _pair(target: Member, owner: Member) -> tuple[bytes, bytes]:
    return target.public, owner.public


def _is_key(one: Signed[Decree]) -> bool:
    return isinstance(one.value, ApproveKey)
