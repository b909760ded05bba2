"""Taking over a copy that syncoid or `zfs send` made: checked by guid, renamed to its owner's place, and from then on a
replica like any other, to which its owner adds incrementally.

Nothing is destroyed, received or rolled back by it. Its last step is the rename; until then the same command goes on.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable, Refusal
from node.adopt_rules import NOTE, Known, Part, judge, note, undo
from node.directory import Directory, Peer
from node.errors import Exit, MeshkeepError
from node.key_archive import KeyArchive
from node.local_streams import wrap_of
from node.recognise import MAX_GUIDS
from node.replica_places import KEY, RECEIVED, Places, Replica, Terms
from node.transfers import Workers
from replication.errors import TransferFailed
from replication.guard import FLOOR_HOLD
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look
from zfs.names import is_below, parent_of, pool_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to adopt: `dataset` here, as the copy of `source` of the node `owner` (name or id).

    `named` are datasets that the person named though they speak against it; `guids` is what a list on paper says.
    """

    dataset: str
    owner: str
    source: str
    recursive: bool = False
    unmount: bool = False
    named: frozenset[str] = frozenset()
    guids: frozenset[int] | None = None


class Adopter:
    """`only_raw` is whether this is a vault: it can ask nobody, so there the guids come on paper."""

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        keys: KeyArchive,
        directory: Directory,
        *,
        terms: Callable[[], Awaitable[Terms | None]],
        only_raw: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._workers = workers
        self._keys = keys
        self._directory = directory
        self._places = Places(zfs, terms)
        self._only_raw = only_raw
        self._now = now

    async def plan(self, wanted: Wanted) -> dict[str, Any]:
        """What `adopt` would do. Changes nothing. Raises MeshkeepError where that would be refused."""
        owner, _, parts = await self._checked(wanted)
        return _report(wanted, owner, parts, done=False)

    async def adopt(self, wanted: Wanted) -> dict[str, Any]:
        """Raises MeshkeepError; then it lies where it was, and the same again goes on."""
        owner, replica, parts = await self._checked(wanted)
        try:
            for part in reversed(parts):
                await self._zfs.unmount(part.name)
            for part in parts:
                await self._make_safe(owner, part)
            await self._places.prepare(replica)
            await self._zfs.rename(wanted.dataset, replica.dataset)
        except errors.ZfsError as error:
            raise MeshkeepError(
                f"{wanted.dataset} was not adopted",
                code="not_adopted",
                exit=Exit.FAILED,
                why=f"{error}; it is where it was, unmounted, with holds on its snapshots",
                hint="the same command goes on; is something using it? fuser -vm",
            ) from error
        log.warning("%s was adopted as %s", wanted.dataset, replica.dataset)
        return _report(wanted, owner, parts, done=True)

    async def _make_safe(self, owner: Peer, part: Part) -> None:
        """As a replica has to be, before it becomes one. What is done here again changes nothing."""
        now = int(self._now())
        before = (await self._zfs.get(part.name, [NOTE]))[NOTE]
        told = note(part, now, before.value if before.source == "local" else None)
        await self._zfs.set(part.name, {NOTE: told, **part.sets})
        for name in part.inherits:
            await self._zfs.inherit(part.name, name)
        if part.foreign:
            return
        if part.look.dataset.encrypted:
            await self._pin(owner, part)
        await self._zfs.hold(FLOOR_HOLD, [one.full_name for one in part.look.snapshots])
        # A receipt that came with the stream is another node's.
        names = [one.full_name for one in part.look.snapshots]
        await self._zfs.set_all(names, {RECEIVED: str(now)})

    async def _pin(self, owner: Peer, part: Part) -> None:
        """The wrapped key that it has now is the one that its next stream must carry."""
        try:
            wrap = await wrap_of(self._workers, part.look.snapshots[-1].full_name)
        except TransferFailed as error:
            raise MeshkeepError(
                f"the wrapped key of {part.name} cannot be read", code=error.code, why=error.text
            ) from error
        if wrap is not None:
            self._keys.keep(owner.id, part.source, wrap.fingerprint, wrap.payload)
            await self._zfs.set(part.name, {KEY: wrap.fingerprint})

    # -- looking -----------------------------------------------------------------------------------------------

    async def _checked(self, wanted: Wanted) -> tuple[Peer, Replica, list[Part]]:
        owner = self._directory.peer(wanted.owner)
        if owner.role not in ("admin", "member"):
            raise _refused(
                f"{owner.name} is a {owner.role} and owns no dataset",
                "role_owns_nothing",
                "",
                "meshkeep status",
            )
        try:
            replica = await self._places.find([owner.id], wanted.source)
            root = (await self._places.terms()).root
        except Refusal as error:
            raise MeshkeepError(error.text, code=error.code, exit=Exit.REFUSED, hint=error.hint) from error
        _check_place(wanted, replica, root, owner)
        parts = await self._parts(wanted, replica, owner)
        judge(
            parts,
            owner=owner.name,
            only_raw=self._only_raw(),
            named=wanted.named,
            unmount=wanted.unmount,
        )
        return owner, replica, parts

    async def _parts(self, wanted: Wanted, replica: Replica, owner: Peer) -> list[Part]:
        try:
            tree = [one.name for one in await self._zfs.datasets(wanted.dataset)]
            own = await self._zfs.own_properties(tree)
        except errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {wanted.dataset} here",
                code="no_dataset",
                exit=Exit.NOT_FOUND,
                hint="zfs list",
            ) from None
        others = [one for one in tree[1:] if one not in wanted.named]
        if others and not wanted.recursive:
            raise _refused(
                f"{wanted.dataset} has {len(others)} datasets below it, which would come along",
                "has_children",
                ", ".join(others[:5]),
                f"if they are copies of what is below {wanted.source}: -r",
            )
        parts = []
        for name in tree:
            below = name.removeprefix(wanted.dataset)
            source = wanted.source + below
            look = await self._zfs.look(name)
            adopted = name == wanted.dataset or wanted.recursive
            known = await self._known(wanted, owner, source, look) if adopted and look.snapshots else None
            clones = await self._zfs.clones(name)
            parts.append(Part(name, replica.dataset + below, source, look, own[name], clones, known))
        return parts

    async def _known(self, wanted: Wanted, owner: Peer, source: str, look: Look) -> Known:
        """Which of the snapshots here the owner has. Raises MeshkeepError where nobody can say it."""
        if wanted.guids is not None:
            return Known(wanted.guids)
        paper = f"on {owner.name}: zfs list -Hp -r -t snapshot -o guid {wanted.source} > FILE; then here: --guids FILE"
        if self._only_raw():
            raise _refused(
                "a vault asks nobody, so it has to be told the guids of the owner's snapshots",
                "guids_needed",
                "the copy is known by them, never by its name",
                paper,
            )
        guids = [one.guid for one in look.snapshots[-MAX_GUIDS:]]
        try:
            answer = await self._directory.link().call(
                owner.address, "replica.recognise", {"dataset": source, "guids": guids}
            )
            known = frozenset(int(one) for one in answer["known"]) & frozenset(guids)
            return Known(known, bool(answer["encrypted"]) if known else None)
        except (PeerUnreachable, LinkTimeout, PeerRefused, KeyError, TypeError, ValueError) as error:
            raise MeshkeepError(
                f"{owner.name} did not say whether {look.dataset.name} is its copy",
                code="owner_silent",
                exit=Exit.REFUSED if isinstance(error, PeerRefused) else Exit.NO_PEER,
                why=str(error),
                hint=paper,
            ) from error


