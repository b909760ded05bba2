"""A snapshot, mounted read-only where only root comes, for as long as somebody looks at it.

Not by way of .zfs/snapshot: that needs its dataset mounted, and keeps it busy for minutes afterwards.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from node.commands import Runner
from zfs.names import check_snapshot

OPTIONS = "ro,nosuid,nodev,noexec"


class SnapshotViews:
    """Below *root*, a directory that it makes. Raises OSError where mounting fails, MeshkeepError without `mount`."""

    def __init__(self, runner: Runner, root: Path) -> None:
        self._runner = runner
        self._root = root

    @contextlib.asynccontextmanager
    async def __call__(self, snapshot: str) -> AsyncIterator[Path]:
        """*snapshot* at a path of its own."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Path(tempfile.mkdtemp(prefix="view-", dir=self._root))  # mode 0700
        try:
            await self._mount(check_snapshot(snapshot), place)
            try:
                yield place
            finally:
                await self._run(["umount", os.fspath(place)], snapshot)
        finally:
            place.rmdir()  # it is empty, or still mounted: then nothing goes

    async def _mount(self, snapshot: str, place: Path) -> None:
        await self._run(["mount", "-t", "zfs", "-o", OPTIONS, snapshot, os.fspath(place)], snapshot)

    async def _run(self, argv: list[str], snapshot: str) -> None:
        done = await self._runner.run(argv, timeout=300)
        if not done.ok:
            raise OSError(f"{argv[0]} of {snapshot}: {done.words}")
