"""What root puts on a vault: streams leave it changed, with checksums that fit. /run/lie says what is changed.

``key``: the wrapped key, ``ivset``: the guid of the snapshot's IV set, ``bytes``: the ciphertext of every file.
Source in OpenZFS: module/zfs/dmu_send.c (dump_record).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from replication.records import Walker
from zfs.stream import HEADER_SIZE, crypt_payload, read_begin

LIE = Path("/run/lie")
FILE_CONTENTS = 19
WRITE, END = 3, 5
SUM = HEADER_SIZE - 32
_ALL = (1 << 64) - 1


class Fletcher:
    """fletcher-4 of all it was given so far."""

    def __init__(self) -> None:
        self._sums = (0, 0, 0, 0)

    def add(self, data: bytes) -> None:
        a, b, c, d = self._sums
        for (word,) in struct.iter_unpack("<I", data[: len(data) // 4 * 4]):
            a += word
            b += a
            c += b
            d += c
        self._sums = a & _ALL, b & _ALL, c & _ALL, d & _ALL

    def packed(self) -> bytes:
        return struct.pack("<4Q", *self._sums)


def changed(data: bytes, how: str) -> bytes:
    """The stream with the lie in it, and every checksum as ZFS would have made it."""
    checksum, out = Fletcher(), bytearray()
    for header, payload in records(data):
        kind = struct.unpack_from("<I", header)[0]
        if kind == 0:
            payload = _begun(payload, how)
        if kind == WRITE and how == "bytes" and struct.unpack_from("<I", header, 16)[0] == FILE_CONTENTS:
            payload = bytes([payload[0] ^ 1]) + payload[1:]
        if kind == END:
            header = header[:8] + checksum.packed() + header[40:]
        checksum.add(header[:SUM])
        if kind != 0:
            header = header[:SUM] + checksum.packed()
        checksum.add(header[SUM:])
        checksum.add(payload)
        out += header + payload
    return bytes(out)


def records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(header, payload) of each."""
    begin = read_begin(data[:HEADER_SIZE])
    at = HEADER_SIZE + begin.payload_size
    yield data[:HEADER_SIZE], data[HEADER_SIZE:at]
    walker = Walker(begin)
    while not walker.ended:
        header = data[at : at + HEADER_SIZE]
        walker.feed(memoryview(header))
        at += HEADER_SIZE + walker.left
        payload = data[at - walker.left : at]
        walker.passed(walker.left)
        yield header, payload


def _begun(payload: bytes, how: str) -> bytes:
    keys = crypt_payload(payload)
    assert keys is not None
    if how == "key":
        other = bytes([keys.master_key[0] ^ 1]) + keys.master_key[1:]
        return payload.replace(keys.master_key, other)
    if how == "ivset":
        return payload.replace(
            struct.pack("<Q", keys.to_ivset_guid), struct.pack("<Q", keys.to_ivset_guid ^ 1)
        )
    return payload


def lying(send: Any) -> Any:
    """*send* of the real door, or what /run/lie makes of it."""

    def lie(streams: Any, snapshot: str, base: str | None, fd: int, **more: Any) -> None:
        if not LIE.exists():
            send(streams, snapshot, base, fd, **more)
            return
        whole = os.memfd_create("stream")
        send(streams, snapshot, base, whole, **more)
        data = os.pread(whole, os.fstat(whole).st_size, 0)
        os.close(whole)
        with os.fdopen(os.dup(fd), "wb") as out:
            out.write(changed(data, LIE.read_text().strip()))

    return lie
