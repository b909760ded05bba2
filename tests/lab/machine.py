"""One QEMU process: a guest's hardware, its power switch, and the two channels into it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .guest_agent import Agent
from .image import Image
from .monitor import Monitor
from .progress import LabError, tail

QEMU = "qemu-system-x86_64"
TCG = "tcg"
KVM = "kvm"
BOOT_PATIENCE = 600.0
KERNEL_ARGUMENTS = "root=/dev/vda rw console=ttyS0 panic=-1 net.ifnames=0 mitigations=off quiet"


@dataclass(frozen=True)
class Nic:
    """A network card; without a tap it is there and unplugged."""

    mac: str
    tap: str | None = None


@dataclass(frozen=True)
class Hardware:
    """What QEMU is told. A saved state only fits the same memory, accelerator and number of devices."""

    image: Image
    disks: tuple[Path, ...]
    nics: tuple[Nic, ...]
    memory: int = 768
    accelerator: str = TCG
    namespace: str | None = None
    kernel_arguments: str = ""
    seed: Path | None = None


class Machine:
    """A guest that can be switched on, restored, cut from power, saved. Its disks outlive it."""

    def __init__(self, name: str, hardware: Hardware, console: Path) -> None:
        self.name = name
        self.hardware = hardware
        self.console = console
        self._process: subprocess.Popen[bytes] | None = None
        self._agent: Agent | None = None
        self._monitor: Monitor | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def agent(self) -> Agent:
        if self._agent is None or not self.running:
            raise LabError(f"{self.name} is not running")
        return self._agent

    @property
    def monitor(self) -> Monitor:
        if self._monitor is None or not self.running:
            raise LabError(f"{self.name} is not running")
        return self._monitor

    def start(self, state: Path | None = None) -> None:
        """Switch on: cold, or from a saved state. Returns at once; `wait_up` waits for the guest."""
        if self.running:
            raise LabError(f"{self.name} is running already")
        agent_ours, agent_theirs = socket.socketpair()
        monitor_ours, monitor_theirs = socket.socketpair()
        command = qemu_command(self.hardware, self.console, agent_theirs.fileno(), monitor_theirs.fileno())
        if state:
            command += ["-incoming", f"exec:cat '{state}'"]
        if self.hardware.namespace:
            command = ["ip", "netns", "exec", self.hardware.namespace, *command]
        # A session of its own: Ctrl-C in the terminal must not take the guests before their logs are kept.
        with self.console.with_suffix(".qemu").open("ab") as errors, agent_theirs, monitor_theirs:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=(agent_theirs.fileno(), monitor_theirs.fileno()),
                start_new_session=True,
            )
        self._agent = Agent(self.name, agent_ours)
        self._monitor = Monitor(monitor_ours)

    def wait_up(self, timeout: float = BOOT_PATIENCE) -> None:
        """Until the guest's agent answers; a machine that does not come up shows its console."""
        try:
            self.agent.wait_up(timeout)
        except LabError as error:
            said = tail(self.console.with_suffix(".qemu")) + "\n" + tail(self.console)
            raise LabError(f"{self.name} did not come up: {error}\n{said.strip()}") from error

    def kill(self) -> None:
        """Power cut: what the guest had not written to its disks is lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        for channel in (self._agent, self._monitor):
            if channel is not None:
                channel.close()
        self._process = self._agent = self._monitor = None

    def wait_off(self, timeout: float = BOOT_PATIENCE) -> None:
        """Until the guest has switched itself off."""
        if self._process is not None:
            self._process.wait(timeout)
        self.kill()

    def save(self, state: Path) -> None:
        """Write the running machine to a file and switch it off; its disks stay at that moment."""
        self.monitor.migrate_to(state)
        with contextlib.suppress(LabError):
            self.monitor.call("quit")
        self.wait_off()


def qemu_command(hardware: Hardware, console: Path, agent_fd: int, monitor_fd: int) -> list[str]:
    accelerator = "tcg,thread=multi,tb-size=256" if hardware.accelerator == TCG else KVM
    command = [
        QEMU,
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-machine",
        "pc",
        "-accel",
        accelerator,
    ]
    command += ["-cpu", "max", "-smp", "1", "-m", str(hardware.memory), "-rtc", "base=utc"]
    command += ["-kernel", str(hardware.image.kernel), "-initrd", str(hardware.image.initrd)]
    command += ["-append", f"{KERNEL_ARGUMENTS} {hardware.kernel_arguments}".strip()]
    command += ["-serial", f"file:{console}"]
    command += ["-chardev", f"socket,id=monitor,fd={monitor_fd}", "-mon", "chardev=monitor,mode=control"]
    command += ["-chardev", f"socket,id=agent,fd={agent_fd}", "-device", "virtio-serial-pci,addr=0x3"]
    command += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0"]
    command += [
        "-object",
        "rng-random,id=rng,filename=/dev/urandom",
        "-device",
        "virtio-rng-pci,rng=rng,addr=0x4",
    ]
    for index, nic in enumerate(hardware.nics):
        backend = (
            f"tap,id=net{index},ifname={nic.tap},script=no,downscript=no"
            if nic.tap
            else f"hubport,id=net{index},hubid={index}"
        )
        command += ["-netdev", backend]
        command += [
            "-device",
            f"virtio-net-pci,netdev=net{index},mac={nic.mac},romfile=,addr={0x5 + index:#x}",
        ]
    for index, disk in enumerate(hardware.disks):
        command += ["-drive", f"if=none,id=disk{index},file={disk},format=qcow2,cache=unsafe,discard=unmap"]
        command += ["-device", f"virtio-blk-pci,drive=disk{index},addr={0x8 + index:#x}"]
    if hardware.seed:
        seed = f"driver=vvfat,dir={hardware.seed},label=cidata,read-only=on"
        command += ["-drive", f"if=none,id=seed,{seed}", "-device", "virtio-blk-pci,drive=seed,addr=0x10"]
    return command


def new_disk(path: Path, size: str, backing: Path | None = None, backing_format: str = "qcow2") -> None:
    """A sparse qcow2, blank or over another disk that stays untouched."""
    command = ["qemu-img", "create", "-q", "-f", "qcow2"]
    if backing:
        command += ["-b", os.fspath(backing), "-F", backing_format]
    done = subprocess.run([*command, str(path), size], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"no disk {path}: {done.stderr.strip()}")
