"""Streams of the ZFS that is not there. They begin with a genuine BEGIN record and payload, so that whatever
reads those before ZFS does can be tested. The rest are WRITE records that look genuine: one of how the body is to be
read, the body itself, and its digest in the END record.
"""

import hashlib
import os
import struct
from dataclasses import replace

from tests.fakes import records
from tests.fakes.nvlist import native
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_state import Node, Partial, Snap, base_of, body_of
from zfs import errors
from zfs.names import check_snapshot, parent_of
from zfs.stream import (
    HEADER_SIZE,
    BadStreamHeader,
    Begin,
    Feature,
    KeyMaterial,
    crypt_payload,
    read_begin,
    resume_point,
)

_BODY = struct.Struct(">BQ")
"""Whether it appends, and the bytes in all: the payload of the first record."""

_CHUNK = 1 << 16
_OBJECT, _WRITE = 1, 3


class FakeStreams:
    """`zfs.door.Streams` of the same host as a FakeZfs."""

    def __init__(self, zfs: FakeZfs) -> None:
        self._state = zfs.state

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        node, snap = self._state.node(snapshot.partition("@")[0]), self._state.snap(snapshot)
        raw = raw and node.wrap is not None
        if not raw and not node.key_available:
            raise errors.KeyUnavailable(snapshot)
        start = base_of(node, snap, base)
        appends, body = body_of(node, snap, start)
        rest = body[resume[1] :] if resume else body
        head = begin_record(node, snap, start, raw=raw, resume=resume)
        snap.sending += 1
        try:
            _write(fd, head + (_object(snap.guid) if raw else b""))
            _write(fd, records.write(snap.guid, _BODY.pack(appends, len(body))))
            for at in range(0, len(rest), records.BLOCK):
                _write(fd, records.write(snap.guid, rest[at : at + records.BLOCK], offset=at))
            _write(fd, records.end(snap.guid, _digest(body)))
        except BrokenPipeError as error:
            raise errors.BadStream(snapshot, "the reader went away") from error
        finally:
            snap.sending -= 1

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        check_snapshot(snapshot)
        try:
            begin = read_begin(_exactly(fd, HEADER_SIZE, snapshot))
            payload = _exactly(fd, begin.payload_size, snapshot)
            keys, point = crypt_payload(payload), resume_point(payload)
        except BadStreamHeader as error:
            raise errors.BadStream(snapshot, str(error)) from error
        if begin.compound or begin.dedup or begin.redacted or begin.unknown:
            raise errors.BadStream(snapshot, "a stream that this does not receive")
        while _exactly(fd, HEADER_SIZE, snapshot)[0] == _OBJECT:
            pass
        appends, total = _BODY.unpack(_exactly(fd, _BODY.size, snapshot))
        node = self._target(snapshot, begin, keys, point, Partial(
            begin.to_guid, begin.from_guid, begin.to_name, total, bool(appends), begin.raw
        ))  # fmt: skip
        self._collect(snapshot, node, fd)
        self._finish(snapshot, node, begin, keys)

    def _target(
        self,
        snapshot: str,
        begin: Begin,
        keys: KeyMaterial | None,
        point: tuple[int, int] | None,
        fresh: Partial,
    ) -> Node:
        """The dataset to receive into, with its `partial` set; all that ZFS refuses before the first byte."""
        name = snapshot.partition("@")[0]
        self._state.check_pool(name, write=True)
        node = self._state.nodes.get(name)
        if begin.resuming:
            if node is None:
                raise errors.NotFound(name)
            _check_resume(snapshot, node.partial, begin, point)
        elif node is not None:
            _check_existing(snapshot, node, begin, keys)
            node.partial = fresh
        else:
            node = self._new(snapshot, begin, keys)
            node.partial = fresh
        return node

    def _new(self, snapshot: str, begin: Begin, keys: KeyMaterial | None) -> Node:
        name = snapshot.partition("@")[0]
        parent = parent_of(name)
        if begin.from_guid is not None or parent is None:
            raise errors.NotFound(name)
        self._state.node(parent, write=True)
        if keys is None:
            node = self._state.add(name)
        else:
            node = Node(name, self._state.new_guid(), self._state.next_txg(), wrap=keys)
            node.key_root = node
            self._state.nodes[name] = node
        node.incomplete = True
        return node

    def _collect(self, snapshot: str, node: Node, fd: int) -> None:
        """Read the body into `node.partial`, where it stays if the stream is cut or there is no room."""
        partial = node.partial
        assert partial is not None
        good = partial.body
        header = _exactly(fd, HEADER_SIZE, snapshot)
        while header[0] == _WRITE:
            self._block(snapshot, node, fd, struct.unpack_from("<Q", header, 96)[0])
            header = _exactly(fd, HEADER_SIZE, snapshot)
        if not _summed(header, partial.to_guid) and header != records.end(
            partial.to_guid, _digest(partial.body)
        ):
            partial.body = good  # ZFS checks every record before it keeps it
            raise errors.BadStream(snapshot, "wrong checksum")

    def _block(self, snapshot: str, node: Node, fd: int, length: int) -> None:
        assert node.partial is not None
        while length:
            chunk = os.read(fd, min(length, _CHUNK))
            if not chunk:
                raise errors.BadStream(snapshot, "incomplete stream")
            self._state.check_pool(snapshot, write=True)
            if len(chunk) > self._state.available(node.name):
                raise errors.NoSpace(node.name)
            node.partial.body += chunk
            length -= len(chunk)

    def _finish(self, snapshot: str, node: Node, begin: Begin, keys: KeyMaterial | None) -> None:
        partial = node.partial
        assert partial is not None
        node.data = node.data + partial.body if partial.appends else partial.body
        node.partial, node.incomplete = None, False
        if keys is not None:
            node.wrap = keys
        _, _, short = snapshot.partition("@")
        ivset = keys.to_ivset_guid if keys else self._state.new_guid() if node.wrap else 0
        snap = Snap(short, begin.to_guid, self._state.next_txg(), begin.creation, ivset, node.data)
        node.snapshots[short] = snap
        node.snapshots_changed = self._state.now()


