"""Streams: real ones of this host's ZFS with one lie in them, and such as no ZFS makes, onto what is stored."""

import struct
from collections.abc import Callable

from zfs.stream import crypt_payload

from . import forge
from .attack import DONE, Attacks, code_of, together
from .forge import Record, forged
from .thief import Thief, announced, run

attack = Attacks("forging")

Lie = Callable[[list[Record]], None]
NAME = "next"
ALL = (1 << 64) - 1


def genuine(thief: Thief) -> tuple[bytes, int, int]:
    """The increment that the owner would send next, its guid and its base's: made once, before any lie."""
    if "genuine" not in thief.kept:
        base = run(
            "zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-s", "createtxg", thief.dataset
        ).split()[-1]
        guid = thief.snapshot(thief.dataset, NAME, "more and more " * 20_000)
        thief.kept["genuine"] = thief.stream(f"{thief.dataset}@{NAME}", base), guid, thief.guid(base)
    found: tuple[bytes, int, int] = thief.kept["genuine"]
    return found


async def lies(thief: Thief, *all_: Lie) -> str:
    """How the genuine increment ended with each of the lies in it."""
    data, guid, base = genuine(thief)
    return together([await code_of(thief.push(forged(data, lie), guid, base, name=NAME)) for lie in all_])


def begin(field: forge.Field, value: int) -> Lie:
    return lambda records: records[0].set(field, value)


def feature(bit: int) -> Lie:
    """A DMU_BACKUP_FEATURE_* more."""

    def lie(records: list[Record]) -> None:
        info = records[0].get(forge.VERSION_INFO)
        records[0].set(forge.VERSION_INFO, info | 1 << bit + 2)

    return lie


def changed(kind: int, field: forge.Field, value: int) -> Lie:
    """A field of the first record of that type."""
    return lambda records: records[forge.first(records, kind)].set(field, value)


def before_the_end(one: Record) -> Lie:
    """One record more."""
    return lambda records: records.insert(-1, one)


def swapped(part: str) -> Lie:
    """One byte of the wrapped key changed, which only the right passphrase would notice."""

    def lie(records: list[Record]) -> None:
        keys = crypt_payload(records[0].payload)
        assert keys is not None
        value = getattr(keys, part)
        old = value if isinstance(value, bytes) else struct.pack("<Q", value)
        new = bytes([old[0] ^ 1]) + old[1:]
        assert records[0].payload.count(old) == 1
        records[0].payload = records[0].payload.replace(old, new)

    return lie


def number(name: bytes, value: int) -> Lie:
    """Another number in the payload of BEGIN: its value stands behind its name, each padded to eight bytes."""

    def lie(records: list[Record]) -> None:
        payload = bytearray(records[0].payload)
        at = payload.index(name + b"\0") - 16
        value_at = at + (16 + len(name) + 1 + 7 & ~7)
        struct.pack_into("<Q", payload, value_at, value)
        records[0].payload = bytes(payload)

    return lie


@attack("stream_refused")
async def no_stream(thief: Thief) -> str:
    """Noise, text, and a stream without its beginning."""
    data, guid, base = genuine(thief)
    tries = (bytes(range(256)) * 50, b"GET / HTTP/1.0\r\n\r\n" * 50, data[8:], bytes(5000))
    return together([await code_of(thief.push(one, guid, base, name=NAME)) for one in tries])


@attack("interrupted")
async def nothing_at_all(thief: Thief) -> str:
    """A stream that ends before it begins."""
    _, guid, base = genuine(thief)
    return await code_of(thief.push(b"", guid, base, name=NAME))


@attack("interrupted")
async def cut_in_every_record(thief: Thief) -> str:
    """A stream that ends within the header and within the payload of the first record of each type."""
    data, guid, base = genuine(thief)
    return together(
        [await code_of(thief.push(data[:at], guid, base, name=NAME)) for _, at in forge.cuts(data)]
    )


