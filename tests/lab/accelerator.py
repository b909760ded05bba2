"""Is KVM usable? Only a guest that booted is proof: /dev/kvm can exist and hang, or die early."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .image import Image
from .machine import KVM, TCG, Hardware, Machine, new_disk
from .progress import LabError, say

PATIENCE = 60.0


def accelerator(image: Image) -> str:
    """The verdict is kept beside the image; delete the file, or set MESHKEEP_LAB_ACCEL, to ask anew."""
    forced = os.environ.get("MESHKEEP_LAB_ACCEL")
    if forced in (TCG, KVM):
        return forced
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return TCG
    verdict = image.directory / "accelerator"
    if not verdict.exists():
        say(f"trying KVM once, for at most {PATIENCE:.0f} s…")
        verdict.write_text(KVM if boots_under_kvm(image) else TCG)
        say(f"guests will run under {verdict.read_text()}")
    return verdict.read_text()


def boots_under_kvm(image: Image) -> bool:
    with tempfile.TemporaryDirectory(prefix="meshkeep-kvm-") as name:
        scratch = Path(name)
        disk = scratch / "vda.qcow2"
        new_disk(disk, "8G", image.disk, "raw")
        machine = Machine("kvm-probe", Hardware(image, (disk,), (), accelerator=KVM), scratch / "console.log")
        try:
            machine.start()
            machine.wait_up(PATIENCE)
        except LabError:
            return False
        finally:
            machine.kill()
        return True
