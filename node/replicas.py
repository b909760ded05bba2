"""What this node keeps for others: placing replicas, judging offers, receiving, listing, sending back.

Nothing here destroys, rolls back or renames a snapshot, and no request can make it: the only thing a peer may have
dropped is its own partly received stream. Callers are node ids that WireGuard and admission have vouched for; each is
given the roots it owns, its own first, then those of the nodes it succeeded.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from mesh.link_errors import Refusal
from mesh.link_server import IncomingStream
from node.key_archive import KeyArchive
from node.offers import Offer, SendBack
from node.transfers import Workers
from replication.errors import Interrupted, TransferFailed, of_zfs
from replication.guard import FLOOR_HOLD
from replication.jobs import ReceiveOutcome
from replication.transfer import Transfer
from zfs import errors
from zfs.door import Zfs
from zfs.model import Dataset, ResumeState, Snapshot
from zfs.names import InvalidName, check_dataset, check_snapshot, parent_of

log = logging.getLogger(__name__)

RECEIVED = "meshkeep:received"
KEY = "meshkeep:key"
NODE = "meshkeep:node"
RECEIVE_USER = "meshkeep"
DELEGATED = ("create", "mount", "receive:append")
# Inherited by every replica below a node's root: it can not be mounted, written, or run from.
ROOT_PROPERTIES = {
    "canmount": "off",
    "mountpoint": "none",
    "readonly": "on",
    "setuid": "off",
    "exec": "off",
    "devices": "off",
    "snapdir": "hidden",
}
PLACEHOLDER = {"canmount": "off", "mountpoint": "none"}
P = ParamSpec("P")
Answers = Callable[P, Coroutine[Any, Any, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Terms:
    """Where replicas lie (`root`, e.g. tank/meshkeep) and how much of it one node may use (bytes)."""

    root: str
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica: whose it is, the name of its dataset at home, and the dataset that holds it here."""

    owner: str
    source: str
    dataset: str