@attack("stream_refused")
async def another_snapshot(thief: Thief) -> str:
    """BEGIN of another snapshot than was announced, of another base, of none."""
    return await lies(thief, begin(forge.TO_GUID, 5), begin(forge.FROM_GUID, 5), begin(forge.FROM_GUID, 0))


@attack("stream_refused")
async def a_clone(thief: Thief) -> str:
    """The flag that makes a clone of another dataset's snapshot."""
    return await lies(thief, lambda records: records[0].set(forge.FLAGS, records[0].get(forge.FLAGS) | 1))


@attack("stream_refused")
async def a_package(thief: Thief) -> str:
    """The header type of a package of several streams, and of no type there is."""

    def as_type(kind: int) -> Lie:
        return lambda records: records[0].set(
            forge.VERSION_INFO, records[0].get(forge.VERSION_INFO) & ~3 | kind
        )

    return await lies(thief, as_type(2), as_type(3), as_type(0))


@attack("stream_refused")
async def real_packages(thief: Thief) -> str:
    """What zfs send -p and -R make: properties to set, snapshots to destroy, datasets to rename."""
    _, guid, base = genuine(thief)
    to = f"{thief.dataset}@{NAME}"
    since = run(
        "zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-s", "createtxg", thief.dataset
    ).split()[-2]
    packages = (
        thief.stream(to, since, "-w", "-p"),
        thief.stream(to, since, "-w", "-R"),
        thief.stream(to, None, "-wR"),
    )
    return together([await code_of(thief.push(one, guid, base, name=NAME)) for one in packages])


@attack("stream_refused")
async def features_that_are_refused(thief: Thief) -> str:
    """Deduplicated, redacted, resuming where that was not announced, and of the future."""
    return await lies(thief, *(feature(bit) for bit in (0, 1, 20, 21, 18, 30, 40, 55)))


@attack("stream_refused")
async def plaintext_announced_as_raw(thief: Thief) -> str:
    """A real increment that is not raw, where a raw one was announced."""
    _, guid, base = genuine(thief)
    to = f"{thief.dataset}@{NAME}"
    since = run(
        "zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-s", "createtxg", thief.dataset
    ).split()[-2]
    return await code_of(thief.push(thief.stream(to, since, "-c"), guid, base, name=NAME))


@attack("stream_refused")
async def not_raw_any_more(thief: Thief) -> str:
    """The raw flag taken out of a raw stream, its key left in; and the key taken out, the flag left in."""

    def no_flag(records: list[Record]) -> None:
        records[0].set(forge.VERSION_INFO, records[0].get(forge.VERSION_INFO) & ~(1 << 26))

    def no_key(records: list[Record]) -> None:
        records[0].payload = b""
        records[0].set(forge.LENGTH, 0)

    return await lies(thief, no_flag, no_key)


@attack("key_changed")
async def key_material_swapped(thief: Thief) -> str:
    """One bit in each part of the wrapped key: ZFS would take it, and no passphrase would open any snapshot."""
    parts = ("master_key", "hmac_key", "iv", "mac", "pbkdf2_salt")
    return await lies(thief, *map(swapped, parts), number(b"pbkdf2iters", 1_000_000), number(b"keyformat", 1))


@attack("key_changed")
async def key_of_another_dataset(thief: Thief) -> str:
    """The BEGIN payload of another dataset's stream: another key altogether."""
    other = forge.parse(thief.stream("tank/rotated@a"))[0].payload

    def lie(records: list[Record]) -> None:
        records[0].payload = other
        records[0].set(forge.LENGTH, len(other))

    return await lies(thief, lie)


