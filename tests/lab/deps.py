"""The Debian packages a host needs to run the lab, and the installation of these and of others' packages."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

PACKAGES = (
    "qemu-system-x86",
    "qemu-utils",
    "mmdebstrap",
    "e2fsprogs",
    "nftables",
    "iproute2",
    "debian-archive-keyring",
)


def missing(packages: Sequence[str] = PACKAGES) -> list[str]:
    return [name for name in packages if not installed(name)]


def installed(name: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def install(packages: Sequence[str] = PACKAGES, what: str = "the lab") -> int:
    wanted = missing(packages)
    if not wanted:
        print(f"{what} has every package it needs", file=sys.stderr)
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
    if os.geteuid() != 0:
        print(f"not root; run: {' '.join(command)}", file=sys.stderr)
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=False, env=environment)
    return subprocess.run(command, check=False, env=environment).returncode