def _said(method: Answers[P]) -> Answers[P]:
    """What ZFS or a transfer failed with is told to the peer by its code, as a failure: it may ask again."""

    @wraps(method)
    async def told(*args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        try:
            return await method(*args, **kwargs)
        except errors.ZfsError as error:
            log.warning("cannot do what a peer asked: %s", error)
            raise Refusal(of_zfs(error).code, str(error), exit=1) from error
        except TransferFailed as error:
            log.warning("cannot do what a peer asked: %s", error)
            raise Refusal(error.code, error.text, exit=1) from error

    return told


class Replicas:
    """The target's side of replication. All methods raise `mesh.link.Refusal` for what they will not do."""

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        archive: Path,
        *,
        terms: Callable[[], Awaitable[Terms | None]],
        only_raw: Callable[[], bool],
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._workers = workers
        self._keys = KeyArchive(archive)
        self._terms = terms
        self._only_raw = only_raw
        self._now = now
        self._receiving: dict[str, Transfer[ReceiveOutcome]] = {}

    # -- asking ------------------------------------------------------------------------------------------------

    @_said
    async def state(self, owners: Sequence[str], source: str) -> dict[str, Any]:
        """What is stored of *source*, and what a partly received stream would go on with."""
        replica = await self._locate(owners, source)
        available = await self._room(replica)
        try:
            dataset = await self._zfs.dataset(replica.dataset)
        except errors.NotFound:
            return {"exists": False, "available": available, "snapshots": [], "resume": None}
        snapshots = await self._zfs.snapshots(replica.dataset)
        resume = await self._zfs.resume_state(replica.dataset)
        return {
            "exists": True,
            "available": available,
            "encrypted": dataset.encrypted,
            "keystatus": dataset.keystatus,
            "snapshots": await self._with_receipts(replica.dataset, snapshots),
            "resume": resume_as_json(resume),
        }

    @_said
    async def listing(self, owners: Sequence[str]) -> dict[str, Any]:
        """Every replica below the roots of *owners*."""
        found = []
        storage = await self._root()
        for owner in owners:
            root = f"{storage}/{owner}"
            try:
                datasets = await self._zfs.datasets(root)
            except errors.NotFound:
                continue
            for dataset in datasets:
                snapshots = await self._zfs.snapshots(dataset.name)
                if snapshots:
                    found.append(
                        {
                            "owner": owner,
                            "dataset": dataset.name.removeprefix(root + "/"),
                            "encrypted": dataset.encrypted,
                            "used": dataset.used,
                            "snapshots": await self._with_receipts(dataset.name, snapshots),
                        }
                    )
        return {"replicas": found}

    async def _with_receipts(self, dataset: str, snapshots: Sequence[Snapshot]) -> list[dict[str, Any]]:
        receipts = await self._zfs.snapshot_property(dataset, RECEIVED)
        return [
            {
                "name": snapshot.name,
                "guid": snapshot.guid,
                "createtxg": snapshot.createtxg,
                "creation": snapshot.creation,
                "received": int(receipts.get(snapshot.name, "0") or 0),
            }
            for snapshot in snapshots
        ]

    # -- storing -----------------------------------------------------------------------------------------------

    @_said
    async def receive(
        self, owners: Sequence[str], args: Mapping[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        """Store one snapshot more. The answer is given only when the snapshot is found here by its guid."""
        offer = Offer.parse(args)
        replica = await self._locate(owners, offer.dataset)
        _well_formed(check_snapshot, f"{replica.dataset}@{offer.name}")
        await self._end_earlier(replica.dataset)
        dataset = await self._judge(replica, offer)
        await self._make_room_for(replica)
        await self._refuse_what_cannot_fit(replica, offer)
        pinned = None
        if dataset is not None:
            pinned = (await self._zfs.get(replica.dataset, [KEY]))[KEY].value
        sock = await stream.accept({"replica": replica.dataset})
        transfer = await self._workers.receive(
            sock,
            snapshot=f"{replica.dataset}@{offer.name}",
            offer=offer,
            pinned=pinned if pinned not in (None, "-") else None,
            user=RECEIVE_USER,
        )
        self._receiving[replica.dataset] = transfer
        failure: TransferFailed | None = None
        outcome: ReceiveOutcome | None = None
        try:
            outcome = await transfer.outcome()
        except TransferFailed as error:
            failure = error
        finally:
            if self._receiving.get(replica.dataset) is transfer:
                del self._receiving[replica.dataset]
        return await self._confirm(replica, offer, outcome, failure)

    async def _judge(self, replica: Replica, offer: Offer) -> Dataset | None:
        """Whether the offer fits what is here. Returns the replica as it stands, or None where there is none."""
        if self._only_raw() and not offer.raw:
            raise Refusal(
                "plaintext_to_vault",
                f"a vault takes raw encrypted streams only; {offer.dataset} came as plaintext",
                "replicate an encrypted dataset, or choose a member as the target",
            )
        try:
            dataset = await self._zfs.dataset(replica.dataset)
        except errors.NotFound:
            if offer.from_guid is not None:
                raise Refusal("no_base", f"there is no replica of {offer.dataset} to add to", "") from None
            if offer.resuming:
                raise Refusal("no_partial", f"there is nothing to resume of {offer.dataset}", "") from None
            return None
        snapshots = await self._zfs.snapshots(replica.dataset)
        resume = await self._zfs.resume_state(replica.dataset)
        if any(snapshot.guid == offer.to_guid for snapshot in snapshots):
            raise Refusal("already_here", f"@{offer.name} is stored already", "")
        if any(snapshot.name == offer.name for snapshot in snapshots):
            raise Refusal(
                "would_overwrite",
                f"another snapshot named @{offer.name} is stored already; nothing is overwritten here",
                "rename the snapshot on its source",
            )
        newest = snapshots[-1].guid if snapshots else None
        if newest != offer.from_guid:
            raise Refusal(
                "diverged", f"the newest snapshot stored of {offer.dataset} is not the stream's base", ""
            )
        if (resume is not None) != offer.resuming or (resume is not None and resume.to_guid != offer.to_guid):
            raise Refusal("partial_state", "what was partly received does not fit this stream", "")
        if snapshots and dataset.encrypted != offer.raw:
            raise Refusal("mixed_modes", "raw and plain streams of one dataset are never mixed", "")
        return dataset if snapshots else None

    async def _confirm(
        self, replica: Replica, offer: Offer, outcome: ReceiveOutcome | None, failure: TransferFailed | None
    ) -> dict[str, Any]:
        """Judge by what is there. Hold it, note the receipt and the key it came with."""
        try:
            snapshots = await self._zfs.snapshots(replica.dataset)
        except errors.NotFound:
            snapshots = []
        here = next((snapshot for snapshot in snapshots if snapshot.guid == offer.to_guid), None)
        if here is None:
            reason = failure or Interrupted("the stream ended, and its snapshot is not here")
            log.warning("receiving %s@%s: %s", replica.dataset, offer.name, reason)
            raise Refusal(reason.code, reason.text, exit=1)
        received = int(self._now())
        await self._zfs.hold(FLOOR_HOLD, [here.full_name])
        properties = await self._zfs.get(replica.dataset, ["canmount", KEY])
        if properties["canmount"].value != "noauto":
            await self._zfs.set(replica.dataset, {"canmount": "noauto"})
        if outcome is not None and outcome.key_fingerprint:
            self._keys.keep(replica.owner, replica.source, outcome.key_fingerprint, outcome.begin)
            if properties[KEY].value != outcome.key_fingerprint:
                await self._zfs.set(replica.dataset, {KEY: outcome.key_fingerprint})
        await self._zfs.set(here.full_name, {RECEIVED: str(received)})
        log.info("stored %s for %s", here.full_name, replica.owner)
        return {"guid": here.guid, "received": received, "bytes": outcome.bytes if outcome else 0}

    @_said
    async def abort(self, owners: Sequence[str], source: str) -> dict[str, Any]:
        """Drop the partly received stream of *source*; snapshots stay as they are."""
        replica = await self._locate(owners, source)
        await self._end_earlier(replica.dataset)
        with contextlib.suppress(errors.NotFound):
            if await self._zfs.resume_state(replica.dataset) is not None:
                await self._zfs.abort_receive(replica.dataset)
                log.info("dropped the partly received stream of %s at its owner's request", replica.dataset)
        return {}

    async def _end_earlier(self, dataset: str) -> None:
        """A new connection for the same dataset means that the old one is dead, whatever TCP still thinks."""
        earlier = self._receiving.get(dataset)
        if earlier is not None:
            await earlier.cancel()

    # -- sending back ------------------------------------------------------------------------------------------

    @_said
    async def send(
        self, owners: Sequence[str], args: Mapping[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        """Send one stored snapshot back to its owner, raw if it is encrypted."""
        wanted = SendBack.parse(args)
        if wanted.owner not in owners:
            raise Refusal("not_yours", "only its owner, or the node that succeeds it, reads a replica", "")
        dataset = _well_formed(check_dataset, f"{await self._root()}/{wanted.owner}/{wanted.dataset}")
        try:
            held = await self._zfs.dataset(dataset)
            by_guid = {snapshot.guid: snapshot for snapshot in await self._zfs.snapshots(dataset)}
        except errors.NotFound:
            raise Refusal("no_replica", f"nothing is stored of {wanted.dataset}", "") from None
        to = by_guid.get(wanted.to_guid)
        base = by_guid.get(wanted.from_guid) if wanted.from_guid is not None else None
        if to is None or (wanted.from_guid is not None and base is None):
            raise Refusal("no_snapshot", f"the snapshot asked for is not stored of {wanted.dataset}", "")
        if base is not None and base.createtxg >= to.createtxg:
            raise Refusal("no_snapshot", f"@{base.name} is not older than @{to.name}", "")
        size = 0
        if wanted.resume is None:
            size = await self._zfs.send_size(
                to.full_name, base.full_name if base else None, raw=held.encrypted
            )
        sock = await stream.accept({"size": size, "raw": held.encrypted, "name": to.name}, sending=True)
        transfer = await self._workers.send(
            sock,
            snapshot=to.full_name,
            base=base.full_name if base else None,
            raw=held.encrypted,
            resume=wanted.resume,
        )
        await transfer.outcome()
        return {}

    # -- places ------------------------------------------------------------------------------------------------

    async def _root(self) -> str:
        terms = await self._terms()
        if terms is None:
            raise Refusal(
                "no_storage",
                "this node has no pool to keep replicas in",
                "set [storage] under in its configuration",
            )
        return terms.root

    async def _locate(self, owners: Sequence[str], source: str) -> Replica:
        """Where *source* is kept: with the first of *owners* that has it, else with the caller itself."""
        root = await self._root()
        _well_formed(check_dataset, source)
        places = [
            Replica(owner, source, _well_formed(check_dataset, f"{root}/{owner}/{source}"))
            for owner in owners
        ]
        for place in places:
            with contextlib.suppress(errors.NotFound):
                await self._zfs.dataset(place.dataset)
                return place
        return places[0]

    async def _room(self, replica: Replica) -> int:
        """Bytes that may still be stored there."""
        name: str | None = replica.dataset
        while name is not None:
            try:
                return (await self._zfs.dataset(name)).available
            except errors.NotFound:
                name = parent_of(name)
        return 0

    async def _refuse_what_cannot_fit(self, replica: Replica, offer: Offer) -> None:
        available = await self._room(replica)
        if offer.size > available:
            raise Refusal(
                "target_full",
                f"@{offer.name} needs about {offer.size} bytes and {available} are free for its owner",
                "raise the quota or add disks on the target; replication goes on by itself",
            )

    async def _make_room_for(self, replica: Replica) -> None:
        """The node's root with its safety properties and delegation, and the placeholders below it."""
        terms = await self._terms()
        assert terms is not None
        node_root = f"{terms.root}/{replica.owner}"
        for name in _ancestors(terms.root):
            await self._ensure(name, PLACEHOLDER)
        properties = dict(ROOT_PROPERTIES) | {NODE: replica.owner}
        if terms.quota is not None:
            properties["quota"] = str(terms.quota)
        if await self._ensure(node_root, properties):
            await self._zfs.allow(RECEIVE_USER, DELEGATED, node_root)
        parent = parent_of(replica.dataset)
        for name in _ancestors(parent) if parent else ():
            if name.startswith(node_root + "/"):
                await self._ensure(name, PLACEHOLDER)

    async def _ensure(self, name: str, properties: Mapping[str, str]) -> bool:
        """Create *name* unless it is there. Returns whether it was created."""
        with contextlib.suppress(errors.NotFound):
            await self._zfs.dataset(name)
            return False
        await self._zfs.create(name, properties)
        return True


def resume_as_json(resume: ResumeState | None) -> dict[str, Any] | None:
    """What a source may know of a partial stream: guids and position, never the token."""
    if resume is None:
        return None
    return {
        "to_guid": resume.to_guid,
        "from_guid": resume.from_guid,
        "to_name": resume.to_name.partition("@")[2],
        "object": resume.object,
        "offset": resume.offset,
        "bytes": resume.bytes,
        "raw": resume.raw,
    }


def _well_formed(check: Callable[[str], str], name: str) -> str:
    try:
        return check(name)
    except InvalidName as error:
        raise Refusal("bad_name", str(error), "") from error


def _ancestors(dataset: str) -> list[str]:
    """``a/b/c`` -> ``a/b``, ``a/b/c`` (the pool itself is there or nothing is)."""
    parts = dataset.split("/")
    return ["/".join(parts[: end + 1]) for end in range(1, len(parts))]
