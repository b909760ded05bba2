"""Builds the guests' base image once: a Debian root with ZFS, its kernel and initrd, cached by recipe.

In two halves, so that a change of the guest's configuration costs seconds and only one of its packages minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .mirror import source_lines
from .progress import LabError, logged, say

SUITE = "trixie"
SIZE = "8G"
GUEST = Path(__file__).parent / "guest"
BUILD = "build.sh"
# What each guest file becomes in the configured root.
FILES = {
    "setup.sh": "/tmp/setup.sh",
    "network.sh": "/usr/local/lib/lab/network",
    "lab-network.service": "/etc/systemd/system/lab-network.service",
}
# The mounts are gone with their namespace, whatever happens.
IN_ROOT = 'mount -t proc proc "$1/proc"; mount --bind /dev "$1/dev"; chroot "$1" sh "$2"'


@dataclass(frozen=True)
class Image:
    """A directory with everything needed to boot a guest cold; never written after it was built."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "base.img"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"


def cache_directory() -> Path:
    return Path(os.environ.get("MESHKEEP_LAB_CACHE", "/var/cache/meshkeep-lab"))


def packages() -> list[str]:
    lines = (GUEST / "packages.txt").read_text().splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def packages_hash() -> str:
    """What the slow half of the recipe depends on."""
    digest = hashlib.sha256(f"{SUITE}\n".encode() + (GUEST / BUILD).read_bytes())
    for word in packages():
        digest.update(word.encode() + b"\n")
    return digest.hexdigest()[:16]


def recipe_hash() -> str:
    digest = hashlib.sha256(f"{packages_hash()} {SIZE}\n".encode())
    for name, target in FILES.items():
        digest.update(f"{name} {target}\n".encode() + (GUEST / name).read_bytes())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Only one process builds; the others wait and then find the result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another process builds here, waiting for it ({path})")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def base_image() -> Image:
    """The image of the present recipe, built if it is not in the cache."""
    directory = cache_directory() / recipe_hash()
    if not directory.exists():
        with locked(cache_directory() / "build.lock"):
            if not directory.exists():
                _build_image(directory)
    return Image(directory)


def _build_image(directory: Path) -> None:
    """Configure a copy of the package root and make a disk of it: the quick half."""
    packed = directory.parent / f"root-{packages_hash()}"
    if not packed.exists():
        _build_root(packed)
    log = directory.with_suffix(".log")
    log.unlink(missing_ok=True)
    with _scratch(directory) as scratch:
        root = scratch / "root"
        say(f"[3/4] configuring a copy… (log: {log})")
        logged(["cp", "-a", "--reflink=auto", str(packed), str(root)], log)
        (root / "usr/local/lib/lab").mkdir()
        for name, target in FILES.items():
            shutil.copy(GUEST / name, root / target.lstrip("/"))
        logged(["unshare", "--mount", "sh", "-ec", IN_ROOT, "sh", str(root), FILES["setup.sh"]], log)
        (root / FILES["setup.sh"].lstrip("/")).unlink()
        shutil.copy(_only(root / "boot", "vmlinuz-*"), scratch / "vmlinuz")
        shutil.copy(_only(root / "boot", "initrd.img-*"), scratch / "initrd.img")
        say("[4/4] disk…")
        logged(["mkfs.ext4", "-q", "-F", "-L", "lab", "-d", str(root), str(scratch / "base.img"), SIZE], log)
        shutil.rmtree(root)
        scratch.rename(directory)
    say(f"lab image ready: {directory}")


def _build_root(packed: Path) -> None:
    """Install the packages and build the ZFS module: the slow half, once per list of packages."""
    log = packed.with_suffix(".log")
    log.unlink(missing_ok=True)
    with _scratch(packed) as scratch:
        say(f"[1/4] lab guest, once per list of packages; this takes some minutes (log: {log})")
        say("[2/4] installing packages and building the ZFS module…")
        root = scratch / "root"
        logged(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--components=main contrib",
                f"--include={','.join(packages())}",
                f"--customize-hook=upload {GUEST / BUILD} /tmp/{BUILD}",
                f'--customize-hook=chroot "$1" sh /tmp/{BUILD}',
                f'--customize-hook=rm "$1/tmp/{BUILD}"',
                SUITE,
                str(root),
                *source_lines(SUITE),
            ],
            log,
        )
        root.rename(packed)


@contextlib.contextmanager
def _scratch(beside: Path) -> Iterator[Path]:
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=beside.parent))
    scratch.chmod(0o755)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise LabError(f"expected one {pattern} in the guest's {directory.name}, found {len(found)}")
    return found[0]
