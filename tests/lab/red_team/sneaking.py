"""Past the agent: other ports, other addresses, other programs of the vault."""

import asyncio
import errno
import socket
import subprocess
from contextlib import suppress
from ipaddress import IPv6Address

from mesh.link import Link

from .attack import UNREACHABLE, Attacks, code_of
from .thief import INTERFACE, PORT, Thief, run

attack = Attacks("sneaking")

CLOSED = "closed"
PORTS = (*range(1, 1024), 2049, 3260, 5355, 8080, 9100, 9134, 20048, 51820, 51821)
UDP = (53, 69, 111, 123, 161, 547, 802, 2049, 5353, 20048, 51820, 51821)


@attack("only 801")
async def every_other_port(thief: Thief) -> str:
    """TCP to every port below 1024 and what else a host may listen on: SSH, RPC, NFS, metrics."""
    found = []
    for at in range(0, len(PORTS), 256):
        answers = await asyncio.gather(*(_connects(thief, port) for port in PORTS[at : at + 256]))
        found += [port for port, open_ in zip(PORTS[at : at + 256], answers, strict=True) if open_]
    return "only 801" if found == [PORT] else f"open: {found}"


async def _connects(thief: Thief, port: int, source: int = 0) -> bool:
    """Whether a program listens there that can be reached."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
    try:
        sock.bind((thief.own_address, source or (600 if port == PORT else 0)))
        async with asyncio.timeout(3):
            await asyncio.get_running_loop().sock_connect(sock, (thief.address(thief.vault), port, 0, 0))
        return True
    except (TimeoutError, OSError):
        return False
    finally:
        sock.close()


@attack(CLOSED)
async def a_port_that_anybody_has(thief: Thief) -> str:
    """The agent's port from source ports of 1024 and above, as any program on the host could."""
    answers = [await _connects(thief, PORT, source) for source in (1024, 5000, 60_000)]
    return CLOSED if not any(answers) else "open"


@attack(CLOSED)
async def datagrams_to_every_service(thief: Thief) -> str:
    """UDP to the services that a host may have, and noise to the gossip port: nothing comes back."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, INTERFACE.encode())
        sock.bind((thief.own_address, 700))
        sock.settimeout(0.5)
        for port in (*UDP, *[PORT] * 500):
            with suppress(OSError):
                sock.sendto(bytes(range(200)), (thief.address(thief.vault), port))
        try:
            said, (_, port, *_) = sock.recvfrom(2000)
        except TimeoutError:
            return CLOSED
        except OSError as error:
            return f"errno {errno.errorcode.get(error.errno or 0)}"
        return f"{len(said)} bytes from {port}"


@attack(CLOSED)
async def mount_the_vault(thief: Thief) -> str:
    """An NFS mount of the vault's root, and of where the replicas lie."""
    for path in ("/", "/tank", "/tank/meshkeep"):
        words = ["timeout", "4", "mount", "-t", "nfs4", "-o", "soft,timeo=10,retrans=1"]
        done = await asyncio.to_thread(
            subprocess.run, [*words, f"[{thief.address(thief.vault)}]:{path}", "/mnt"], capture_output=True
        )
        if done.returncode == 0:
            run("umount", "/mnt")
            return f"{path} is mounted"
    return CLOSED


@attack(UNREACHABLE, "no answer")
async def the_address_of_another(thief: Thief) -> str:
    """Another owner's mesh address on the own interface, to ask in its name."""
    other = thief.address(thief.other)
    run("ip", "-6", "address", "add", f"{other}/128", "dev", INTERFACE, "nodad")
    try:
        link = Link(other, device=INTERFACE)
        return await code_of(link.call(thief.address(thief.vault), "replica.list", {}, 6.0))
    finally:
        run("ip", "-6", "address", "del", f"{other}/128", "dev", INTERFACE)


@attack(UNREACHABLE, "no answer")
async def an_address_of_nobody(thief: Thief) -> str:
    """A mesh address that no node has."""
    nobody = str(IPv6Address(int(IPv6Address(thief.own_address)) ^ 1))
    run("ip", "-6", "address", "add", f"{nobody}/128", "dev", INTERFACE, "nodad")
    try:
        link = Link(nobody, device=INTERFACE)
        return await code_of(link.call(thief.address(thief.vault), "replica.list", {}, 6.0))
    finally:
        run("ip", "-6", "address", "del", f"{nobody}/128", "dev", INTERFACE)


leaving = Attacks("leaving")


@leaving(UNREACHABLE, "no answer", "not_admitted")
async def go_on_after_an_eviction(thief: Thief) -> str:
    """A node that was evicted, with its agent stopped and its tunnel kept as it was."""
    return await code_of(thief.ask("replica.list", timeout=8.0))
