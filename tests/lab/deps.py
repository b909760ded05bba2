"""The Debian packages a host needs to run the lab, and their installation."""

from __future__ import annotations

import os
import subprocess
import sys

PACKAGES = (
    "qemu-system-x86",
    "qemu-utils",
    "mmdebstrap",
    "e2fsprogs",
    "nftables",
    "iproute2",
    "debian-archive-keyring",
)


def missing() -> list[str]:
    return [name for name in PACKAGES if not installed(name)]


def installed(name: str) -> bool:
    query = ["dpkg-query", "-W", "-f", "${db:Status-Status}", name]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout == "installed"


def install() -> int:
    wanted = missing()
    if not wanted:
        print("the lab has every package it needs", file=sys.stderr)
        return 0
    command = ["apt-get", "install", "-y", "--no-install-recommends", *wanted]
    if os.geteuid() != 0:
        print(f"not root; run: {' '.join(command)}", file=sys.stderr)
        return 1
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-q"], check=False, env=environment)
    return subprocess.run(command, check=False, env=environment).returncode
