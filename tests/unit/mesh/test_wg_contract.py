import asyncio

import pytest

from mesh.wireguard.device import NoKernelWireGuard
from mesh.wireguard.netlink import KernelWireGuard
from tests.contracts.wireguard_contract import CONTRACT, hold, secret
from tests.fakes.wireguard import FakeWireGuard


@pytest.mark.parametrize("clause", CONTRACT, ids=lambda clause: clause.__name__)
def test_the_double_holds_to_the_contract(clause):
    asyncio.run(hold(clause, FakeWireGuard()))


@pytest.fixture
def kernel():
    wg = KernelWireGuard()
    yield wg
    wg.close()


async def without_wireguard(wg):
    try:
        await wg.check()
    except NoKernelWireGuard as error:
        return str(error)
    pytest.skip("this kernel has WireGuard")


async def test_a_kernel_without_wireguard_says_so_and_what_to_try(kernel):
    assert "modprobe wireguard" in await without_wireguard(kernel)


async def test_where_the_kernel_has_none_no_interface_is_made(kernel):
    await without_wireguard(kernel)
    with pytest.raises(NoKernelWireGuard):
        await kernel.ensure("wgnone0", private_key=secret(1), port=41999, address="fd00::1", mtu=1420)
    assert all(entry.interface != "wgnone0" for entry in await kernel.addresses())


async def test_the_addresses_of_this_host_are_read_from_the_kernel(kernel):
    assert ("lo", "127.0.0.1", 8) in [(a.interface, a.ip, a.prefixlen) for a in await kernel.addresses()]
