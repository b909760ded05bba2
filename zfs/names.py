"""Names of datasets, snapshots and bookmarks: what is well formed, and taking them apart.

Rules from zfsprops/zfs(8) and module/zcommon/zfs_namecheck.c: components of letters, digits and ``-_.: ``
(a space is allowed), at most 255 bytes for the whole name, no empty component, no ``.`` or ``..``.
"""

import re

MAX_NAME = 255
_COMPONENT = re.compile(r"[A-Za-z0-9_.: -]+")


class InvalidName(ValueError):
    """The text is no name that ZFS would take. Nothing was changed."""


def check_dataset(name: str) -> str:
    """Return *name* if it is a well-formed dataset name. Raises InvalidName with the reason."""
    if _size(name) > MAX_NAME:
        raise InvalidName(f"{name!r} is longer than {MAX_NAME} bytes")
    parts = name.split("/")
    for part in parts:
        if not part:
            raise InvalidName(f"{name!r} has an empty component")
        if part in (".", "..") or not _COMPONENT.fullmatch(part):
            raise InvalidName(f"{name!r}: {part!r} is not a valid component")
    if not parts[0][0].isalpha():
        raise InvalidName(f"{name!r}: a pool name begins with a letter")
    return name


def _size(name: str) -> int:
    """In bytes. Half a surrogate pair is no text, but it must not hide which name is wrong."""
    return len(name.encode(errors="surrogatepass"))


def check_snapshot(name: str) -> str:
    """Return *name* if it is a well-formed ``dataset@snapshot``. Raises InvalidName."""
    dataset, at, short = name.partition("@")
    if not at or not _COMPONENT.fullmatch(short):
        raise InvalidName(f"{name!r} is not of the form DATASET@SNAPSHOT")
    if _size(name) > MAX_NAME:
        raise InvalidName(f"{name!r} is longer than {MAX_NAME} bytes")
    check_dataset(dataset)
    return name


def split_snapshot(name: str) -> tuple[str, str]:
    """``"a/b@c"`` -> ``("a/b", "c")``. Raises InvalidName."""
    dataset, _, short = check_snapshot(name).partition("@")
    return dataset, short


def pool_of(name: str) -> str:
    """The pool of any dataset, snapshot or bookmark name."""
    return re.split(r"[/@#]", name, maxsplit=1)[0]


def parent_of(dataset: str) -> str | None:
    """The parent dataset, or None for a pool."""
    head, slash, _ = dataset.rpartition("/")
    return head if slash else None


def is_below(dataset: str, root: str) -> bool:
    """Whether *dataset* lies strictly below *root*."""
    return dataset.startswith(root + "/")