@attack("key_changed")
async def a_real_change_of_the_key(thief: Thief) -> str:
    """zfs change-key at the source, as ransomware does it, and a genuine increment under the new passphrase."""
    _, guid, base = genuine(thief)
    with open("/root/mine", "w") as file:
        file.write("only I know this one\n")
    run(
        "zfs",
        "change-key",
        "-o",
        "keyformat=passphrase",
        "-o",
        "keylocation=file:///root/mine",
        thief.dataset,
    )
    since = run(
        "zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-s", "createtxg", thief.dataset
    ).split()[-2]
    return await code_of(thief.push(thief.stream(f"{thief.dataset}@{NAME}", since), guid, base, name=NAME))


@attack("diverged")
async def another_iv_set(thief: Thief) -> str:
    """An increment that says it builds on other ciphertext under the same guid."""
    return await lies(thief, swapped("from_ivset_guid"))


@attack("stream_refused", "diverged")
async def onto_an_older_snapshot(thief: Thief) -> str:
    """A real increment from an older snapshot, which only -F would take: announced as it is, and as from the newest."""
    _, guid, base = genuine(thief)
    names = run("zfs", "list", "-H", "-o", "name", "-t", "snapshot", "-s", "createtxg", thief.dataset).split()
    data, oldest = thief.stream(f"{thief.dataset}@{NAME}", names[0]), thief.guid(names[0])
    told = announced(thief.dataset, (NAME, guid, oldest))
    return together(
        [await code_of(thief.offer(told, data)), await code_of(thief.push(data, guid, base, name=NAME))]
    )


@attack("stream_refused")
async def lengths_that_overflow(thief: Thief) -> str:
    """Payloads of 4 GiB and of 2**64 bytes; bonus buffers of 4 GiB; a BEGIN of 4 GiB."""
    data, guid, base = genuine(thief)
    records = forge.parse(data)
    codes = []
    for kind, field, value in (
        (forge.BEGIN, forge.LENGTH, (1 << 32) - 1),
        (forge.WRITE, forge.WRITE_PACKED, ALL),
        (forge.WRITE, forge.WRITE_PACKED, 1 << 32),
        (forge.WRITE, forge.WRITE_SIZE, ALL),
        (forge.OBJECT, forge.OBJECT_RAW_BONUS, (1 << 32) - 1),
        (forge.OBJECT, forge.OBJECT_BONUS, (1 << 32) - 1),
    ):
        at = forge.first(records, kind)
        length = sum(forge.HEADER + len(one.payload) for one in records[:at])
        head = Record(bytearray(records[at].header))
        head.set(field, value)
        lied = data[:length] + bytes(head.header) + data[length + forge.HEADER :]
        codes.append(await code_of(thief.push(lied, guid, base, name=NAME)))
    return together(codes)


BEYOND = (
    changed(forge.WRITE, forge.WRITE_OFFSET, 1 << 40),
    changed(forge.OBJECT, forge.OBJECT_LAST, 1 << 40),
    changed(forge.OBJECT, forge.OBJECT_LAST, ALL),
    changed(forge.OBJECT, forge.OBJECT_LEVELS, 12),
    changed(forge.WRITE, forge.WRITE_SIZE, 1 << 16),
    changed(forge.WRITE, forge.WRITE_OFFSET, 512),
)


@attack("stream_refused")
async def blocks_beyond_the_levels(thief: Thief) -> str:
    """Blocks where an object's levels do not reach, and last blocks that they do not have: ZFS stops the pool there."""
    return await lies(thief, *BEYOND)


@attack("stream_refused")
async def objects_that_were_not_described(thief: Thief) -> str:
    """Blocks written to, and freed in the middle of, objects of which the stream says nothing."""
    _, guid, _ = genuine(thief)
    free = forge.record(
        forge.FREE, ((8, "Q"), 2), (forge.FREE_OFFSET, 512), ((24, "Q"), 512), ((32, "Q"), guid)
    )
    return await lies(thief, changed(forge.WRITE, forge.OBJECT_NUMBER, 2), before_the_end(free))


