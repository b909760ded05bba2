"""Builds the guests' base image once: a Debian root with ZFS, its kernel and initrd, cached by recipe."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .mirror import source_lines
from .progress import LabError, logged, say

SUITE = "trixie"
SIZE = "8G"
GUEST = Path(__file__).parent / "guest"
# What each guest file becomes; the recipe is these files, the suite and this list.
FILES = {
    "setup.sh": "/tmp/setup.sh",
    "network.sh": "/usr/local/lib/lab/network",
    "lab-network.service": "/etc/systemd/system/lab-network.service",
}


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


def recipe_hash() -> str:
    digest = hashlib.sha256(f"{SUITE} {SIZE}\n".encode())
    for word in packages():
        digest.update(word.encode() + b"\n")
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
                _build(directory)
    return Image(directory)


def _build(directory: Path) -> None:
    log = directory.with_suffix(".log")
    log.unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="building-", dir=directory.parent))
    root = scratch / "root"
    try:
        say(f"[1/5] lab image {directory.name}: this takes some minutes, once (log: {log})")
        say("[2/5] installing packages and building the ZFS module…")
        logged(_mmdebstrap(root), log)
        say("[3/5] kernel and initrd…")
        shutil.copy(_only(root / "boot", "vmlinuz-*"), scratch / "vmlinuz")
        shutil.copy(_only(root / "boot", "initrd.img-*"), scratch / "initrd.img")
        say("[4/5] disk…")
        logged(["mkfs.ext4", "-q", "-F", "-L", "lab", "-d", str(root), str(scratch / "base.img"), SIZE], log)
        shutil.rmtree(root)
        scratch.chmod(0o755)
        scratch.rename(directory)
        used = subprocess.run(
            ["du", "-sh", str(directory)], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        say(f"[5/5] lab image ready: {directory} ({used})")
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _mmdebstrap(root: Path) -> list[str]:
    hooks = ['--customize-hook=mkdir -p "$1/usr/local/lib/lab"']
    hooks += [f"--customize-hook=upload {GUEST / name} {target}" for name, target in FILES.items()]
    hooks += [
        f'--customize-hook=chroot "$1" sh {FILES["setup.sh"]}',
        f'--customize-hook=rm "$1{FILES["setup.sh"]}"',
    ]
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--components=main contrib",
        f"--include={','.join(packages())}",
        *hooks,
        SUITE,
        str(root),
        *source_lines(SUITE),
    ]


def _only(directory: Path, pattern: str) -> Path:
    found = list(directory.glob(pattern))
    if len(found) != 1:
        raise LabError(f"expected one {pattern} in the guest's {directory.name}, found {len(found)}")
    return found[0]