def _check_place(wanted: Wanted, replica: Replica, root: str, owner: Peer) -> None:
    name, label = wanted.dataset, f"{owner.name}:{wanted.source}"
    if replica.look is not None:
        raise _refused(
            f"the place of {label} is taken",
            "place_taken",
            f"{replica.dataset} has {len(replica.look.snapshots)} snapshots; nothing is overwritten or merged here",
            "meshkeep vault keep",
        )
    if name == root or is_below(name, root) or is_below(root, name):
        raise _refused(
            f"{name} is where replicas are kept", "place_of_replicas", f"they are below {root}", ""
        )
    if parent_of(name) is None:
        raise _refused(f"{name} is a pool, and a pool is never renamed", "a_pool", "", "adopt what is in it")
    if pool_of(name) != pool_of(root):
        raise _refused(
            f"{name} is in another pool than the replicas here",
            "another_pool",
            f"they are kept below {root}, and a dataset is renamed within its pool only",
            f"set [storage] under = {pool_of(name)!r}, if no replicas are here yet; or make a new copy",
        )


def _report(wanted: Wanted, owner: Peer, parts: Sequence[Part], *, done: bool) -> dict[str, Any]:
    top = parts[0]
    return {
        "dataset": wanted.dataset,
        "owner": owner.name,
        "source": wanted.source,
        "to": top.to,
        "checked": "on paper" if wanted.guids is not None else "with the owner",
        "done": done,
        "datasets": [
            {
                "from": part.name,
                "to": part.to,
                "source": part.source,
                "snapshots": len(part.look.snapshots),
                "common": part.base.name if part.base else None,
                "raw": part.look.dataset.encrypted,
                "mounted": part.look.dataset.mounted,
                "clears": part.clears,
                "foreign": part.foreign,
            }
            for part in parts
        ],
        "undo": undo(parts, wanted.dataset),
        "next": f"on {owner.name}: meshkeep replicate add {wanted.source} NODE"
        + (" -r" if len(parts) > 1 else ""),
    }


def _refused(what: str, code: str, why: str, hint: str) -> MeshkeepError:
    return MeshkeepError(what, code=code, exit=Exit.REFUSED, why=why, hint=hint)