def _check_resume(
    snapshot: str, partial: Partial | None, begin: Begin, point: tuple[int, int] | None
) -> None:
    if partial is None or partial.to_guid != begin.to_guid or point != (1, len(partial.body)):
        raise errors.BadStream(snapshot, "it resumes something else")


def _check_existing(snapshot: str, node: Node, begin: Begin, keys: KeyMaterial | None) -> None:
    """dmu_recv.c, recv_begin_check_existing_impl."""
    if node.partial is not None:
        raise errors.Busy(node.name, "it has a partly received stream")
    if snapshot.partition("@")[2] in node.snapshots or begin.from_guid is None:
        raise errors.AlreadyExists(snapshot)
    if begin.raw and node.wrap is None:
        raise errors.BadStream(snapshot, "raw onto what was not received raw")
    by_guid = {one.guid: one for one in node.snapshots.values()}
    base, newest = by_guid.get(begin.from_guid), node.newest
    if base is None or newest is None:
        raise errors.StreamMismatch(snapshot)
    if node.data != base.data or (begin.raw and newest is not base):
        raise errors.DestinationModified(snapshot)
    if keys is not None and keys.from_ivset_guid != base.ivset:
        raise errors.StreamMismatch(snapshot, "IV set guid mismatch")


def begin_record(
    node: Node, snap: Snap, base: Snap | None, *, raw: bool, resume: tuple[int, int] | None = None
) -> bytes:
    """The BEGIN record and payload that ZFS would send."""
    fields: dict[str, object] = {}
    features = Feature.LZ4 | Feature.COMPRESSED | Feature.LARGE_DNODE
    if raw and node.wrap is not None:
        features |= Feature.RAW
        fields["crypt_keydata"] = crypt_fields(
            replace(node.wrap, to_ivset_guid=snap.ivset, from_ivset_guid=base.ivset if base else None)
        )
    if resume is not None:
        features |= Feature.RESUMING
        fields |= {"resume_object": resume[0], "resume_offset": resume[1]}
    payload = native(fields) if fields else b""
    name = f"{node.name}@{snap.name}".encode()
    head = struct.pack(
        "<IIQQQIIQQ", 0, len(payload), 0x2F5BACBAC, (int(features) << 2) | 1, snap.creation, 2, 12,
        snap.guid, base.guid if base else 0,
    )  # fmt: skip
    return (head + name).ljust(HEADER_SIZE, b"\0") + payload


def crypt_fields(keys: KeyMaterial) -> dict[str, object]:
    """As dsl_crypto_populate_key_nvlist orders and types them."""
    return {
        "DSL_CRYPTO_SUITE": keys.suite,
        "DSL_CRYPTO_GUID": keys.guid,
        "DSL_CRYPTO_VERSION": keys.version,
        "DSL_CRYPTO_MASTER_KEY_1": keys.master_key,
        "DSL_CRYPTO_HMAC_KEY_1": keys.hmac_key,
        "DSL_CRYPTO_IV": keys.iv,
        "DSL_CRYPTO_MAC": keys.mac,
        "portable_mac": bytes(32),
        "keyformat": keys.keyformat,
        "pbkdf2iters": keys.pbkdf2_iterations,
        "pbkdf2salt": keys.pbkdf2_salt,
        "mdn_checksum": 0,
        "mdn_compress": 0,
        "mdn_nlevels": 6,
        "mdn_blksz": 16384,
        "mdn_indblkshift": 17,
        "mdn_nblkptr": 3,
        "mdn_maxblkid": 4,
        "to_ivset_guid": keys.to_ivset_guid,
        "from_ivset_guid": keys.from_ivset_guid or 0,
    }


def _object(guid: int) -> bytes:
    """What a raw stream says of the object before it writes to it: no more than the header."""
    return records.object_record(guid, 1, bonus_kind=0, bonus=0, raw_bonus=0, levels=6)


def _summed(header: bytes, guid: int) -> bool:
    """Whether an END record has the sums of ZFS, up to itself and with itself; the whole is judged in a guest."""
    a, b, c, d = struct.unpack_from("<4Q", header, 8)
    for word in struct.unpack_from("<70I", header):
        a += word
        b += a
        c += b
        d += c
    after = struct.pack("<4Q", *(one & ((1 << 64) - 1) for one in (a, b, c, d)))
    return header[0] == 5 and header[40:48] == guid.to_bytes(8, "little") and header[-32:] == after


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=32).digest()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[:_CHUNK]) :]


def _exactly(fd: int, size: int, snapshot: str) -> bytes:
    data = b""
    while len(data) < size:
        chunk = os.read(fd, size - len(data))
        if not chunk:
            raise errors.BadStream(snapshot, "incomplete stream")
        data += chunk
    return data
