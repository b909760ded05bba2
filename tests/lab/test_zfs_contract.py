"""The real door to ZFS keeps its contract, in a guest, with Debian's own Python and libzfs_core."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Guest, Host, Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
WHERE = "/root/contract"


def packed() -> bytes:
    """What the contract needs: itself and the package that it is about."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in sorted([*ROOT.glob("zfs/*.py"), *ROOT.glob("tests/contracts/zfs_*.py")]):
            tar.add(path, path.relative_to(ROOT))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def host() -> Iterator[Guest]:
    with Lab(hosts=[Host("home", pool="tank", meshkeep=False)]) as lab:
        host = lab["home"]
        host.run(f"mkdir -p {WHERE} && tar -x -C {WHERE}", input=packed())
        yield host


def test_the_real_door_keeps_the_contract(host: Guest) -> None:
    done = host.run(f"cd {WHERE} && python3 -m tests.contracts.zfs_contract tank", check=False)
    assert done.code == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")
