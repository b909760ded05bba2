"""Boot once, restore many times: a running guest saved to disk, with or without meshkeep installed.

A template is a directory of disks and the memory of the machine that ran on them. Hosts are overlays of the
disks started from that memory. Both are keyed by everything they depend on. `boot-*` is a machine after its
first boot; `package-*` lies over it with a package installed, and of those the least used go.
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from .accelerator import accelerator
from .image import SIZE, Image, locked
from .machine import QEMU, Hardware, Machine, Nic, new_disk
from .progress import LabError, say

DATA_DISKS = 3
DATA_SIZE = "4G"
KEPT = 4
VERSION = 1
PACKAGE = "/root/meshkeep.deb"
# An agent saved while running would wake up on every host as the same process, and what it had
# already made for itself would be the same on all.
INSTALL = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -y -q {PACKAGE}
systemctl list-units --plain --no-legend --state=active 'meshkeep*' | cut -d' ' -f1 > /root/meshkeep.units
xargs -r systemctl stop < /root/meshkeep.units
[ ! -d /var/lib/meshkeep ] || find /var/lib/meshkeep -mindepth 1 -delete
"""


@dataclass(frozen=True)
class Template:
    """A saved machine: restore it by starting overlays of its disks from its state."""

    directory: Path
    image: Image
    accelerator: str
    memory: int

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def disks(self) -> tuple[Path, ...]:
        return tuple(self.directory / disk_name(index) for index in range(1 + DATA_DISKS))

    def overlays(self, directory: Path) -> tuple[Path, ...]:
        """Fresh disks for one host."""
        made = tuple(directory / disk.name for disk in self.disks)
        for overlay, disk in zip(made, self.disks, strict=True):
            overlay.unlink(missing_ok=True)
            new_disk(overlay, SIZE if disk.name == disk_name(0) else DATA_SIZE, disk)
        return made

    def use(self) -> TextIO:
        """As long as this handle is open, the template is not cleaned away."""
        handle = (self.directory / "in-use").open("a")
        fcntl.flock(handle, fcntl.LOCK_SH)
        (self.directory / "in-use").touch()
        return handle


def disk_name(index: int) -> str:
    return f"vd{'abcdefgh'[index]}.qcow2"


def template(image: Image, memory: int, deb: Path | None) -> Template:
    """The template for that package, made if need be: one cold boot, then only installations."""
    kind = accelerator(image)
    qemu = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    digest = hashlib.sha256(f"{VERSION} {memory} {kind} {qemu} {INSTALL}".encode())
    bare = Template(_directory(image, "boot", digest), image, kind, memory)
    _make(bare, None, None)
    if deb is None:
        return bare
    digest.update(deb.read_bytes())
    installed = Template(_directory(image, "package", digest), image, kind, memory)
    _make(installed, bare, deb)
    return installed


def _directory(image: Image, stage: str, digest: hashlib._Hash) -> Path:
    return image.directory / f"{stage}-{digest.hexdigest()[:16]}"


def _make(wanted: Template, source: Template | None, deb: Path | None) -> None:
    if wanted.directory.exists():
        return
    with locked(wanted.image.directory / "template.lock"):
        if wanted.directory.exists():
            return
        _clean(wanted.image)
        begun = time.monotonic()
        say(f"lab template: {'installing ' + deb.name if deb else 'first boot'} (once)…")
        scratch = Path(tempfile.mkdtemp(prefix="making-", dir=wanted.image.directory))
        try:
            _save(wanted, source, deb, scratch)
            scratch.rename(wanted.directory)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        say(f"lab template ready after {time.monotonic() - begun:.0f} s")


def _save(wanted: Template, source: Template | None, deb: Path | None, scratch: Path) -> None:
    if source:
        disks = source.overlays(scratch)
    else:
        disks = tuple(scratch / disk_name(index) for index in range(1 + DATA_DISKS))
        new_disk(disks[0], SIZE, wanted.image.disk, "raw")
        for disk in disks[1:]:
            new_disk(disk, DATA_SIZE)
    nics = (Nic("52:54:00:1a:ff:00"), Nic("52:54:00:1a:ff:01"))
    hardware = Hardware(
        wanted.image, disks, nics, wanted.memory, wanted.accelerator, kernel_arguments="cloud-init=disabled"
    )
    machine = Machine("template", hardware, scratch / "console.log")
    try:
        machine.start(source.state if source else None)
        machine.wait_up()
        if source and deb:
            machine.agent.run(f"date -s @{time.time():.3f}")
            machine.agent.put(PACKAGE, deb.read_bytes())
            machine.agent.run(INSTALL)
        else:
            machine.agent.run("systemctl is-system-running --wait; modprobe zfs", check=True)
        machine.agent.run("sync")
        machine.save(scratch / "state")
    except (LabError, AssertionError) as error:
        raise LabError(f"no template: {error}") from error
    finally:
        machine.kill()


def _clean(image: Image) -> None:
    """Keep the packages used last; one that a lab holds stays whatever its age."""
    found = [path for path in image.directory.glob("package-*") if path.is_dir()]

    def last_use(path: Path) -> float:
        mark = path / "in-use"
        return (mark if mark.exists() else path).stat().st_mtime

    for path in sorted(found, key=last_use, reverse=True)[KEPT:]:
        with (path / "in-use").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(path)
