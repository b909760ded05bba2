"""A crash between two changes of holds and bookmarks: the common base is kept at every moment."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.errors import MeshkeepError
from replication.guard import cursor_name, hold_tag
from tests.fakes.pair import CLOUD, HOME, ROOT, Pair, served

CHANGES = 12
"""More than any run of this page makes."""


class Crash(Exception):
    """The host went down here."""


class Mortal:
    """home's ZFS: before the change number `left` the host goes down."""

    def __init__(self, pair: Pair, left: int) -> None:
        self._pair, self._zfs, self.left = pair, pair.home, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._zfs, name)
        if name not in ("hold", "release", "bookmark_all", "destroy_bookmarks"):
            return found

        async def change(*args: Any, **named: Any) -> Any:
            if self.left == 0:
                raise Crash
            self.left -= 1
            return await found(*args, **named)

        return change


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    await pair.encrypted()
    await pair.snap("a", "b")
    async with served(pair):
        yield pair


async def base_is_kept(pair: Pair) -> bool:
    """Whether the target's newest snapshot is held or bookmarked at home."""
    there = pair.cloud.state.nodes[f"{ROOT}/{HOME}/tank/home"]
    newest = there.snapshots[pair.stored()[-1]].guid
    marks = {mark.name for mark in await pair.home.bookmarks("tank/home")}
    held = [
        snapshot.guid
        for snapshot in await pair.home.snapshots("tank/home")
        if hold_tag(CLOUD) in await pair.home.holds(snapshot.full_name)
    ]
    return newest in held or cursor_name(CLOUD, newest) in marks


async def run_until_the_crash(pair: Pair, left: int) -> None:
    mortal: Any = Mortal(pair, left)
    home, pair.home = pair.home, mortal
    pair.replicator, pair.home = pair.another_replicator(), home
    with contextlib.suppress(Crash, MeshkeepError):
        await pair.replicate()
    assert mortal.left > 0 or left < CHANGES, "a run makes more changes than this page looks at"


@pytest.mark.parametrize("left", range(CHANGES + 1))
async def test_a_base_that_is_bookmarked(pair: Pair, left: int) -> None:
    await pair.replicate()
    await pair.snap("c", "d")
    await run_until_the_crash(pair, left)
    assert await base_is_kept(pair)


@pytest.mark.parametrize("left", range(CHANGES + 1))
async def test_a_base_that_is_only_held(pair: Pair, left: int) -> None:
    await pair.replicate()
    await pair.snap("c", "d")
    await pair.home.hold(hold_tag(CLOUD), ["tank/home@b"])
    await pair.home.destroy_bookmarks([mark.full_name for mark in await pair.home.bookmarks("tank/home")])
    await run_until_the_crash(pair, left)
    assert await base_is_kept(pair)


@pytest.mark.parametrize("left", range(4))
async def test_a_base_that_is_only_held_where_there_is_nothing_to_send(pair: Pair, left: int) -> None:
    await pair.replicate()
    await pair.home.hold(hold_tag(CLOUD), ["tank/home@b"])
    await pair.home.destroy_bookmarks([mark.full_name for mark in await pair.home.bookmarks("tank/home")])
    await run_until_the_crash(pair, left)
    assert await base_is_kept(pair)
    held = hold_tag(CLOUD) in await pair.home.holds("tank/home@b")
    assert held is (left < 2), "a run made the bookmark, and then let the hold go"
