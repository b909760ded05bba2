"""All replicas of some owners, told page by page: what many of them hold fits into no frame.

A page ends behind a replica, or inside of one whose snapshots alone are more than an answer takes.
"""

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from node.offers import Position
from node.replica_json import with_receipts
from node.replica_places import Places
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look

AT_ONCE = 100
"""Replicas looked at together."""


async def page(
    zfs: Zfs, places: Places, owners: Sequence[str], after: Position | None, room: int
) -> dict[str, Any]:
    """What comes behind *after*, in at most *room* bytes, and whether there is `more`. Raises Refusal, ZfsError."""
    found: list[dict[str, Any]] = []
    async for one in _replicas(zfs, places, owners, after):
        size = len(json.dumps(one))
        if size > room:
            if not found:
                found.append(one | {"snapshots": list(_beginning(one["snapshots"], room))})
            return {"replicas": found, "more": True}
        found.append(one)
        room -= size
    return {"replicas": found, "more": False}


async def _replicas(
    zfs: Zfs, places: Places, owners: Sequence[str], after: Position | None
) -> AsyncIterator[dict[str, Any]]:
    """By owner, in their order, then by name."""
    storage = (await places.terms()).root
    for owner in _owners(owners, after):
        root = f"{storage}/{owner}"
        try:
            names = sorted(dataset.name for dataset in await zfs.datasets(root))
        except errors.NotFound:
            continue
        here = after if after is not None and after.owner == owner else None
        if here is not None:
            names = [name for name in names if name >= f"{root}/{here.dataset}"]
        for place in range(0, len(names), AT_ONCE):
            for name, look in (await places.looks(names[place : place + AT_ONCE])).items():
                if isinstance(look, errors.ZfsError):
                    raise look
                told = _told(owner, name.removeprefix(root + "/"), look, here)
                if told["snapshots"]:
                    yield told


def _owners(owners: Sequence[str], after: Position | None) -> Sequence[str]:
    if after is None:
        return owners
    return owners[owners.index(after.owner) :] if after.owner in owners else ()


def _told(owner: str, dataset: str, look: Look, after: Position | None) -> dict[str, Any]:
    snapshots = sorted(with_receipts(look), key=lambda one: (one["createtxg"], one["guid"]))
    if after is not None and after.dataset == dataset:
        snapshots = [one for one in snapshots if (one["createtxg"], one["guid"]) > after.snapshot]
    return {
        "owner": owner,
        "dataset": dataset,
        "encrypted": look.dataset.encrypted,
        "used": look.dataset.used,
        "snapshots": snapshots,
    }


def _beginning(snapshots: Sequence[dict[str, Any]], room: int) -> Iterator[dict[str, Any]]:
    """As many as have room, but one in any case."""
    for place, one in enumerate(snapshots):
        room -= len(json.dumps(one)) + 2
        if place and room < 0:
            return
        yield one
