"""Putting an archived wrap back on a dataset that was restored: its older passphrase opens it again.

A copy that took a changed key (approved by mistake, or by who should not have) gives back streams under that one. The
keeper's archive has the wraps before it. The restored dataset is sent to itself: an empty raw stream, with the archived
wrap in it (`replication/rewrap.py`). The copy itself is never touched, and none of the restored data is.
"""

import asyncio
import base64
import binascii
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable
from node import local_streams
from node.directory import Directory
from node.errors import Exit, MeshkeepError
from node.transfers import Workers
from replication.errors import TransferFailed
from replication.jobs import ReceiveStep, SendStep
from replication.rewrap import MAX_STREAM, CannotRewrap, rewrapped
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look, Snapshot
from zfs.stream import BadStreamHeader, crypt_payload

SHORT = 16
"""Letters of a fingerprint that people compare and type."""

MOST = 64


@dataclass(frozen=True, slots=True)
class Wrap:
    """One archived wrap. `current`: the copy is under it now."""

    fingerprint: str
    payload: bytes
    current: bool


class WrapBack:
    """`directory` finds the node that has the archive."""

    def __init__(self, zfs: Zfs, workers: Workers, directory: Directory, scratch: Path) -> None:
        self._zfs = zfs
        self._workers = workers
        self._directory = directory
        self._scratch = scratch

    async def wraps(self, node: str, owner: str | None, source: str) -> list[Wrap]:
        """What *node* has archived of *source*. Raises MeshkeepError."""
        peer = self._directory.peer(node)
        args = {"dataset": source} | ({} if owner is None else {"owner": owner})
        try:
            return _parsed(await self._directory.link().call(peer.address, "replica.wraps", args))
        except (PeerUnreachable, LinkTimeout, PeerRefused, ValueError) as error:
            exit = Exit.NO_PEER if isinstance(error, PeerUnreachable | LinkTimeout) else Exit.REFUSED
            raise MeshkeepError(
                f"{node} gives no archived key of {source}",
                code=getattr(error, "code", "peer_unreachable"),
                exit=exit,
                why=str(error),
            ) from error

    async def put_back(self, dataset: str, wrap: Wrap, passphrase: bytes | None) -> dict[str, Any]:
        """Give *dataset* that wrap. With a *passphrase* that does not open it then, the one it has now comes back.

        Raises MeshkeepError; nothing was changed then.
        """
        before = await local_streams.wrap_of(
            self._workers, (await self._fit(dataset)).snapshots[-1].full_name
        )
        await self._exchange(dataset, wrap.payload)
        opened: bool | None = None
        if passphrase is not None:
            try:
                await self._zfs.check_key(dataset, passphrase)
            except errors.WrongKey:
                if before is not None:
                    await self._exchange(dataset, base64.b64decode(before.payload))
                raise MeshkeepError(
                    f"that passphrase does not open {dataset} under the wrap {wrap.fingerprint[:SHORT]} either",
                    code="key_does_not_open",
                    why="the wrap that it had was put back",
                    hint="another one of the archive, or another passphrase",
                ) from None
            opened = True
        return {
            "dataset": dataset,
            "wrap": wrap.fingerprint,
            "was": before.fingerprint if before is not None else None,
            "opens": opened,
            "next": f"zfs load-key {dataset} && zfs mount {dataset}",
        }

    async def _fit(self, dataset: str) -> Look:
        """What is there, if a stream of its own can be received onto it. Raises MeshkeepError."""
        try:
            look = await self._zfs.look(dataset)
        except errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {dataset} here", code="no_dataset", exit=Exit.NOT_FOUND, hint="zfs list"
            ) from None
        here = look.dataset
        wrong, hint = "", ""
        if here.encryption_root != dataset:
            wrong = "it is no encryption root of its own"
        elif not look.snapshots:
            wrong = "it has no snapshot"
        elif look.resume is not None:
            wrong, hint = "a partly received stream of it waits", f"zfs receive -A {dataset}"
        elif here.mounted or here.keystatus == "available":
            wrong, hint = "its key is loaded", f"zfs unmount {dataset}; zfs unload-key {dataset}"
        elif here.written:
            wrong, hint = "it was written to since it was restored", "restore it again, under another name"
        if wrong:
            raise MeshkeepError(
                f"no archived key is put back on {dataset}",
                code="not_fit",
                exit=Exit.REFUSED,
                why=wrong,
                hint=hint,
            )
        return look

    async def _exchange(self, dataset: str, payload: bytes) -> None:
        """Leaves one snapshot more, which changes nothing. Raises MeshkeepError; then there is none."""
        base = (await self._fit(dataset)).snapshots[-1]
        made = f"{dataset}@meshkeep_wrap_{base.guid:016x}"
        try:
            await self._zfs.snapshot([made])
            try:
                guid = next(one.guid for one in await self._zfs.snapshots(dataset) if one.full_name == made)
                stream = rewrapped(await self._empty_stream(made, base), payload)
            finally:
                await self._zfs.destroy_snapshots([made])
            await self._receive(ReceiveStep(made, guid, base.guid), stream)
        except (CannotRewrap, errors.ZfsError, TransferFailed, OSError) as error:
            raise MeshkeepError(
                f"no archived key is put back on {dataset}", code="not_put_back", why=str(error)
            ) from error

    async def _empty_stream(self, snapshot: str, base: Snapshot) -> bytes:
        size = await self._zfs.send_size(snapshot, base.full_name, raw=True)
        if size > MAX_STREAM:
            raise CannotRewrap("it was written to since its newest snapshot")
        with tempfile.TemporaryDirectory(dir=self._scratch) as folder:
            path = Path(folder) / "stream"
            step = SendStep(snapshot, base.full_name)
            await local_streams.to_file(self._workers, step, path, raw=True, progress=lambda _: None)
            return await asyncio.to_thread(path.read_bytes)

    async def _receive(self, step: ReceiveStep, stream: bytes) -> None:
        near, far = local_streams.pair()
        with near, far:
            transfer = await self._workers.receive(far, steps=[step], raw=True, resuming=False)
            feeding = asyncio.ensure_future(asyncio.to_thread(_feed, near, stream))
            try:
                await transfer.outcome()
            finally:
                near.close()
                await asyncio.gather(feeding, return_exceptions=True)


def _feed(sock: socket.socket, stream: bytes) -> None:
    sock.sendall(stream)
    sock.shutdown(socket.SHUT_WR)


def _parsed(answer: Mapping[str, Any]) -> list[Wrap]:
    """Raises ValueError for what is not of its form: a fingerprint is that of its payload, or it is none."""
    told = answer.get("wraps")
    if not isinstance(told, list) or len(told) > MOST:
        raise ValueError("its answer makes no sense")
    found = []
    for one in told:
        try:
            payload = base64.b64decode(one["payload"], validate=True)
            key = crypt_payload(payload)
        except (KeyError, TypeError, binascii.Error, BadStreamHeader) as error:
            raise ValueError(f"its answer makes no sense: {error!r}") from error
        if key is not None:
            found.append(Wrap(key.fingerprint(), payload, key.fingerprint() == answer.get("pinned")))
    return found
