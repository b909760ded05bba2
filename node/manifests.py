"""This node's manifest: made from its datasets and configuration, sealed, sent to the targets of its rules, fetched.

Its readers are this node, the recovery key, and the admins of the mesh: when a host has burned its key has too, and an
admin who may invite a successor may as well give that one its manifest. Vaults are never among them.
"""

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mesh.codec import Malformed, from_base64, to_base64
from mesh.identity import BadWords, Identity, genesis_from_words, mesh_id
from mesh.link_errors import LinkError, PeerRefused
from mesh.sealed import BadSeal, NotAReader, Opened, open_sealed, read_inside, readers_of, seal
from mesh.store import write_durably
from node.errors import Exit, MeshkeepError
from node.manifest_desk import PURPOSE
from node.membership import Membership
from node.replicator import Peer
from node.status import Problem
from replication.ledger import Ledger
from replication.manifest import BadManifest, DatasetFacts, Manifest, decode, digest, encode, fitted
from zfs.door import Zfs

log = logging.getLogger(__name__)

ASK_S = 20.0
OURS = "meshkeep:"
"""User properties of the agent's own: its state, which is of no use elsewhere."""


@dataclass(frozen=True, slots=True)
class Found:
    """A manifest that was opened and verified: from whom it came, when it arrived there, and by whose key it opened."""

    manifest: Manifest
    node: str
    received: int
    by: str


@dataclass(slots=True)
class Gathered:
    """The newest of each owner, newest first, and what could not be had or opened."""

    found: list[Found] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def ledger(self, owner: str, dataset: str) -> tuple[Ledger | None, str]:
        """What *owner* sent of *dataset*, and the node whose copy of the manifest says so."""
        for one in self.found:
            for ledger in one.manifest.sent if one.manifest.owner == owner else ():
                if ledger.dataset == dataset:
                    return ledger, one.node
        return None, ""

    def facts(self, dataset: str) -> DatasetFacts | None:
        """What the newest says that knows *dataset*."""
        told = (one.manifest.facts(dataset) for one in self.found)
        return next((one for one in told if one is not None), None)


