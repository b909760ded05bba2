"""What this node keeps for others: placing replicas, judging offers, receiving, listing, sending back.

Nothing here destroys, rolls back or renames a snapshot, and no request can make it: the only thing a peer may have
dropped is its own partly received stream. Callers are node ids that WireGuard and admission have vouched for; each is
given the roots it owns, its own first, then those of the nodes it succeeded.
"""

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from types import MappingProxyType
from typing import Any, ParamSpec

from mesh.link_errors import Refusal
from mesh.link_server import IncomingStream
from node.aside import Aside, key_root, refuse_aside, refuse_drift
from node.aside import parse as parse_rotation
from node.key_archive import KeyArchive, Pending, short
from node.offers import Offer, Position, SendBack, dataset_of, states_asked
from node.receipts import Receipts
from node.replica_json import Versions, error_as_json, resume_as_json, too_long, with_receipts
from node.replica_list import page
from node.replica_places import KEY, RECEIVE_USER, RECEIVED, Places, Replica, Terms, well_formed
from node.transfers import Workers
from node.version_gates import VersionGates
from replication.errors import Interrupted, KeyChanged, TransferFailed, of_zfs
from replication.guard import FLOOR_HOLD
from replication.jobs import ReceiveOutcome, ReceiveStep, SendStep
from replication.rotation import original
from replication.transfer import Transfer
from zfs import errors
from zfs.door import Zfs
from zfs.names import check_dataset, check_snapshot

log = logging.getLogger(__name__)

WRAPS = 64
"""Archived wraps in one answer."""

ANSWER = 3 << 20
"""Bytes of states in one answer: what surrounds them fits into the frame too."""

