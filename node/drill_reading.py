"""Reading random files of a copy to their ends, and comparing them with the same snapshot of the original.

Which ones is a matter of the seed and of what is there: the same seed reads the same files of the same snapshot again.
"""

import hashlib
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from node.beneath import open_beneath

CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read completely. `bad` are files that could not be, with the reason; `of` is how many there are.

    `compared` of them are like the original's byte for byte, `different` are not, or are missing.
    """

    files: int
    bytes: int
    of: int
    bad: tuple[str, ...] = ()
    compared: int = 0
    different: tuple[str, ...] = ()


def read_some(copy: Path, limit: int | None, seed: int, original: Path | None = None) -> Seen:
    """Read *limit* random files of *copy* to their ends, or all for None. Follows no link, opens no device.

    With *original* (the same snapshot, read here) they are chosen from what that has, so that what is missing is seen.
    """
    chosen, of = _choose(original or copy, limit, random.Random(seed))
    files = count = compared = 0
    bad: list[str] = []
    different: list[str] = []
    for path in chosen:
        wanted = _original(original, path)
        try:
            got, size = _digest(copy, path)
        except (FileNotFoundError, NotADirectoryError) as error:
            (bad if wanted is None else different).append(f"{path}: {_why(error)}")
            continue
        except OSError as error:
            bad.append(f"{path}: {_why(error)}")
            continue
        files, count = files + 1, count + size
        if wanted is not None and wanted != got:
            different.append(f"{path}: not what it is here")
        compared += wanted == got
    return Seen(files, count, of, tuple(bad), compared, tuple(different))


def _choose(root: Path, limit: int | None, rng: random.Random) -> tuple[list[PurePosixPath], int]:
    """At most *limit* of all files below *root*, each as likely as any other, and how many there are."""
    chosen: list[PurePosixPath] = []
    seen = 0
    for path in _files(root):
        seen += 1
        if limit is None or len(chosen) < limit:
            chosen.append(path)
        elif (place := rng.randrange(seen)) < limit:
            chosen[place] = path
    return chosen, seen


def _files(root: Path) -> Iterator[PurePosixPath]:
    def fail(error: OSError) -> None:
        raise error

    for directory, below, names in os.walk(root, onerror=fail, followlinks=False):
        below.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield PurePosixPath(path.relative_to(root))


def _original(root: Path | None, path: PurePosixPath) -> bytes | None:
    """None where there is no original, or it cannot be read itself: that says nothing of the copy."""
    if root is None:
        return None
    try:
        return _digest(root, path)[0]
    except OSError:
        return None


def _digest(root: Path, path: PurePosixPath) -> tuple[bytes, int]:
    found, count = hashlib.blake2b(), 0
    with open(open_beneath(root, path), "rb", buffering=0) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NotADirectoryError(0, "no file any more")
        while piece := file.read(CHUNK):
            found.update(piece)
            count += len(piece)
    return found.digest(), count


def _why(error: OSError) -> str:
    return error.strerror or str(error)
