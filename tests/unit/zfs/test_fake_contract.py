"""The double of ZFS keeps the contract that the real one keeps in a guest (tests/lab)."""

import random

import pytest

from tests.contracts.zfs_contract import Contract, contracts
from tests.contracts.zfs_env import Env
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_streams import FakeStreams


@pytest.mark.parametrize("contract", [one for _, one in contracts()], ids=[name for name, _ in contracts()])
async def test_fake(contract: Contract) -> None:
    zfs = FakeZfs()
    await zfs.create("tank/work", {})
    rng = random.Random(1)

    async def write(dataset: str, size: int) -> None:
        zfs.write(dataset, rng.randbytes(size))

    await contract(Env(zfs, FakeStreams(zfs), "tank/work", write))
