"""The verbs of the local API about single snapshots: take, list, hold, release, destroy."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable
from node.api import Request
from node.errors import Exit, MeshkeepError
from node.membership import Membership
from node.policy_verbs import Rules, dataset_of, must_exist
from node.replicator import Replicator
from node.storage import node_roots
from policy.explain import reason_of
from policy.naming import kind_of
from policy.retention import guards_of, verdicts
from policy.rules import Policy, taken_along
from replication.guard import cursor_name, holder_of
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Snapshot
from zfs.names import InvalidName, check_snapshot

MANUAL = "manual_%Y-%m-%d_%H:%M:%S"
KEEP = "keep"
OURS = "meshkeep:"
"""What the tags of holds that guard replication begin with."""

MAX_TAG = 200


@dataclass(frozen=True, slots=True)
class _Found:
    """A snapshot that was named, and the tags that hold it."""

    snapshot: Snapshot
    tags: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.snapshot.full_name


class SnapshotVerbs:
    """Handlers. What is said of another node's datasets is asked there; it decides by its own rules."""

    def __init__(
        self,
        zfs: Zfs,
        membership: Membership,
        replicator: Replicator,
        rules: Rules,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._zfs = zfs
        self._mesh = membership
        self._replicator = replicator
        self._rules = rules
        self._now = now

    async def take(self, request: Request) -> dict[str, Any]:
        """One of a dataset, or with `recursive` of all below it too, in the same instant. Never of a replica below."""
        if elsewhere := self._elsewhere(request.args):
            return await self._ask(elsewhere, "snapshot.take", request.args)
        dataset = dataset_of(request.args)
        short = request.args.get("name") or time.strftime(MANUAL, time.gmtime(self._now()))
        _named(f"{dataset}@{short}")
        await must_exist(self._zfs, dataset)
        datasets = [dataset]
        if request.args.get("recursive"):
            known = [one.name for one in await self._zfs.datasets()]
            datasets += taken_along(dataset, known, node_roots(known))
        names = [_named(f"{one}@{short}") for one in datasets]
        try:
            await self._zfs.snapshot(names)
        except zfs_errors.AlreadyExists as error:
            raise MeshkeepError(
                f"{error.name} exists already",
                code="already_exists",
                exit=Exit.REFUSED,
                hint="choose another --name",
            ) from None
        for one in datasets:
            self._replicator.wake(dataset=one)
        return {"schema": "meshkeep.snapshot-take/1", "snapshots": names}

    async def listing(self, request: Request) -> dict[str, Any]:
        """Oldest first; of this host's own also which kind each is and why it stays or goes."""
        if elsewhere := self._elsewhere(request.args):
            return await self._list_there(elsewhere, dataset_of(request.args))
        dataset = dataset_of(request.args)
        await must_exist(self._zfs, dataset)
        chosen = (await self._rules.resolution()).chosen.get(dataset)
        history = await self._zfs.snapshots(dataset)
        told = self._judged(dataset, chosen.policy if chosen else None, history)
        return {
            "schema": "meshkeep.snapshot-list/1",
            "policy": chosen.policy.name if chosen else None,
            "snapshots": [
                {
                    "name": one.name,
                    "creation": one.creation,
                    "guid": one.guid,
                    "used": one.used,
                    "holds": one.holds,
                    **told[one.name],
                }
                for one in history
            ],
        }

    async def _list_there(self, node: str, dataset: str) -> dict[str, Any]:
        peer = self._mesh.peer(node)
        answer = await self._call(node, "replica.state", {"dataset": dataset})
        return {
            "schema": "meshkeep.snapshot-list/1",
            "node": peer.name,
            "snapshots": [
                {"name": one["name"], "creation": one["creation"], "guid": one["guid"]}
                for one in answer["snapshots"]
            ],
        }

    def _judged(
        self, dataset: str, policy: Policy | None, history: Sequence[Snapshot]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Kind, keep and reason of each, by the part behind the @."""
        needed = self._replicator.needed(dataset)
        if policy is not None:
            return {
                verdict.snapshot.name: {
                    "kind": kind_of(verdict.snapshot.name, policy.loose_names),
                    "keep": verdict.keep,
                    "reason": reason_of(verdict),
                }
                for verdict in verdicts(policy, history, int(self._now()), needed)
            }
        guards = guards_of(Policy(name=""), history, needed)
        return {
            one.name: {
                "kind": kind_of(one.name),
                "keep": True,
                "reason": ", ".join(("no policy", *guards.get(one.name, ()))),
            }
            for one in history
        }

    async def hold(self, request: Request) -> dict[str, Any]:
        """Nothing destroys a snapshot while a tag holds it."""
        if elsewhere := self._elsewhere(request.args):
            return await self._ask(elsewhere, "snapshot.hold", request.args)
        tag = _tag(request.args)
        found = await self._find(_names(request.args))
        await self._zfs.hold(tag, [one.name for one in found])
        return {
            "schema": "meshkeep.snapshot-hold/1",
            "tag": tag,
            "snapshots": [
                {"snapshot": one.name, "new": tag not in one.tags, "tags": sorted({*one.tags, tag})}
                for one in found
            ],
        }

    async def release(self, request: Request) -> dict[str, Any]:
        """Takes a tag away; other tags go on holding."""
        if elsewhere := self._elsewhere(request.args):
            return await self._ask(elsewhere, "snapshot.release", request.args)
        tag = _tag(request.args)
        found = await self._find(_names(request.args))
        if not any(tag in one.tags for one in found):
            tags = sorted({one for each in found for one in each.tags})
            raise MeshkeepError(
                f'"{tag}" holds none of them' if len(found) > 1 else f'"{tag}" does not hold {found[0].name}',
                code="no_hold",
                exit=Exit.NOT_FOUND,
                why=f"what holds: {', '.join(tags)}" if tags else "nothing holds it",
            )
        await self._zfs.release(tag, [one.name for one in found if tag in one.tags])
        return {
            "schema": "meshkeep.snapshot-release/1",
            "tag": tag,
            "snapshots": [
                {
                    "snapshot": one.name,
                    "released": tag in one.tags,
                    "tags": [other for other in one.tags if other != tag],
                }
                for one in found
            ],
        }

    async def destroy(self, request: Request) -> dict[str, Any]:
        """All that are named or, if one of them is held or cannot be spared, none. A replica's base leaves a bookmark.

        With `dry_run` nothing is changed. Another node is asked, and refuses.
        """
        if elsewhere := self._elsewhere(request.args):
            return await self._ask(elsewhere, "snapshot.destroy", request.args)
        found = await self._find(_names(request.args))
        self._refuse_held([one for one in found if one.tags])
        marks = await self._bookmarks([one.snapshot for one in found])
        failed: dict[str, Exception] = {}
        if not request.args.get("dry_run"):
            for snapshot, mark in marks.items():
                await self._zfs.bookmark(snapshot, mark)
            failed = await self._zfs.destroy_snapshots([one.name for one in found])
        gone = [one.name for one in found if one.name not in failed]
        if not gone:
            name, reason = next(iter(failed.items()))
            raise MeshkeepError(f"{name} stays", code="busy", exit=Exit.REFUSED, why=str(reason))
        return {
            "schema": "meshkeep.snapshot-destroy/1",
            **({"snapshot": gone[0]} if len(found) == 1 else {}),
            "snapshots": gone,
            "used": sum(one.snapshot.used for one in found if one.name in gone),
            "bookmarks": list(marks.values()),
            "dry_run": bool(request.args.get("dry_run")),
            "failed": [{"snapshot": name, "reason": str(why)} for name, why in failed.items()],
        }

    def _refuse_held(self, held: Sequence[_Found]) -> None:
        """Raises MeshkeepError (refused) that says by whom and what to do."""
        if not held:
            return
        first = held[0]
        others = [tag for tag in first.tags if holder_of(tag) is None]
        raise MeshkeepError(
            f"{first.name} stays" if len(held) == 1 else f"{first.name} and {len(held) - 1} more stay",
            code="held",
            exit=Exit.REFUSED,
            why="\n".join(f"{one.name}: {', '.join(map(self._holder, one.tags))}" for one in held),
            hint=f"meshkeep snapshot release {first.name} --tag '{others[0]}'"
            if others and not others[0].startswith(OURS)
            else "meshkeep status; it is let go when that is done",
        )

    def _holder(self, tag: str) -> str:
        node = holder_of(tag)
        if node is None:
            return f'held by "{tag}"'
        member = self._mesh.view().members.get(node) if self._mesh.joined else None
        return f"a transfer to {member.name if member else node} is running or can be resumed"

    async def _bookmarks(self, snapshots: Sequence[Snapshot]) -> dict[str, str]:
        """The bookmarks to make, by full names, so that replicas keep their bases. Raises MeshkeepError (refused)."""
        found = {}
        for one in snapshots:
            target = self._replicator.needed(one.dataset).get(one.guid)
            if target is None:
                continue
            if any(mark.guid == one.guid for mark in await self._zfs.bookmarks(one.dataset)):
                continue
            member = self._mesh.view().by_name(target) if self._mesh.joined else None
            if member is None:
                raise MeshkeepError(
                    f"{one.full_name} stays",
                    code="needed",
                    exit=Exit.REFUSED,
                    why=f"the replica on {target} goes on from it, and {target} is not in the mesh now",
                    hint=f"meshkeep replicate remove {one.dataset} {target}, if that replica is given up",
                )
            found[one.full_name] = f"{one.dataset}#{cursor_name(member.id, one.guid)}"
        return found

    async def _find(self, names: Sequence[str]) -> list[_Found]:
        """Raises MeshkeepError (not found) that names every one that is not there."""
        histories: dict[str, dict[str, Snapshot]] = {}
        for dataset in dict.fromkeys(name.partition("@")[0] for name in names):
            await must_exist(self._zfs, dataset)
            histories[dataset] = {one.full_name: one for one in await self._zfs.snapshots(dataset)}
        known = {name: one for history in histories.values() for name, one in history.items()}
        missing = [name for name in names if name not in known]
        if missing:
            raise MeshkeepError(
                f"there is no snapshot {', '.join(missing)}",
                code="no_snapshot",
                exit=Exit.NOT_FOUND,
                hint=f"meshkeep snapshot list {missing[0].partition('@')[0]}",
            )
        return [
            _Found(known[name], tuple(await self._zfs.holds(name) if known[name].holds else ()))
            for name in dict.fromkeys(names)
        ]

    # -- other nodes -------------------------------------------------------------------------------------------

    def _elsewhere(self, args: Mapping[str, Any]) -> str | None:
        """The node that is meant, if it is not this one."""
        node = args.get("node")
        if not node or (self._mesh.joined and node in (self._mesh.me().name, self._mesh.identity.id)):
            return None
        return str(node)

    async def _ask(self, node: str, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Ask a peer for what only its own console may do. It says no; this passes on why."""
        passed = {key: value for key, value in args.items() if key != "node"}
        return await self._call(node, verb, passed)

    async def _call(self, node: str, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        peer = self._mesh.peer(node)
        try:
            return await self._mesh.link().call(peer.address, verb, dict(args))
        except PeerRefused as refused:
            exit = Exit(refused.exit) if refused.exit in list(Exit) else Exit.REFUSED
            raise MeshkeepError(
                f"{peer.name} refused: {refused.text}", code=refused.code, exit=exit, hint=refused.hint
            ) from None
        except (PeerUnreachable, LinkTimeout) as error:
            raise MeshkeepError(
                f"{peer.name} is not reachable",
                code="peer_unreachable",
                exit=Exit.NO_PEER,
                why=str(error),
                hint="meshkeep status",
            ) from None


def _named(name: str) -> str:
    try:
        return check_snapshot(name)
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None


def _names(args: Mapping[str, Any]) -> list[str]:
    """The snapshots that are meant, at least one. Raises MeshkeepError (usage)."""
    given = args.get("snapshots") or [args.get("snapshot") or ""]
    if not isinstance(given, list):
        raise MeshkeepError("snapshots must be a list", code="bad_request", exit=Exit.USAGE)
    return [_named(str(name)) for name in given]


def _tag(args: Mapping[str, Any]) -> str:
    """Raises MeshkeepError for one that ZFS does not take (usage) or that is not for people (refused)."""
    tag = str(args.get("tag") or KEEP)
    if tag.startswith(OURS):
        raise MeshkeepError(
            f'the tag "{tag}" is not for people',
            code="tag_reserved",
            exit=Exit.REFUSED,
            why=f"tags that begin with {OURS} guard the common base of replication; the agent sets and releases them",
            hint="choose another --tag",
        )
    if tag.startswith(".") or not tag.isprintable() or len(tag.encode()) > MAX_TAG:
        raise MeshkeepError(f"{tag!r} is no tag that ZFS takes", code="bad_tag", exit=Exit.USAGE)
    return tag
