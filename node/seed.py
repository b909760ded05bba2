"""A first copy that is carried: streams written to a disk at the source, and read in at the target's own console.

What is read in goes the way of a peer's stream, through `node.replicas`: the same judging, pinning, holds and receipts.
The disk is believed nothing: the index by its owner's signature, each stream by its digest before ZFS sees any of it.
"""

import asyncio
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mesh.identity import Identity
from mesh.link_errors import Refusal
from mesh.link_server import IncomingStream
from mesh.store import write_durably
from node.errors import Exit, MeshkeepError
from node.local_streams import digest, feed, pair, to_file
from node.offers import Offer, OfferedStep
from node.replicas import Replicas
from node.seed_index import INDEX, MAX_INDEX, BadIndex, Index, Piece, dump, file_name, load
from node.transfers import Workers, watched
from replication.errors import TransferFailed
from replication.jobs import SendStep
from zfs import errors
from zfs.door import Zfs
from zfs.model import Snapshot

HOLD = "meshkeep:seeding"

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]


class SeedExport:
    """The source's side. `me` signs, in the mesh of that id."""

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        *,
        me: Callable[[], Identity],
        mesh: Callable[[], bytes],
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._workers = workers
        self._me = me
        self._mesh = mesh
        self._now = now

    async def run(
        self, dataset: str, place: Path, progress: Tell, *, plaintext: bool = False, newest_only: bool = False
    ) -> dict[str, Any]:
        """Write all snapshots of *dataset*, oldest first, below *place*, or only the newest. Raises MeshkeepError.

        What is there of an earlier run is kept, if it is whole and by its digest; the same command goes on.
        """
        try:
            here = await self._zfs.dataset(dataset)
        except errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {dataset} here", code="no_dataset", exit=Exit.NOT_FOUND, hint="zfs list"
            ) from None
        if not here.encrypted and not plaintext:
            raise _refused(
                f"{dataset} is not encrypted",
                "plaintext_seed",
                "whoever finds the disk could read it, and no vault would take it",
                f"meshkeep encrypt {dataset}; or, for a member and a disk that you keep an eye on: --plaintext",
            )
        try:
            snapshots = await self._held(dataset)
            wanted = snapshots[-1:] if newest_only else snapshots
            try:
                return await self._write(dataset, wanted, place, here.encrypted, progress)
            finally:
                await self._zfs.release(HOLD, [one.full_name for one in snapshots])
        except (OSError, TransferFailed) as error:
            raise MeshkeepError(
                f"the seed of {dataset} is not whole",
                code=getattr(error, "code", "disk_failed"),
                why=str(error),
                hint="the same command goes on",
            ) from error

    async def _held(self, dataset: str) -> list[Snapshot]:
        snapshots = await self._zfs.snapshots(dataset)
        if not snapshots:
            raise _refused(
                f"{dataset} has no snapshot to send",
                "nothing_to_send",
                "",
                f"meshkeep snapshot take {dataset}",
            )
        await self._zfs.hold(HOLD, [one.full_name for one in snapshots])
        return snapshots

    async def _write(
        self, dataset: str, snapshots: list[Snapshot], place: Path, raw: bool, progress: Tell
    ) -> dict[str, Any]:
        await asyncio.to_thread(_make, place)
        index = await self._begun(dataset, place, raw)
        index = replace(index, pieces=await self._sound(index, snapshots, place, progress), whole=False)
        kept = len(index.pieces)
        base = snapshots[kept - 1] if kept else None
        for number, one in enumerate(snapshots[kept:], start=kept):
            index = index.with_piece(
                await self._piece(number, base, one, place, raw, progress, len(snapshots))
            )
            await self._save(index, place)
            base = one
        index = replace(index, whole=True)
        await self._save(index, place)
        return {
            "dataset": dataset,
            "place": str(place),
            "raw": raw,
            "streams": len(index.pieces),
            "kept": kept,
            "bytes": sum(one.size for one in index.pieces),
            "newest": index.pieces[-1].name,
            "owner": index.owner,
        }

    async def _begun(self, dataset: str, place: Path, raw: bool) -> Index:
        """What an earlier run wrote; a new one where there is nothing."""
        fresh = Index(self._me().public, dataset, raw, int(self._now()), whole=False)
        try:
            data = await asyncio.to_thread(_read_index, place)
        except FileNotFoundError:
            if others := await asyncio.to_thread(lambda: sorted(one.name for one in place.iterdir())):
                raise _refused(
                    f"{place} is not empty",
                    "place_taken",
                    f"it has {', '.join(others[:3])}",
                    "give another directory",
                ) from None
            return fresh
        try:
            index = load(data, self._mesh())
        except BadIndex as error:
            raise _refused(
                f"what is in {place} is no seed of ours", "place_taken", str(error), "give another directory"
            ) from error
        if (index.owner, index.dataset, index.raw) != (fresh.owner, dataset, raw):
            raise _refused(
                f"{place} has the seed of another dataset",
                "place_taken",
                index.dataset,
                "give another directory",
            )
        return index

    async def _sound(
        self, index: Index, snapshots: list[Snapshot], place: Path, progress: Tell
    ) -> tuple[Piece, ...]:
        """The first pieces that are of these snapshots, and are as they were written."""
        good: list[Piece] = []
        for number, (piece, snapshot) in enumerate(zip(index.pieces, snapshots, strict=False)):
            base = good[-1].to_guid if good else None
            await progress({"text": f"checking @{piece.name}", "step": number + 1, "steps": len(snapshots)})
            if (piece.to_guid, piece.from_guid) != (snapshot.guid, base) or not await _is_whole(piece, place):
                break
            good.append(piece)
        return tuple(good)

    async def _piece(
        self,
        number: int,
        base: Snapshot | None,
        one: Snapshot,
        place: Path,
        raw: bool,
        progress: Tell,
        of: int,
    ) -> Piece:
        name = file_name(number, one.guid)
        draft = place / f".{name}.part"
        draft.unlink(missing_ok=True)
        count, total = 0, await self._zfs.send_size(one.full_name, base.full_name if base else None, raw=raw)

        def counted(done: int) -> None:
            nonlocal count
            count = done

        async def tell() -> None:
            told = {"snapshot": one.name, "bytes_done": count, "bytes_total": max(total, count)}
            await progress({"step": number + 1, "steps": of, **told})

        async with watched(tell):
            step = SendStep(one.full_name, base.full_name if base else None)
            written = await to_file(self._workers, step, draft, raw=raw, progress=counted)
        draft.replace(place / name)
        return Piece(
            name,
            one.name,
            one.guid,
            base.guid if base else None,
            one.creation,
            written.size,
            written.sha256,
            written.key,
        )

    async def _save(self, index: Index, place: Path) -> None:
        data = dump(index, self._me(), self._mesh())
        await asyncio.to_thread(write_durably, place / INDEX, data)


