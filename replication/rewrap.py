"""Giving a raw stream the wrapped key of another BEGIN record, so that receiving it puts an archived wrap back. Pure.

A wrap is of a dataset and not of a snapshot, and a raw incremental brings the sender's along (openzfs#12614). What
undid a replica's passphrase undoes that: the dataset's own empty stream, with the archived wrap in place of the one it
has. ZFS takes it because the key inside is the same one (its guid is compared); whether the wrap fits is seen when it
is opened. The rest of the stream stays as it was, but for its checksums.

Sources in OpenZFS: module/zfs/dmu_send.c (dump_record: what each checksum covers), module/zfs/dsl_crypt.c
(dsl_crypto_recv_raw_key_sync: what is taken from the stream).
"""

import struct
from dataclasses import replace

from replication.errors import StreamRefused
from replication.records import Walker
from zfs.stream import HEADER_SIZE, BadStreamHeader, KeyMaterial, crypt_payload, read_begin

MAX_STREAM = 4 << 20
"""Bytes of a stream that is read whole; one without changes has a few KiB."""

_CHECKSUM = HEADER_SIZE - 32
_END = 5
_MASK = (1 << 64) - 1
_NUMBERS = ("keyformat", "pbkdf2iters", "pbkdf2salt")


class CannotRewrap(Exception):
    """Why the archived wrap cannot take the place of the stream's. Nothing was changed."""


def rewrapped(stream: bytes, archived: bytes) -> bytes:
    """*stream*, one raw substream to its END, with the wrap in the BEGIN payload *archived*. Raises CannotRewrap."""
    try:
        begin = read_begin(stream[:HEADER_SIZE])
        start = HEADER_SIZE + begin.payload_size
        payload = _with_wrap(stream[HEADER_SIZE:start], archived)
        if begin.big_endian:
            raise CannotRewrap("the stream is of a host of the other byte order")
        return _summed(stream[:HEADER_SIZE] + payload + stream[start:], start, Walker(begin))
    except (BadStreamHeader, StreamRefused) as error:
        raise CannotRewrap(str(error)) from error


def _with_wrap(payload: bytes, archived: bytes) -> bytes:
    """*payload* with the wrap of *archived* and all else of its own: no byte of it moves."""
    now, then = crypt_payload(payload), crypt_payload(archived)
    if now is None or then is None:
        raise CannotRewrap("there is no key material in it")
    if (now.suite, now.guid, now.version) != (then.suite, then.guid, then.version):
        raise CannotRewrap("it is the wrap of another key: no passphrase of that dataset opens with it")
    wanted = replace(then, to_ivset_guid=now.to_ivset_guid, from_ivset_guid=now.from_ivset_guid)
    made = payload
    for old, new in ((now.master_key, then.master_key), (now.hmac_key, then.hmac_key), (now.iv, then.iv),
                     (now.mac, then.mac)):  # fmt: skip
        made = _exchanged(made, 0, _array(payload, old), _array(payload, new))
    for name, was, will in zip(_NUMBERS, _numbers(now), _numbers(then), strict=True):
        order = "<" if payload[:2] == b"\0\1" else ">"
        at = made.find(name.encode() + b"\0") if payload[0] == 0 else made.find(name.encode())
        made = _exchanged(made, at, struct.pack(order + "Q", was), struct.pack(order + "Q", will))
    if crypt_payload(made) != wanted:
        raise CannotRewrap("the wraps are not of one form")
    return made


def _array(payload: bytes, data: bytes) -> bytes:
    """As it stands in the payload: XDR has four bytes for each."""
    return data if payload[0] == 0 else b"".join(struct.pack(">I", byte) for byte in data)


def _numbers(key: KeyMaterial) -> tuple[int, int, int]:
    return key.keyformat, key.pbkdf2_iterations, key.pbkdf2_salt


def _exchanged(payload: bytes, after: int, old: bytes, new: bytes) -> bytes:
    at = payload.find(old, max(after, 0))
    if at < 0 or after < 0 or len(old) != len(new):
        raise CannotRewrap("the wraps are not of one form")
    return payload[:at] + new + payload[at + len(old) :]


def _summed(stream: bytes, start: int, walker: Walker) -> bytes:
    """The checksum of each record covers all bytes before it; END says once more what those before END come to."""
    made = bytearray(stream)
    total = _Fletcher()
    total.add(made[:start])
    at = start
    while not walker.ended:
        header = made[at : at + HEADER_SIZE]
        if len(header) < HEADER_SIZE:
            raise CannotRewrap("the stream ends before its END record")
        if struct.unpack_from("<I", header)[0] == _END:
            header[8:40] = total.packed()
        total.add(header[:_CHECKSUM])
        header[_CHECKSUM:] = total.packed()
        total.add(header[_CHECKSUM:])
        made[at : at + HEADER_SIZE] = header
        walker.feed(memoryview(bytes(header)))
        at += HEADER_SIZE
        if len(made) < at + walker.left:
            raise CannotRewrap("the stream ends within a record")
        total.add(made[at : at + walker.left])
        at += walker.left
        walker.passed(walker.left)
    if at != len(made):
        raise CannotRewrap("something follows the stream's end")
    return bytes(made)


class _Fletcher:
    """Fletcher-4 over little-endian words, as it goes on."""

    def __init__(self) -> None:
        self._sums = (0, 0, 0, 0)

    def add(self, data: bytes | bytearray) -> None:
        a, b, c, d = self._sums
        count = len(data) // 4  # a rest is no word, and does not count
        for word in struct.unpack_from(f"<{count}I", data):
            a += word
            b += a
            c += b
            d += c
        self._sums = (a & _MASK, b & _MASK, c & _MASK, d & _MASK)

    def packed(self) -> bytes:
        return struct.pack("<4Q", *self._sums)
