"""What is asked of `zfs list`, `zfs get`, `zpool list` (-Hp: tabs, exact numbers), `zpool status`; reading it. Pure.

Exactly the columns that are needed: each further one costs a read per dataset. None of them may hold text of anybody's
choice in a listing of many datasets: a tab or newline in it would break the rows of others, or forge one.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from zfs.model import Bookmark, Dataset, KeyStatus, Pool, PoolStatus, Property, Snapshot, Vdev

POOL_COLUMNS = "name,health,size,free,capacity,readonly,freeing"
DATASET_COLUMNS = (
    "name,type,guid,createtxg,used,available,written,encryptionroot,keystatus,mounted,snapshots_changed"
)
SNAPSHOT_COLUMNS = "name,guid,createtxg,creation,used,userrefs"
CLONE_COLUMNS = "name,clones"
BOOKMARK_COLUMNS = "name,guid,createtxg,creation"
TOKEN = "receive_resume_token"


class BadListing(ValueError):
    """The command printed something that this program does not read."""


def pools(text: str) -> list[Pool]:
    """The pools in *text*, by name. A faulted pool has no sizes: 0."""
    found = [
        Pool(
            name, health, _number(size), _number(free), _number(capacity), readonly == "on", _number(freeing)
        )
        for name, health, size, free, capacity, readonly, freeing in _rows(text, POOL_COLUMNS)
    ]
    return sorted(found, key=lambda pool: pool.name)


# Where `zpool status` keeps devices beside the tree of the pool itself, in the order in which it prints them.
_CLASSES = ("dedup", "special", "logs", "l2cache", "spares")


def pool_status(text: str, pool: Pool) -> PoolStatus:
    """The output of ``zpool status -j --json-int`` for *pool* alone (OpenZFS 2.3; cmd/zpool/zpool_main.c)."""
    try:
        found = json.loads(text)["pools"][pool.name]
        groups = [found["vdevs"], *(found[name] for name in _CLASSES if name in found)]
        vdevs = tuple(vdev for group in groups for vdev in _vdevs(group))
        scan = found.get("scan_stats", {})
        scrubbed = scan.get("function") == "SCRUB" and scan.get("state") == "FINISHED"
        end = int(scan["end_time"]) if scrubbed else None
        return PoolStatus(pool.name, str(found["state"]), vdevs, end, pool.size, pool.free, pool.capacity)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadListing(f"not the status of {pool.name}: {error!r} in {text[:200]!r}") from error


def _vdevs(group: dict[str, Any]) -> Iterator[Vdev]:
    """All of *group*, each before what it is made of. A spare has no counts of errors."""
    for one in group.values():
        counts = (int(one.get(f"{kind}_errors", 0)) for kind in ("read", "write", "checksum"))
        yield Vdev(one["name"], str(one.get("state", "")), *counts)
        yield from _vdevs(one.get("vdevs", {}))


def datasets(text: str) -> tuple[list[Dataset], list[str]]:
    """The datasets in *text*, each parent before its children, siblings by name; and why some rows cannot be read.

    Raises BadListing if none can.
    """
    found, bad = [], []
    for line in _lines(text):
        try:
            found.append(_dataset(_row(line, DATASET_COLUMNS)))
        except ValueError as error:
            bad.append(f"{error}: {line!r}")
    if bad and not found:
        raise BadListing(bad[0])
    return sorted(found, key=lambda dataset: dataset.name.split("/")), bad


def dataset(text: str) -> Dataset:
    """The one dataset in *text*."""
    return looked_dataset(text, ())[0]


def mountpoints(text: str, names: Sequence[str]) -> dict[str, str | None] | None:
    """The output of ``zfs get -o name,value mountpoint`` for *names*, or None where one has a newline in it.

    Every dataset has at least its own line: with as many lines as names, no mountpoint has a second one.
    """
    lines = _lines(text)
    pairs = [line.partition("\t") for line in lines]
    if len(lines) != len(names) or {name for name, _, _ in pairs} != set(names):
        return None
    return {name: mountpoint(value) for name, _, value in pairs}


def mountpoint(value: str) -> str | None:
    """A mountpoint, ``legacy`` too; None for none, and for a volume."""
    return None if value in ("-", "none") else value


def snapshots(text: str) -> list[Snapshot]:
    """The snapshots in *text*, oldest first: by createtxg, then creation, then name."""
    found = []
    for full_name, guid, createtxg, creation, used, holds in _rows(text, SNAPSHOT_COLUMNS):
        dataset, _, name = full_name.partition("@")
        found.append(
            Snapshot(dataset, name, int(guid), int(createtxg), int(creation), _number(used), _number(holds))
        )
    return sorted(found, key=lambda one: (one.createtxg, one.creation, one.dataset, one.name))


def bookmarks(text: str) -> list[Bookmark]:
    """The bookmarks in *text*, oldest first."""
    found = []
    for full_name, guid, createtxg, creation in _rows(text, BOOKMARK_COLUMNS):
        dataset, _, name = full_name.partition("#")
        found.append(Bookmark(dataset, name, int(guid), int(createtxg), int(creation)))
    return sorted(found, key=lambda one: (one.createtxg, one.creation, one.name))


def clones(text: str) -> dict[str, list[str]]:
    """What was cloned from each snapshot in *text*, by what stands behind the @; those without clones are left out."""
    rows = _rows(text, CLONE_COLUMNS)
    return {name.partition("@")[2]: made.split(",") for name, made in rows if made not in ("", "-")}


def looked_dataset(text: str, wanted: Sequence[str]) -> tuple[Dataset, dict[str, str]]:
    """One row of DATASET_COLUMNS and *wanted* columns after them; what is not set is left out."""
    count = DATASET_COLUMNS.count(",") + 1
    rows = list(_rows(text, ",".join([DATASET_COLUMNS, *wanted])))
    if len(rows) != 1:
        raise BadListing(f"one dataset expected in {text!r}")
    values = zip(wanted, rows[0][count:], strict=True)
    return _dataset(rows[0][:count]), {name: value for name, value in values if value != "-"}


Values = dict[str, str]
Versions = tuple[tuple[Snapshot, ...], tuple[Bookmark, ...], Mapping[str, str]]


def looked_datasets(text: str, wanted: Sequence[str]) -> dict[str, tuple[Dataset, Values]]:
    """As `looked_dataset`, for many, by their names."""
    found = [looked_dataset(line, wanted) for line in _lines(text)]
    return {dataset.name: (dataset, values) for dataset, values in found}


def looked_versions_of_many(text: str, noted: bool) -> dict[str, Versions]:
    """As `looked_versions`, for many datasets, by their names; one without any is left out."""
    lines: dict[str, list[str]] = {}
    for line in _lines(text):
        lines.setdefault(re.split("[@#\t]", line, maxsplit=1)[0], []).append(line)
    return {name: looked_versions("\n".join(some), noted) for name, some in lines.items()}


def looked_versions(text: str, noted: bool) -> Versions:
    """Rows of SNAPSHOT_COLUMNS for snapshots and bookmarks alike, with a last column of notes if *noted*."""
    rows = list(_rows(text, SNAPSHOT_COLUMNS + (",note" if noted else "")))
    width = SNAPSHOT_COLUMNS.count(",") + 1
    snapshot_rows = ["\t".join(row[:width]) for row in rows if "@" in row[0]]
    bookmark_rows = ["\t".join(row[:4]) for row in rows if "#" in row[0]]
    notes = {row[0].partition("@")[2]: row[-1] for row in rows if noted and "@" in row[0] and row[-1] != "-"}
    return tuple(snapshots("\n".join(snapshot_rows))), tuple(bookmarks("\n".join(bookmark_rows))), notes


# A value may hold tabs and newlines (user properties may hold anything); only the source ends a record.
_PROPERTY = re.compile(
    r"^([^\t\n]+)\t(.*?)\t(local|default|temporary|received|none|-|inherited from [^\t\n]+)$",
    re.DOTALL | re.MULTILINE,
)


def properties(text: str) -> dict[str, Property]:
    """The output of ``zfs get -o property,value,source`` for one dataset, by property."""
    return {name: Property(value, source) for name, value, source in _PROPERTY.findall(text)}


_OWN = re.compile(r"^([^\t\n]+)\t([^\t\n]+)\t(.*?)\t(?:local|received)$", re.DOTALL | re.MULTILINE)


def own_properties(text: str) -> dict[str, dict[str, str]]:
    """The output of ``zfs get -s local,received -o name,property,value,source`` for datasets, by their names."""
    found: dict[str, dict[str, str]] = {}
    for name, prop, value in _OWN.findall(text):
        found.setdefault(name, {})[prop] = value
    return found


def snapshot_property(text: str) -> dict[str, str]:
    """The output of ``zfs get -o name,value,source`` over snapshots: values by what stands behind the @.

    Only what is set on the snapshot itself counts; one inherited from its dataset does not.
    """
    return {
        name.partition("@")[2]: value
        for name, value, source in _PROPERTY.findall(text)
        if source in ("local", "received")
    }


def ivset_guids(text: str) -> dict[str, int]:
    """The output of ``zfs get -o name,value ivsetguid`` over snapshots: by what stands behind the @."""
    rows = [line.split("\t") for line in text.splitlines()]
    return {name.partition("@")[2]: int(value) for name, value in rows if value.isdigit() and int(value)}


def version(text: str) -> tuple[str, str]:
    """(userland, kernel module) from ``zfs version``: ``zfs-2.3.9-1`` and ``zfs-kmod-2.3.9-1``."""
    lines = text.split()
    module = [line.removeprefix("zfs-kmod-") for line in lines if line.startswith("zfs-kmod-")]
    userland = [line.removeprefix("zfs-") for line in lines if line.startswith("zfs-") and "kmod" not in line]
    if not module or not userland:
        raise BadListing(f"zfs version printed {text!r}")
    return userland[0], module[0]


def _rows(text: str, columns: str) -> Iterator[list[str]]:
    return (_row(line, columns) for line in _lines(text))


def _lines(text: str) -> list[str]:
    """By newlines alone: `str.splitlines` knows many more ends of lines, which to ZFS are none."""
    return text.removesuffix("\n").split("\n") if text else []


def _row(line: str, columns: str) -> list[str]:
    row, count = line.split("\t"), columns.count(",") + 1
    if len(row) != count:
        raise BadListing(f"{count} columns ({columns}) expected in {line!r}")
    return row


def _number(text: str) -> int:
    return 0 if text == "-" else int(text)


def _dataset(row: list[str]) -> Dataset:
    name, kind, guid, createtxg, used, available, written, root, keystatus, mounted, changed = row
    return Dataset(
        name=name,
        kind=_kind(kind),
        guid=int(guid),
        createtxg=int(createtxg),
        used=_number(used),
        available=_number(available),
        written=_number(written),
        encryption_root=None if root in ("-", "") else root,
        keystatus=_keystatus(keystatus),
        mounted=mounted == "yes",
        snapshots_changed=None if changed == "-" else int(changed),
    )


def _kind(text: str) -> Literal["filesystem", "volume"]:
    if text == "filesystem":
        return "filesystem"
    if text == "volume":
        return "volume"
    raise BadListing(f"unknown type {text!r}")


def _keystatus(text: str) -> KeyStatus | None:
    if text == "available":
        return "available"
    return "unavailable" if text == "unavailable" else None