class SeedImport:
    """The target's side. `public` gives the key of an active node that may own datasets, None for all others."""

    def __init__(
        self,
        replicas: Replicas,
        *,
        mesh: Callable[[], bytes],
        public: Callable[[str], bytes | None],
        named: Callable[[str], str],
    ) -> None:
        self._replicas = replicas
        self._mesh = mesh
        self._public = public
        self._named = named

    async def plan(self, place: Path) -> dict[str, Any]:
        """What `run` would read in. Changes nothing. Raises MeshkeepError."""
        index = await self._index(place)
        here = await self._here(index)
        return self._report(
            index, place, [one for one in index.pieces if one.to_guid not in here], done=False
        )

    async def run(self, place: Path, progress: Tell) -> dict[str, Any]:
        """Store what is not here yet. Raises MeshkeepError; what was stored by then stays, and the same goes on."""
        index = await self._index(place)
        here = await self._here(index)
        missing = [one for one in index.pieces if one.to_guid not in here]
        try:
            if missing:
                # What was cut short before cannot go on from a file: that one stream begins anew.
                await self._replicas.abort([index.owner], index.dataset)
            for number, piece in enumerate(missing, start=1):
                await progress({"text": f"checking @{piece.name}", "step": number, "steps": len(missing)})
                if not await _is_whole(piece, place):
                    raise _refused(
                        f"{piece.file} is not as it was written",
                        "damaged_seed",
                        "its bytes have another digest than the index says; ZFS has seen none of it",
                        "on the source, the same seed export mends it",
                    )
                await progress({"text": f"@{piece.name}", "step": number, "steps": len(missing)})
                await self._store(index, piece, place)
        except Refusal as error:
            raise MeshkeepError(
                f"the seed of {self._named(index.owner)}:{index.dataset} was not stored",
                code=error.code,
                exit=Exit(error.exit),
                why=error.text,
                hint=error.hint,
            ) from error
        except OSError as error:
            raise MeshkeepError(
                f"the seed in {place} cannot be read",
                code="disk_failed",
                why=str(error),
                hint="the same command goes on",
            ) from error
        return self._report(index, place, missing, done=True)

    async def _store(self, index: Index, piece: Piece, place: Path) -> None:
        step = OfferedStep(piece.name, piece.to_guid, piece.from_guid, piece.size)
        offer = Offer(index.dataset, index.raw, False, (step,))
        stream = _FromFile(place / piece.file)
        try:
            await self._replicas.receive([index.owner], offer.as_json(), stream)
        finally:
            await stream.close()

    async def _here(self, index: Index) -> frozenset[int]:
        try:
            found = await self._replicas.state([index.owner], index.dataset)
        except Refusal as error:
            raise MeshkeepError(
                error.text, code=error.code, exit=Exit(error.exit), hint=error.hint
            ) from error
        here = frozenset(int(one["guid"]) for one in found["snapshots"])
        first = next((one for one in index.pieces if one.to_guid not in here), None)
        if first is not None and here and first.from_guid not in here:
            raise _refused(
                f"the seed does not follow on what is stored of {index.dataset}",
                "no_base",
                f"@{first.name} begins at a snapshot that is not here",
                "meshkeep vault keep",
            )
        return here

    async def _index(self, place: Path) -> Index:
        try:
            index = load(await asyncio.to_thread(_read_index, place), self._mesh())
        except FileNotFoundError:
            raise MeshkeepError(
                f"there is no seed in {place}", code="no_seed", exit=Exit.NOT_FOUND, why=f"it has no {INDEX}"
            ) from None
        except (BadIndex, OSError) as error:
            raise _refused(f"the seed in {place} is not taken", "bad_seed", str(error), "") from error
        if self._public(index.owner) != index.public:
            raise _refused(
                f"the seed in {place} is of a node that is not in this mesh",
                "unknown_owner",
                f"it is signed by {index.owner}",
                "meshkeep status",
            )
        if not index.pieces:
            raise _refused(
                f"the seed in {place} is empty", "bad_seed", "", "on the source, the same seed export"
            )
        return index

    def _report(self, index: Index, place: Path, missing: list[Piece], *, done: bool) -> dict[str, Any]:
        return {
            "place": str(place),
            "owner": self._named(index.owner),
            "dataset": index.dataset,
            "raw": index.raw,
            "whole": index.whole,
            "streams": len(index.pieces),
            "stored": len(missing),
            "bytes": sum(one.size for one in missing),
            "newest": index.pieces[-1].name,
            "done": done,
            "next": f"on {self._named(index.owner)}: meshkeep replicate add {index.dataset} NODE",
        }