P = ParamSpec("P")
Answers = Callable[P, Coroutine[Any, Any, dict[str, Any]]]


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
    """The target's side of replication. All methods raise `mesh.link.Refusal` for what they will not do.

    `keys` remembers under which wrapped keys the replicas came; `named` gives the name of a node id.
    """

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        keys: KeyArchive,
        *,
        terms: Callable[[], Awaitable[Terms | None]],
        only_raw: Callable[[], bool],
        now: Callable[[], float],
        named: Callable[[str], str] = str,
    ) -> None:
        self._zfs = zfs
        self._workers = workers
        self._keys = keys
        self._named = named
        self._places = Places(zfs, terms, now)
        self._versions = Versions()
        self._only_raw = only_raw
        self._now = now
        self._receiving: dict[str, Transfer[ReceiveOutcome]] = {}
        self._pinned: set[str] = set()
        self._gates = VersionGates(zfs)
        self._aside = Aside(zfs, now, lambda: self.receiving)

    @property
    def receiving(self) -> frozenset[str]:
        """The datasets into which a stream runs."""
        return frozenset(self._receiving)

    # -- asking ------------------------------------------------------------------------------------------------

    @_said
    async def state(self, owners: Sequence[str], source: str) -> dict[str, Any]:
        """What is stored of *source*, and what a partly received stream would go on with."""
        replica = await self._places.find(owners, source)
        return await self._state(replica, {}, None)

    @_said
    async def states(self, owners: Sequence[str], args: Mapping[str, Any]) -> dict[str, Any]:
        """`state` of many, as many as an answer takes: the caller asks again for the others. Snapshots that the caller
        knows already, by the version that was said of them, are left out.
        """
        asked = states_asked(args)
        told: dict[str, dict[str, Any]] = {}
        room, rooms = ANSWER, dict[str, int]()
        for source, found in (await self._places.find_all(owners, asked)).items():
            try:
                if not isinstance(found, Replica):
                    raise found
                told[source] = await self._state(found, rooms, asked[source])
            except (Refusal, errors.ZfsError) as error:
                told[source] = {"error": error_as_json(error)}
            size = len(json.dumps(told[source]))
            if size > ANSWER:
                told[source] = {"error": error_as_json(too_long(source))}
            elif size > room:
                del told[source]
                break
            room -= size
        return {"states": told}

    async def _state(self, replica: Replica, rooms: dict[str, int], known: str | None) -> dict[str, Any]:
        available = await self._places.room(replica, rooms)
        if replica.look is None:
            return {"exists": False, "available": available, "snapshots": [], "resume": None}
        await self._hold_all(replica)  # of the newest there may never be another stream
        look = replica.look
        version = self._versions.of(look)
        state = {
            "exists": True,
            "available": available,
            "encrypted": look.dataset.encrypted,
            "keystatus": look.dataset.keystatus,
            "key_root": key_root(replica),
            "zfs": await self._gates.module(),
            "resume": resume_as_json(look.resume),
            "version": version,
        }
        return state if version == known else state | {"snapshots": with_receipts(look)}

    @_said
    async def listing(
        self, owners: Sequence[str], args: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Every replica below the roots of *owners*, as many as an answer takes: where there is more, the caller asks
        again `after` the last snapshot that it was told of.
        """
        return await page(self._zfs, self._places, owners, Position.parse(args), ANSWER)

    # -- storing -----------------------------------------------------------------------------------------------

    @_said
    async def receive(
        self, owners: Sequence[str], args: Mapping[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        """Store snapshots more. The answer comes when all are found here by their guids, and says so."""
        offer = Offer.parse(args)
        replica = await self._places.find(owners, offer.dataset)
        for step in offer.steps:
            well_formed(check_snapshot, f"{replica.dataset}@{step.name}")
        if await self._end_earlier(replica.dataset):
            replica = await self._places.find(owners, offer.dataset)
        self._judge(replica, offer)
        await self._gates.refuse_receiving(offer.raw)
        await self._hold_all(replica)
        if replica.look is None:
            await self._aside.bring_back(replica)
            await self._places.prepare(replica)
        await self._refuse_what_cannot_fit(replica, offer)
        pinned = await self._pin(replica)
        receipts = Receipts(self._zfs, self._places, self._keys, replica, offer, pinned=pinned, now=self._now)
        sock = await stream.accept({"replica": replica.dataset})
        transfer = await self._workers.receive(
            sock,
            steps=[
                ReceiveStep(f"{replica.dataset}@{step.name}", step.to_guid, step.from_guid)
                for step in offer.steps
            ],
            raw=offer.raw,
            resuming=offer.resuming,
            pinned=pinned,
            user=RECEIVE_USER,
            on_step=receipts.came,
        )
        self._receiving[replica.dataset] = transfer
        failure: TransferFailed | None = None
        try:
            await transfer.outcome()
        except TransferFailed as error:
            failure = error
        except BaseException:
            await receipts.stop()
            raise
        finally:
            if self._receiving.get(replica.dataset) is transfer:
                del self._receiving[replica.dataset]
        await receipts.finish()
        if pinned is None and receipts.pinned is not None:
            self._pinned.add(replica.dataset)
        if not receipts.missing:
            return {"received": receipts.as_json(), "bytes": transfer.bytes}
        if isinstance(failure, KeyChanged):
            raise self._refused_key(replica, owners[0], pinned, transfer.said, failure) from failure
        reason = failure or Interrupted("the stream ended, and its snapshot is not here")
        log.warning("receiving %s@%s: %s", replica.dataset, receipts.missing[0].name, reason)
        raise Refusal(reason.code, reason.text, exit=1)

    async def _pin(self, replica: Replica) -> str | None:
        """The key that its snapshots came under. One inherited from the replica above it is not its own: a crash came
        before that was noted.
        """
        if replica.look is None or not replica.look.snapshots:
            self._pinned.discard(replica.dataset)
            return None
        pin = replica.look.properties.get(KEY)
        if pin is None or replica.dataset in self._pinned:
            return pin
        if (await self._zfs.get(replica.dataset, [KEY]))[KEY].source != "local":
            return None
        self._pinned.add(replica.dataset)
        return pin

    def _refused_key(
        self, replica: Replica, by: str, pin: str | None, said: ReceiveOutcome | None, error: KeyChanged
    ) -> Refusal:
        """Whether the other key is its owner's own is for a person at this console to say: noted for that."""
        if said is None or not said.key_fingerprint or pin is None:
            return Refusal(error.code, error.text, "", exit=1)
        offered = Pending(
            owner=replica.owner,
            dataset=replica.source,
            by=by,
            pinned=pin,
            fingerprint=said.key_fingerprint,
            payload=said.begin,
            since=int(self._now()),
        )
        log.warning("%s offered another key for %s: %s", by, replica.dataset, error.text)
        try:
            self._keys.offer(offered)
        except OSError as trouble:  # a full disk must not hide why the stream was refused
            log.warning("cannot note the key that was offered: %s", trouble)
        hint = (
            f"meshkeep key approve {self._named(replica.owner)}:{replica.source} {short(offered.fingerprint)}"
        )
        return Refusal(error.code, error.text, hint, exit=1)

    async def _hold_all(self, replica: Replica) -> None:
        """A crash between receiving and confirming leaves a snapshot without its hold or receipt: make up for it."""
        stored = replica.look.snapshots if replica.look else ()
        bare = [one.full_name for one in stored if not one.holds]
        unsigned = [one.full_name for one in stored if replica.look and one.name not in replica.look.notes]
        if not (bare or unsigned):
            return
        self._places.forget(replica.dataset)
        if bare:
            # What the keeper let go since that look needs no hold; the others have it now.
            with contextlib.suppress(errors.NotFound):
                await self._zfs.hold(FLOOR_HOLD, bare)
        if unsigned and replica.dataset not in self._receiving:  # else that is about to be done
            await self._zfs.set_all(unsigned, {RECEIVED: str(int(self._now()))})

    def _judge(self, replica: Replica, offer: Offer) -> None:
        """Whether the offer fits what is here. Raises Refusal."""
        refuse_aside(offer.dataset)
        refuse_drift(replica)
        if self._only_raw() and not offer.raw:
            raise Refusal(
                "plaintext_to_vault",
                f"a vault takes raw encrypted streams only; {offer.dataset} came as plaintext",
                "replicate an encrypted dataset, or choose a member as the target",
            )
        look, first = replica.look, offer.steps[0]
        if look is None:
            if first.from_guid is not None:
                raise Refusal("no_base", f"there is no replica of {offer.dataset} to add to")
            if offer.resuming:
                raise Refusal("no_partial", f"there is nothing to resume of {offer.dataset}")
            return
        snapshots, resume = look.snapshots, look.resume
        guids, names = {one.guid for one in snapshots}, {one.name for one in snapshots}
        for step in offer.steps:
            if step.to_guid in guids:
                raise Refusal("already_here", f"@{step.name} is stored already", "")
            if step.name in names:
                raise Refusal(
                    "would_overwrite",
                    f"another snapshot named @{step.name} is stored already; nothing is overwritten here",
                    "rename the snapshot on its source",
                )
        newest = snapshots[-1].guid if snapshots else None
        if newest != first.from_guid:
            raise Refusal(
                "diverged", f"the newest snapshot stored of {offer.dataset} is not the stream's base", ""
            )
        if (resume is not None) != offer.resuming or (resume is not None and resume.to_guid != first.to_guid):
            raise Refusal("partial_state", "what was partly received does not fit this stream", "")
        if snapshots and look.dataset.encrypted != offer.raw:
            raise Refusal("mixed_modes", "raw and plain streams of one dataset are never mixed", "")

    @_said
    async def abort(self, owners: Sequence[str], source: str) -> dict[str, Any]:
        """Drop the partly received stream of *source*; snapshots stay as they are."""
        refuse_aside(source)
        replica = await self._places.find(owners, source)
        if await self._end_earlier(replica.dataset):
            replica = await self._places.find(owners, source)
        if replica.look is not None and replica.look.resume is not None:
            await self._zfs.abort_receive(replica.dataset)
            log.info("dropped the partly received stream of %s at its owner's request", replica.dataset)
        return {}

    @_said
    async def rotate(self, owners: Sequence[str], args: Mapping[str, Any]) -> dict[str, Any]:
        """Keep a replica aside under another name, where nothing leads on from it; snapshots stay as they are."""
        source, request = parse_rotation(args)
        return await self._aside.rotate(await self._places.find(owners, source), request)

    @_said
    async def wraps(self, owners: Sequence[str], args: Mapping[str, Any]) -> dict[str, Any]:
        """The archived wrapped keys of a replica, for its owner: ciphertext, like the replica itself."""
        source = dataset_of(args)
        mine = owners if args.get("owner") is None else [one for one in owners if one == args["owner"]]
        if not mine:
            raise Refusal("not_yours", "only its owner, or the node that succeeds it, reads a replica", "")
        replica = await self._places.find(mine, source)
        sent_as = original(source)
        told = [
            {"fingerprint": one, "payload": payload}
            for one in self._keys.wraps(replica.owner, sent_as)
            if (payload := self._keys.payload(replica.owner, sent_as, one)) is not None
        ]
        pinned = replica.look.properties.get(KEY) if replica.look is not None else None
        return {"owner": replica.owner, "pinned": pinned, "wraps": told[-WRAPS:]}

    async def _end_earlier(self, dataset: str) -> bool:
        """A new connection for the same dataset means that the old one is dead, whatever TCP still thinks."""
        earlier = self._receiving.get(dataset)
        if earlier is None:
            return False
        await earlier.cancel()
        return True

    # -- sending back ------------------------------------------------------------------------------------------

    @_said
    async def send(
        self, owners: Sequence[str], args: Mapping[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        """Send one stored snapshot back to its owner, raw if it is encrypted."""
        wanted = SendBack.parse(args)
        if wanted.owner not in owners:
            raise Refusal("not_yours", "only its owner, or the node that succeeds it, reads a replica", "")
        root = (await self._places.terms()).root
        dataset = well_formed(check_dataset, f"{root}/{wanted.owner}/{wanted.dataset}")
        try:
            look = await self._places.look(dataset)
        except errors.NotFound:
            raise Refusal("no_replica", f"nothing is stored of {wanted.dataset}", "") from None
        held, by_guid = look.dataset, {snapshot.guid: snapshot for snapshot in look.snapshots}
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
            steps=[SendStep(to.full_name, base.full_name if base else None)],
            raw=held.encrypted,
            resume=wanted.resume,
        )
        await transfer.outcome()
        return {}

    async def _refuse_what_cannot_fit(self, replica: Replica, offer: Offer) -> None:
        available = await self._places.room(replica)
        if offer.size > available:
            raise Refusal(
                "target_full",
                f"{offer.dataset} needs about {offer.size} bytes and {available} are free for its owner",
                "raise the quota or add disks on the target; replication goes on by itself",
            )
