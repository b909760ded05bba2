"""The user-data that makes a fresh Debian 13 VM install meshkeep and join: pure text, every value checked.

The invite goes into a file that only root reads; no command line and no log ever has it.
"""

import json
import re
import shlex
from dataclasses import dataclass

__all__ = ["INVITE_FILE", "SCRIPT_FILE", "BadValue", "Machine", "script", "user_data"]

INVITE_FILE = "/etc/meshkeep/invite"
SCRIPT_FILE = "/usr/local/sbin/meshkeep-setup"

_URL = re.compile(r"https?://[A-Za-z0-9._~:/?#\[\]@!$&()*+,;=%-]{1,2000}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DISK = re.compile(r"/dev/[A-Za-z0-9._:+/-]{1,200}")
_POOL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,60}")
_INVITE = re.compile(r"[!-~]{1,4096}")


class BadValue(ValueError):
    """A value that does not fit into user-data; the text says which and why. Nothing was made."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What the VM needs beside the invite. Raises `BadValue`.

    Without `package` meshkeep comes from the VM's own apt sources; without `disk` it brings its own pool.
    """

    package: str | None = None
    sha256: str | None = None
    disk: str | None = None
    pool: str = "tank"
    stores_only: bool = True

    def __post_init__(self) -> None:
        if (self.package is None) != (self.sha256 is None):
            raise BadValue("--package and --sha256 go together: the VM checks what it downloads")
        for text, form, what in (
            (self.package, _URL, "an http or https address"),
            (self.sha256, _SHA256, "a SHA-256 (64 small hex digits)"),
            (self.disk, _DISK, "a disk (/dev/…)"),
            (self.pool, _POOL, "the name of a pool"),
        ):
            if text is not None and not form.fullmatch(text):
                raise BadValue(f"{text!r} is not {what}")


def user_data(machine: Machine, *, invite: str) -> str:
    """The whole ``#cloud-config``. Raises `BadValue`."""
    if not _INVITE.fullmatch(invite):
        raise BadValue("the invite is not one line of printable ASCII")
    # JSON strings of ASCII are YAML strings, whatever is in them.
    return "\n".join(
        [
            "#cloud-config",
            "write_files:",
            f"  - path: {INVITE_FILE}",
            '    permissions: "0600"',
            f"    content: {json.dumps(invite + chr(10))}",
            f"  - path: {SCRIPT_FILE}",
            '    permissions: "0755"',
            "    content: |",
            *(f"      {line}".rstrip() for line in script(machine).splitlines()),
            "runcmd:",
            f"  - [{SCRIPT_FILE}]",
            "",
        ]
    )


def script(machine: Machine) -> str:
    """The setup as a shell script; it may run again after a failure, and does only what is still missing."""
    parts = [_HEAD, _ZFS, _package(machine)]
    if machine.disk is not None:
        disk, pool = shlex.quote(machine.disk), shlex.quote(machine.pool)
        parts.append(f"meshkeep vault prepare --disk {disk} --pool {pool} --if-needed\n")
    parts.append(_JOIN)
    return "\n".join(parts)


_HEAD = """\
#!/bin/sh
# Makes this machine a node of a meshkeep mesh. May be run again.
set -eu
export DEBIAN_FRONTEND=noninteractive
"""

# Cloud images know only `main`; OpenZFS is in `contrib`, and its module is built for the running kernel.
_ZFS = """\
if ! modprobe zfs 2>/dev/null || ! command -v zpool >/dev/null; then
  list=/etc/apt/sources.list.d/debian.sources
  [ ! -f $list ] || sed -i '/^Components:/{/contrib/!s/$/ contrib/}' $list
  list=/etc/apt/sources.list
  [ ! -f $list ] || sed -i '/^deb/{/contrib/!s/ main/ main contrib/}' $list
  echo 'zfs-dkms zfs-dkms/note-incompatible-licenses note true' | debconf-set-selections
  apt-get -q update
  apt-get -q -y install --no-install-recommends "linux-headers-$(uname -r)" zfs-dkms zfsutils-linux
  modprobe zfs
fi
"""

# Not every cloud image has curl; every one that runs cloud-init has python3.
_FETCH = "python3 -c 'import sys, urllib.request as u; u.urlretrieve(*sys.argv[1:])'"

# What the VM cannot start without is all it waits for; the join itself may take hours and survives a reboot.
_JOIN = f"""\
if [ -f {INVITE_FILE} ]; then
  systemctl start --no-block meshkeep-join.service
fi
"""


def _package(machine: Machine) -> str:
    """Install meshkeep. The package lists are fetched only if it does not work without."""
    lean = " --no-install-recommends" if machine.stores_only else ""
    if machine.package is None or machine.sha256 is None:
        what, lines = "meshkeep", []
    else:
        what = '"$deb"'
        lines = [
            "  deb=$(mktemp -d)/meshkeep.deb",
            # apt reads it as the user _apt, which may not look into a directory of root's.
            '  chmod 755 "${deb%/*}"',
            "  for try in 1 2 3 4 5; do",
            f'    {_FETCH} {shlex.quote(machine.package)} "$deb" && break',
            '    echo "meshkeep-setup: download $try failed" >&2',
            "    sleep 5",
            "  done",
            f'  echo {shlex.quote(machine.sha256)}"  $deb" | sha256sum -c --quiet',
        ]
    # An administrator's own configuration, written by the same user-data, stays.
    install = f"apt-get -q -y -o Dpkg::Options::=--force-confold install{lean} {what}"
    lines += [f"  {install} || {{ apt-get -q update; {install}; }}"]
    return "\n".join(["if ! command -v meshkeep >/dev/null; then", *lines, "fi", ""])
