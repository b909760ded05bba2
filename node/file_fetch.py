"""A file out of a copy on another node: the copy is received aside, opened and mounted, and the file put here."""

import asyncio
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from node.beneath import directory_beneath
from node.copies import Copy
from node.errors import Exit, MeshkeepError
from node.file_versions import Version, kind_of, put_back
from node.restore import Restorer, Tell, Wanted
from node.scratch import Scratches


@dataclass(frozen=True, slots=True)
class WantedFile:
    """`path` inside `dataset`, as the copy on `node` had it at last, or in the snapshot `at`, or by the time `before`
    (epoch seconds).

    It goes `to`, an absolute path here.
    """

    dataset: str
    path: PurePosixPath
    node: str | None
    to: Path
    at: str | None = None
    before: int | None = None
    key: bytes | None = None


class FileFetcher:
    """Runs as root, and writes only to the one place that was named: what is there now is kept beside it."""

    def __init__(self, restorer: Restorer, scratches: Scratches) -> None:
        self._restorer = restorer
        self._scratches = scratches

    async def fetch(self, wanted: WantedFile, progress: Tell) -> dict[str, Any]:
        """Raises MeshkeepError, with everything here as it was."""
        _check(wanted)
        async with self._scratches.alone():
            copy = await self._restorer.choose(
                Wanted(
                    wanted.dataset,
                    wanted.node,
                    wanted.dataset,
                    at=wanted.at,
                    before=wanted.before,
                    older=True,
                )
            )
            if copy.encrypted and wanted.key is None:
                raise _no_key(copy)
            async with self._scratches.received(copy, progress) as received:
                here = received.dataset
                if here.kind != "filesystem":
                    raise MeshkeepError(
                        f"{wanted.dataset} is a volume, and no files can be read from it",
                        code="not_a_filesystem",
                        exit=Exit.REFUSED,
                        hint=f"meshkeep restore dataset {wanted.dataset} --from {copy.peer.name} --to NAME",
                    )
                if here.encrypted and wanted.key is not None:
                    await self._scratches.open(here.name, copy, wanted.key)
                async with self._scratches.mounted(here.name) as place:
                    done = await asyncio.to_thread(_copy_out, place, wanted, copy)
        return {
            **done,
            "dataset": wanted.dataset,
            "node": copy.peer.name,
            "from": copy.newest.name,
            "taken": copy.newest.creation,
            "restored": str(wanted.to),
        }


def _check(wanted: WantedFile) -> None:
    if wanted.path.is_absolute() or ".." in wanted.path.parts or not wanted.path.parts:
        raise MeshkeepError(f"{wanted.path} is no path inside a dataset", code="bad_path", exit=Exit.USAGE)
    if not wanted.to.is_absolute():
        raise MeshkeepError(f"{wanted.to} is no absolute path", code="bad_path", exit=Exit.USAGE)
    if not wanted.to.parent.is_dir():
        raise MeshkeepError(
            f"there is no directory {wanted.to.parent} to put it in",
            code="no_directory",
            exit=Exit.NOT_FOUND,
            hint=f"mkdir -p {wanted.to.parent}",
        )


def _copy_out(place: Path, wanted: WantedFile, copy: Copy) -> dict[str, Any]:
    """No link of the copy is followed on the way: it could lead out of it, to a file of this host."""
    try:
        with directory_beneath(place, wanted.path.parent) as folder:
            seen = os.stat(wanted.path.name, dir_fd=folder, follow_symlinks=False)
            if not (stat.S_ISREG(seen.st_mode) or stat.S_ISDIR(seen.st_mode) or stat.S_ISLNK(seen.st_mode)):
                raise NotADirectoryError(0, "it is neither a file, a directory nor a link")
            when = copy.newest.creation
            version = Version(
                copy.newest.name,
                when,
                when,
                int(seen.st_mtime),
                seen.st_size,
                kind_of(seen.st_mode),
                Path(f"/proc/{os.getpid()}/fd/{folder}", wanted.path.name),
            )
            kept = put_back(version, wanted.to, time.strftime("%Y-%m-%dT%H%M"))
    except OSError as error:
        raise MeshkeepError(
            f"@{copy.newest.name} of {copy.dataset} on {copy.peer.name} has no {wanted.path}",
            code="no_version",
            exit=Exit.NOT_FOUND,
            why=error.strerror or str(error),
            hint="try an older one: --at TIME",
        ) from error
    return {
        "kept": str(kept) if kept else None,
        "size": version.size,
        "modified": version.modified,
        "kind": version.kind,
    }


def _no_key(copy: Copy) -> MeshkeepError:
    return MeshkeepError(
        f"the copy of {copy.dataset} on {copy.peer.name} is encrypted, and opens only with its key",
        code="no_key",
        exit=Exit.REFUSED,
        why="it is received aside, opened here, and destroyed again; the key goes nowhere",
        hint="give --key-file, or type the passphrase at a terminal",
    )