class Manifests:
    """`rules` gives (dataset, name of its target) of all that is replicated; `files` those of the configuration."""

    def __init__(
        self,
        zfs: Zfs,
        mesh: Membership,
        state: Path,
        *,
        rules: Callable[[], Iterable[tuple[str, str]]],
        config: Path,
        files: Callable[[], Sequence[Path]],
        now: Callable[[], float],
        hostname: Callable[[], str] = socket.gethostname,
        sent: Callable[[], Mapping[str, Ledger]] = dict,
    ) -> None:
        self._sent_lists = sent
        self._zfs = zfs
        self._mesh = mesh
        self._sent_file = state / "manifests-sent.json"
        self._rules = rules
        self._config = config
        self._files = files
        self._now = now
        self._hostname = hostname
        self._failed: dict[str, str] = {}

    # -- making and sending ------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Send it to each target that has not got what would be sent now. Raises ZfsError, OSError, MeshkeepError."""
        rules = list(self._rules())
        if not rules or self._mesh.my_role() not in ("admin", "member"):
            self._failed.clear()
            return
        targets = self._targets(name for _, name in rules)
        manifest = await self.make(dataset for dataset, _ in rules)
        try:
            body = encode(manifest)
        except BadManifest as error:
            raise _cannot_be_made(error) from error
        readers = self.readers()
        state = digest(manifest) + "".join(sorted(one.hex() for one in readers))
        sent = self._sent()
        due = [peer for peer in targets if sent.get(peer.id) != state]
        self._failed = {name: why for name, why in self._failed.items() if name in {one.name for one in due}}
        if not due:
            return
        data = seal(self._mesh.identity, self._mesh.view().mesh_id, PURPOSE, body, readers)
        done = await asyncio.gather(*(self._put(peer, data) for peer in due))
        arrived = {peer.id: state for peer, stored in zip(due, done, strict=True) if stored}
        if arrived:
            known = {peer.id for peer in targets}
            left = {node: told for node, told in sent.items() if node in known}
            write_durably(self._sent_file, json.dumps(left | arrived, sort_keys=True).encode())

    async def make(self, datasets: Iterable[str]) -> Manifest:
        """What it would say now, with as much of the lists of what was sent as there is room for. Raises ZfsError,
        OSError.
        """
        wanted = set(datasets)
        here = [one for one in await self._zfs.datasets() if one.name in wanted]
        names = [one.name for one in here]
        own = await self._zfs.own_properties(names)
        places = await self._zfs.mountpoints(names)
        me = self._mesh.me()
        made = Manifest(
            owner=me.id,
            node=me.name,
            hostname=self._hostname(),
            made=int(self._now()),
            datasets=tuple(
                DatasetFacts(
                    one.name,
                    one.kind,
                    one.encryption_root,
                    places[one.name],
                    {name: value for name, value in own[one.name].items() if not name.startswith(OURS)},
                )
                for one in sorted(here, key=lambda one: one.name)
            ),
            files={
                path.relative_to(self._config).as_posix(): path.read_text(encoding="utf-8")
                for path in self._files()
            },
            sent=tuple(self._sent_lists().values()),
        )
        return fitted(made)

    def readers(self) -> frozenset[bytes]:
        """Who opens it: this node, the recovery key, the admins."""
        trust = self._mesh.trust
        genesis = trust.genesis.value.genesis_public if trust is not None and trust.genesis else None
        admins = {one.public for one in self._mesh.view().active() if one.role == "admin"}
        return frozenset({self._mesh.identity.public, *admins, *([genesis] if genesis else [])})

    def problems(self) -> list[Problem]:
        """Targets that would not take it. One that is away gets it when it is back."""
        return [
            Problem("manifest_not_sent", f"{name} does not take the manifest of this node: {why}")
            for name, why in sorted(self._failed.items())
        ]

    def _targets(self, names: Iterable[str]) -> list[Peer]:
        view = self._mesh.view()
        members = [view.by_name(name) for name in sorted(set(names))]
        return [self._mesh.peer(one.id) for one in members if one is not None]

    async def _put(self, peer: Peer, data: bytes) -> bool:
        try:
            await self._mesh.link().call(
                peer.address, "manifest.put", {"data": to_base64(data)}, timeout=ASK_S
            )
        except PeerRefused as error:
            self._failed[peer.name] = str(error)
            return False
        except LinkError as error:
            log.info("%s did not get the manifest: %s", peer.name, error)
            return False
        self._failed.pop(peer.name, None)
        return True

    def _sent(self) -> dict[str, str]:
        """Losing it, or rubbish in it, only has everything sent once more."""
        try:
            raw = json.loads(self._sent_file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {str(node): str(told) for node, told in raw.items()} if isinstance(raw, dict) else {}

    # -- fetching ----------------------------------------------------------------------------------------------

    async def fetch(
        self, peers: Sequence[Peer], owner: str | None = None, recovery: Identity | None = None
    ) -> Gathered:
        """The newest manifest of each node that is ours (or of *owner*), from all of *peers*.

        Opened with this node's key or the *recovery* key if it is among the readers, else by an admin.
        """
        owners = [one for one in self._mesh.owned_by(self._mesh.me().id) if owner in (None, one)]
        gathered = Gathered()
        asked = [(peer, one) for peer in peers for one in owners]
        answers = await asyncio.gather(*(self._get(peer, one, gathered) for peer, one in asked))
        newest: dict[str, Found] = {}
        for (peer, whose), stored in zip(asked, answers, strict=True):
            if stored is None:
                continue
            data, received = stored
            opened = await self._opened(peer, whose, data, recovery, gathered)
            if opened is None:
                continue
            manifest, by = opened
            if whose not in newest or manifest.made > newest[whose].manifest.made:
                newest[whose] = Found(manifest, peer.name, received, by)
        gathered.found = sorted(newest.values(), key=lambda one: -one.manifest.made)
        return gathered

    async def _get(self, peer: Peer, owner: str, gathered: Gathered) -> tuple[bytes, int] | None:
        try:
            answer = await self._mesh.link().call(
                peer.address, "manifest.get", {"owner": owner}, timeout=ASK_S
            )
            if answer.get("data") is None:
                return None
            return from_base64(str(answer["data"])), int(answer["received"])
        except LinkError as error:
            gathered.problems.append(f"{peer.name}: {error}")
        except (Malformed, KeyError, TypeError, ValueError) as error:
            gathered.problems.append(f"{peer.name} answers nonsense: {error}")
        return None

    async def _opened(
        self, peer: Peer, owner: str, data: bytes, recovery: Identity | None, gathered: Gathered
    ) -> tuple[Manifest, str] | None:
        """Open and judge one; what is wrong with it goes to the problems."""
        view = self._mesh.view()
        try:
            opened, by = await self._unsealed(owner, data, recovery)
            if opened.signer != view.members[owner].public:
                raise BadSeal("another node signed it")
            manifest = decode(opened.body)
            if manifest.owner != owner:
                raise BadManifest("it speaks of another node")
        except (BadSeal, BadManifest) as error:
            gathered.problems.append(f"the manifest on {peer.name} is not used: {error}")
            return None
        return manifest, by

    async def _unsealed(self, owner: str, data: bytes, recovery: Identity | None) -> tuple[Opened, str]:
        """Raises BadSeal; NotAReader where nobody that can be asked opens it."""
        mesh = self._mesh.view().mesh_id
        for key, by in ((self._mesh.identity, "the key of this node"), (recovery, "the recovery key")):
            if key is not None and key.public in readers_of(data):
                return open_sealed(data, key, mesh, PURPOSE), by
        refused = []
        for admin in self._admins():
            try:
                answer = await self._mesh.link().call(
                    admin.address, "manifest.open", {"owner": owner, "data": to_base64(data)}, timeout=ASK_S
                )
                return read_inside(from_base64(str(answer["inside"])), mesh, PURPOSE), admin.name
            except (LinkError, Malformed, KeyError) as error:
                refused.append(f"{admin.name}: {error}")
        raise NotAReader(
            "this node's key does not open it, nor did an admin" + "".join(f"; {one}" for one in refused)
        )

    def _admins(self) -> list[Peer]:
        active = self._mesh.view().active()
        return [self._mesh.peer(m.id) for m in active if m.role == "admin" and m.id != self._mesh.identity.id]


def _cannot_be_made(error: BadManifest) -> MeshkeepError:
    return MeshkeepError(f"the manifest of this node cannot be made: {error}", code="bad_manifest")


def as_json(gathered: Gathered) -> dict[str, Any]:
    """For a command to show."""
    return {
        "found": [
            {
                "owner": one.manifest.owner,
                "name": one.manifest.node,
                "hostname": one.manifest.hostname,
                "made": one.manifest.made,
                "node": one.node,
                "opened_by": one.by,
                "datasets": len(one.manifest.datasets),
                "files": sorted(one.manifest.files),
            }
            for one in gathered.found
        ],
        "problems": gathered.problems,
    }


def recovery_key(mesh: Membership, words: Any) -> Identity | None:
    """The key that the recovery words hold; None for no words. Raises MeshkeepError for words of another mesh."""
    if words is None:
        return None
    if not isinstance(words, list) or not all(isinstance(one, str) for one in words):
        raise MeshkeepError("the recovery words are no list of words", code="bad_words", exit=Exit.USAGE)
    try:
        key = genesis_from_words(words)
    except BadWords as error:
        raise MeshkeepError(str(error), code="bad_words", exit=Exit.USAGE) from error
    if mesh_id(key.public) != mesh.view().mesh_id:
        raise MeshkeepError(
            "these are the recovery words of another mesh", code="bad_words", exit=Exit.REFUSED
        )
    return key
