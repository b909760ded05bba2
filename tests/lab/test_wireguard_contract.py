"""The WireGuard contract and real tunnels on a guest's kernel, with Debian's pyroute2 and with the newest."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyroute2
import pytest

from tests.lab import Guest, Host, Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]


def tarred(base: Path, *names: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in names:
            tar.add(base / name, name, filter=without_caches)
    return buffer.getvalue()


def without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    with Lab(hosts=[Host("one", disks=0, meshkeep=False)]) as lab:
        one = lab["one"]
        contracts = [f"tests/contracts/wireguard_{part}.py" for part in ("contract", "tunnels")]
        tree = tarred(ROOT, "mesh", *contracts)
        one.run("mkdir -p /root/contract && tar -C /root/contract -x", input=tree)
        yield one


def outcome(guest: Guest, environment: str = "") -> tuple[str, int]:
    command = f"cd /root/contract && {environment} python3 -W error -m tests.contracts.wireguard_contract"
    done = guest.run(command, check=False, timeout=900)
    print(done.stdout, done.stderr)
    return done.stdout.strip().splitlines()[-1], done.code


def test_the_kernel_holds_to_the_contract_with_the_pyroute2_of_debian(guest: Guest) -> None:
    assert guest.run("python3 -c 'import pyroute2; print(pyroute2.__version__)'").stdout.strip() == "0.7.7"
    last, code = outcome(guest)
    assert last.endswith(" passed, 0 failed")
    assert code == 0


@pytest.mark.soak
def test_the_kernel_holds_to_the_contract_with_the_pyroute2_of_this_host(guest: Guest) -> None:
    folder = Path(pyroute2.__file__).parent
    guest.run("mkdir -p /root/newer && tar -C /root/newer -x", input=tarred(folder.parent, folder.name))
    last, code = outcome(guest, "PYTHONPATH=/root/newer")
    assert last.endswith(" passed, 0 failed")
    assert code == 0
