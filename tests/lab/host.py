"""What a test asks for (`Host`) and what it gets (`Guest`): a machine with a place on the lab's internet."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from .accelerator import accelerator
from .guest_agent import Command, Result, Running
from .image import GUEST, SIZE, Image
from .machine import Hardware, Machine, Nic, new_disk
from .network import Place
from .progress import LabError
from .template import DATA_DISKS, DATA_SIZE, Template, disk_name

PERSONALIZE = (GUEST / "personalize.sh").read_text()
STATE_BEGINS = "xargs -r systemctl start < /root/meshkeep.units"


@dataclass(frozen=True)
class Host:
    """A host to start. Its data disks are /dev/vdb, /dev/vdc, /dev/vdd.

    `pool` is made on /dev/vdb, as a mirror with /dev/vdc when `disks` is 2 or more. `nat` puts the host
    behind a home router ("easy" or "hard"); hosts of the same `lan` share it.
    With `user_data` the host is a fresh cloud VM: booted cold without meshkeep, and cloud-init runs the text.
    """

    name: str
    pool: str | None = None
    nat: str | None = None
    disks: int = 1
    memory: int = 768
    meshkeep: bool = True
    user_data: str | None = None
    lan: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", self.name):
            raise ValueError(f"{self.name!r} is no host name")
        if self.nat not in (None, "easy", "hard"):
            raise ValueError(f'nat is "easy", "hard" or None, not {self.nat!r}')
        if not 0 <= self.disks <= DATA_DISKS:
            raise ValueError(f"a host has at most {DATA_DISKS} data disks")
        if self.pool and not self.disks:
            raise ValueError("a pool needs a disk")
        if self.lan and not self.nat:
            raise ValueError("a lan is behind a router: give its nat")


class Guest:
    """A host of a running lab."""

    def __init__(
        self, spec: Host, place: Place, image: Image, template: Template | None, directory: Path
    ) -> None:
        self.spec = spec
        self.name = spec.name
        self.place = place
        self.directory = directory
        self._image = image
        self._template = template
        self._fresh = True
        directory.mkdir(parents=True)
        self.machine = Machine(spec.name, self._hardware(self._new_disks()), directory / "console.log")

    @property
    def address(self) -> str:
        """Where the lab's internet finds it; behind NAT, its router."""
        return self.place.public

    def run(
        self, command: Command, check: bool = True, timeout: float = 600, input: bytes | None = None
    ) -> Result:
        """A shell line or an argument list, as root. `check`: CommandFailed unless it ends with 0."""
        return self.machine.agent.run(command, check, timeout, input)

    def spawn(self, command: Command, input: bytes | None = None) -> Running:
        """Start a command and go on: `.poll()` or `.wait()` it later."""
        return self.machine.agent.start(command, input)

    def put(self, path: str, data: bytes) -> None:
        self.machine.agent.put(path, data)

    def get(self, path: str) -> bytes:
        return self.machine.agent.get(path)

    def kill(self) -> None:
        """Power cut."""
        self.machine.kill()

    def shutdown(self) -> None:
        """An orderly power off."""
        self.spawn(["systemctl", "poweroff"])
        self.machine.wait_off()

    def boot(self) -> None:
        """Switch on: a cold boot, or after `wipe` a new machine. Returns when its services are up."""
        self.switch_on()
        self.settle()

    def wipe(self) -> None:
        """The host burned down: power and disks gone. `boot` then gives a new machine in its place."""
        self.kill()
        self._new_disks()
        self._fresh = True

    def cloud_init(self, timeout: float = 1200) -> Result:
        """Wait for cloud-init to end; code 0 done, 1 failed, 2 done with recoverable errors."""
        return self.run("cloud-init status --wait --long", check=False, timeout=timeout)

    def save(self, tag: str) -> None:
        """Keep the running machine as it is now, disks and memory, for `load`."""
        self.machine.monitor.human(f"savevm {tag}")

    def load(self, tag: str) -> None:
        """Back to what `save` kept. The clock is right and random numbers are new."""
        self.machine.monitor.human(f"loadvm {tag}")
        self.machine.wait_up()
        self.run("cat >/dev/urandom; date -s @" + f"{time.time():.3f}", input=secrets.token_bytes(64))

    def switch_on(self) -> None:
        """The first half of `boot`, which does not wait."""
        restored = self._fresh and self._template is not None
        self.machine.start(self._template.state if restored and self._template else None)

    def settle(self) -> None:
        """The second half of `boot`."""
        self.machine.wait_up()
        if self.spec.user_data is not None:
            pass  # cloud-init is for `cloud_init()` to wait for
        elif self._fresh:
            self._personalize()
        else:
            self.run("systemctl is-system-running --wait", check=False)
        self._fresh = False

    def _personalize(self) -> None:
        settings = {
            "NOW": f"{time.time():.3f}",
            "MACHINE_ID": secrets.token_hex(16),
            "HOSTID": secrets.token_hex(4),
            "NAME": self.name,
            "NET": self.place.argument,
        }
        lines = [f"export {name}='{value}'" for name, value in settings.items()]
        lines.append(PERSONALIZE)
        if self.spec.pool:
            kind = "mirror /dev/vdb /dev/vdc" if self.spec.disks > 1 else "/dev/vdb"
            pool = self.spec.pool
            lines.append(f"zpool create -f -O compression=lz4 -O mountpoint=/{pool} {pool} {kind}")
        lines += [f"[ ! -e /root/meshkeep.units ] || {STATE_BEGINS}", "sync"]
        self.run("\n".join(lines), input=os.urandom(256))

    def _new_disks(self) -> tuple[Path, ...]:
        if self._template:
            return self._template.overlays(self.directory)
        disks = tuple(self.directory / disk_name(index) for index in range(1 + self.spec.disks))
        for disk in disks:
            disk.unlink(missing_ok=True)
        new_disk(disks[0], SIZE, self._image.disk, "raw")
        for disk in disks[1:]:
            new_disk(disk, DATA_SIZE)
        return disks

    def _hardware(self, disks: tuple[Path, ...]) -> Hardware:
        cloud = self.spec.user_data is not None
        if not cloud and self._template is None:
            raise LabError(f"{self.name}: only a cloud VM starts without a template")
        return Hardware(
            image=self._image,
            disks=disks,
            nics=(self.place.nic, Nic(self.place.mac.replace("52:54", "56:54"))),
            memory=self.spec.memory,
            accelerator=self._template.accelerator if self._template else accelerator(self._image),
            namespace=self.place.namespace,
            kernel_arguments=self.place.argument + ("" if cloud else " cloud-init=disabled"),
            seed=self._seed() if cloud else None,
        )

    def _seed(self) -> Path:
        """The NoCloud disk, as a provider attaches it."""
        seed = self.directory / "seed"
        shutil.rmtree(seed, ignore_errors=True)
        seed.mkdir()
        (seed / "user-data").write_text(self.spec.user_data or "")
        instance = f"{self.name}-{secrets.token_hex(4)}"
        (seed / "meta-data").write_text(f"instance-id: {instance}\nlocal-hostname: {self.name}\n")
        return seed
