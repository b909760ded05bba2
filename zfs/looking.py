"""What `zfs list` and `zfs get` are run for: one listing, one dataset, many datasets at once."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

from zfs import errors, listing
from zfs.command import run, run_for_each
from zfs.errors import ZfsError
from zfs.model import Dataset, Look
from zfs.stream import decode_resume_token

T = TypeVar("T")

_NOTHING: listing.Versions = ((), (), {})

DATASETS = "filesystem,volume"
NAMES_LENGTH = 100_000
"""Characters of names in one command; Linux takes two million, and a command that fails is run again in parts."""


def read(name: str, parse: Callable[[str], T], text: str) -> T:
    """*text* as *parse* reads it. Raises Unexpected."""
    try:
        return parse(text)
    except ValueError as error:
        raise errors.Unexpected(name, f"what ZFS printed was not understood: {error}") from error


async def ask(
    name: str, parse: Callable[[str], T], columns: str, *, kinds: str = DATASETS, where: Sequence[str] = ()
) -> T:
    """What `zfs list` tells of *where*."""
    return read(name, parse, await run(name, "zfs", "list", "-Hp", "-t", kinds, "-o", columns, *where))


async def at_one(name: str, properties: Sequence[str], note: str | None) -> Look:
    """`Zfs.look`."""
    columns, versions = _columns(properties, note)
    (dataset, values), (snapshots, bookmarks, notes) = await asyncio.gather(
        ask(name, partial(listing.looked_dataset, wanted=columns[1:]), _joined(columns), where=[name]),
        ask(
            name,
            partial(listing.looked_versions, noted=note is not None),
            versions,
            kinds="snapshot,bookmark",
            where=["-d", "1", name],
        ),
    )
    return _look(dataset, values, (snapshots, bookmarks, notes))


async def at_many(
    names: Sequence[str], properties: Sequence[str], note: str | None, known: Mapping[str, Look]
) -> dict[str, Look | ZfsError]:
    """`Zfs.looks` at some. Raises ZfsError where it is about none in particular."""
    columns, versions = _columns(properties, note)

    async def datasets() -> tuple[str, dict[str, ZfsError]]:
        return await run_for_each(names, "zfs", "list", "-Hp", "-t", DATASETS, "-o", _joined(columns))

    async def snapshots(some: Sequence[str]) -> tuple[str, dict[str, ZfsError]]:
        kinds = ["-t", "snapshot,bookmark", "-d", "1"]
        return await run_for_each(some, "zfs", "list", "-Hp", *kinds, "-o", versions)

    if any(name in known for name in names):
        text, failed = await datasets()
        rows = read(names[0], partial(listing.looked_datasets, wanted=columns[1:]), text)
        changed = [name for name, (dataset, _) in rows.items() if not unchanged(dataset, known.get(name))]
        listed, gone = await snapshots(changed) if changed else ("", {})
    else:
        (text, failed), (listed, gone) = await asyncio.gather(datasets(), snapshots(names))
        rows = read(names[0], partial(listing.looked_datasets, wanted=columns[1:]), text)
        changed = list(names)
    found: dict[str, Look | ZfsError] = {**failed, **gone}
    of = read(names[0], partial(listing.looked_versions_of_many, noted=note is not None), listed)
    for name, (dataset, values) in rows.items():
        if name not in found:
            kept = of.get(name, _NOTHING) if name in changed else versions_of(known[name])
            found[name] = _look(dataset, values, kept)
    missing = (name for name in names if name not in found)
    return found | {name: errors.Unexpected(name, "zfs list said nothing of it") for name in missing}


def unchanged(dataset: Dataset, known: Look | None) -> bool:
    """Whether the snapshots of *dataset* are those that *known* has. One that never had any has no such property."""
    if known is None or dataset.snapshots_changed is None:
        return False
    was = known.dataset
    return (was.guid, was.snapshots_changed) == (dataset.guid, dataset.snapshots_changed)


def versions_of(look: Look) -> listing.Versions:
    """All of it that is listed by itself."""
    return look.snapshots, look.bookmarks, look.notes


def in_parts(names: Sequence[str]) -> Iterator[list[str]]:
    """As many of them at once as one command takes."""
    part: list[str] = []
    length = 0
    for name in names:
        if part and length + len(name) > NAMES_LENGTH:
            yield part
            part, length = [], 0
        part.append(name)
        length += len(name) + 1
    if part:
        yield part


def _columns(properties: Sequence[str], note: str | None) -> tuple[list[str], str]:
    """Those of a dataset, the standard ones as one; and those of its versions."""
    versions = listing.SNAPSHOT_COLUMNS + (f",{note}" if note else "")
    return [listing.DATASET_COLUMNS, listing.TOKEN, *properties], versions


def _joined(columns: Sequence[str]) -> str:
    return ",".join(columns)


def _look(dataset: Dataset, values: Mapping[str, str], versions: listing.Versions) -> Look:
    snapshots, bookmarks, notes = versions
    token = values.get(listing.TOKEN)
    resume = None if token is None else read(dataset.name, decode_resume_token, token)
    rest = {name: value for name, value in values.items() if name != listing.TOKEN}
    return Look(dataset, snapshots, bookmarks, resume, rest, notes)