@attack("stream_refused")
async def a_dataset_that_cannot_hold_its_objects(thief: Thief) -> str:
    """A new dataset whose list of objects has one level: ZFS stops the pool at the first object behind its end."""
    guid, data = thief.guid("tank/rotated@a"), thief.stream("tank/rotated@a")
    codes = []
    for name, value in (
        (b"mdn_nlevels", 1),
        (b"mdn_nlevels", 0),
        (b"mdn_maxblkid", 1 << 50),
        (b"mdn_indblkshift", 12),
    ):
        lied = forged(data, number(name, value))
        codes.append(await code_of(thief.push(lied, guid, None, dataset="tank/forged", name="a")))
    return together(codes)


@attack("stream_refused")
async def records_of_another_snapshot(thief: Thief) -> str:
    """A block of another snapshot among those of the announced one."""
    return await lies(thief, changed(forge.WRITE, forge.WRITE_GUID, 5))


@attack("stream_refused")
async def records_that_do_not_belong(thief: Thief) -> str:
    """A second BEGIN, a reference to other data, a redaction, embedded data, and records of no type there is."""
    kinds = (forge.BEGIN, forge.WRITE_BYREF, forge.REDACT, forge.EMBEDDED, 11, 12, 255, (1 << 32) - 1)
    return await lies(thief, *(before_the_end(forge.record(kind)) for kind in kinds))


@attack("stream_refused")
async def the_other_byte_order(thief: Thief) -> str:
    """A BEGIN of the other byte order before records of this one."""

    def lie(records: list[Record]) -> None:
        head = records[0].header
        for at, size in ((0, 4), (4, 4), (8, 8), (16, 8), (24, 8), (32, 4), (36, 4), (40, 8), (48, 8)):
            head[at : at + size] = head[at : at + size][::-1]

    return await lies(thief, lie)


@attack("interrupted")
async def sums_that_do_not_fit(thief: Thief) -> str:
    """One byte of a block changed, and no sum."""
    data, guid, base = genuine(thief)
    at = len(data) - forge.HEADER - 100
    return await code_of(
        thief.push(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], guid, base, name=NAME)
    )


@attack("plan_stale", "stream_refused", "zfs_failed", "busy", "would_overwrite")
async def in_the_place_of_a_parent(thief: Thief) -> str:
    """A dataset sent to where the vault has made a parent for another replica, and for all of them."""
    guid, data = thief.guid("tank/rotated@a"), thief.stream("tank/rotated@a")
    return together(
        [
            await code_of(thief.push(data, guid, None, dataset=name, name="a"))
            for name in ("tank", "tank/deep")
        ]
    )


@attack(DONE, "stream_refused")
async def more_behind_the_end(thief: Thief) -> str:
    """A whole stream and another behind it, which was not announced."""
    guid, data = thief.guid("tank/rotated@a"), thief.stream("tank/rotated@a")
    return await code_of(thief.push(data + data, guid, None, dataset="tank/twice", name="a"))


@attack(DONE)
async def creations_that_cannot_be(thief: Thief) -> str:
    """Snapshots that say they were taken in 1970, in 2100, and in a year that no calendar has."""
    dataset, base = "tank/clocked", thief.guid("tank/clocked@d")
    codes, since = [], f"{dataset}@d"
    for name, creation in (("past", 1), ("future", 4_102_444_800), ("never", (1 << 63) - 1), ("beyond", ALL)):
        guid = thief.snapshot(dataset, name)
        data = forged(thief.stream(f"{dataset}@{name}", since), begin(forge.CREATION, creation))
        codes.append(await code_of(thief.push(data, guid, base, dataset=dataset, name=name)))
        base, since = guid, f"{dataset}@{name}"
    return together(codes)


@attack(DONE)
async def and_the_genuine_one(thief: Thief) -> str:
    """No attack: the increment in which all the lies were is taken when there is none in it."""
    data, guid, base = genuine(thief)
    return await code_of(thief.push(forged(data, lambda _: None), guid, base, name=NAME))