class _FromFile(IncomingStream):
    """A file in the place of a peer's connection."""

    def __init__(self, path: Path) -> None:
        self.accepted = self.sending = False
        self._path = path
        self._near, self._far = pair()
        self._feeding: asyncio.Future[None] | None = None

    async def accept(self, reply: dict[str, Any], *, sending: bool = False) -> socket.socket:
        self.accepted = True
        self._feeding = asyncio.ensure_future(asyncio.to_thread(feed, self._path, self._near))
        return self._far

    async def close(self) -> None:
        """Nobody reads any more: whatever is still being fed ends."""
        self._far.close()
        try:
            if self._feeding is not None:
                await self._feeding
        finally:
            self._near.close()


def _make(place: Path) -> None:
    place.mkdir(mode=0o700, exist_ok=True)
    if not stat.S_ISDIR(place.lstat().st_mode):
        raise NotADirectoryError(f"{place} is no directory of its own")


def _read_index(place: Path) -> bytes:
    descriptor = os.open(place / INDEX, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        return file.read(MAX_INDEX + 1)


async def _is_whole(piece: Piece, place: Path) -> bool:
    try:
        return await asyncio.to_thread(digest, place / piece.file) == (piece.size, piece.sha256)
    except FileNotFoundError:
        return False


def _refused(what: str, code: str, why: str, hint: str) -> MeshkeepError:
    return MeshkeepError(what, code=code, exit=Exit.REFUSED, why=why, hint=hint)
