"""Opening what lies below a directory and nowhere else: no link on the way is followed, so none leads out of it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_WAY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def directory_beneath(root: Path, relative: PurePosixPath) -> Iterator[int]:
    """A descriptor of the directory *relative* below *root*. Raises OSError (ENOTDIR for a link), ValueError."""
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(f"{relative} does not lie below {root}")
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in relative.parts:
            below = os.open(part, _WAY, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def open_beneath(root: Path, relative: PurePosixPath) -> int:
    """A descriptor for reading the file *relative* below *root*. Raises OSError (ELOOP for a link), ValueError."""
    with directory_beneath(root, relative.parent) as folder:
        # A pipe that was put there in between must not keep the reader waiting for ever.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(relative.name, flags, dir_fd=folder)
