"""The agent's side of a worker: real worker processes over tiny streams, and one that cannot be ended."""

import asyncio
import os
import pwd
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

import pytest

from replication.errors import (
    BadJob,
    Cancelled,
    Interrupted,
    StreamRefused,
    TransferFailed,
    WorkerDied,
    WorkerHangs,
)
from replication.fork_server import ForkServer, WorkerCommand
from replication.jobs import (
    Outcome,
    ReceiveJob,
    ReceiveStep,
    SendJob,
    SendStep,
    receive_outcome,
    send_outcome,
)
from replication.transfer import Transfer, start_receive, start_send
from tests.unit.replication.tiny_streams import begin, fingerprint, length, stream

SEND = SendJob((SendStep("tank/home@b", "tank/home@a"),), raw=True)
RECEIVE = ReceiveJob((ReceiveStep("vault/home@b", to_guid=2, from_guid=1),), raw=True, resuming=False)
HEAD = len(begin())
MB = 1 << 20

T = TypeVar("T", bound=Outcome)


class Servers:
    """Fork servers of the tiny worker, by their environment."""

    def __init__(self) -> None:
        self._started: dict[str, ForkServer] = {}

    def __call__(self, **environment: str) -> ForkServer:
        words = [sys.executable, "-m", "tests.unit.replication.tiny_worker"]
        command = WorkerCommand(words, {**os.environ, **environment})
        return self._started.setdefault(repr(environment), ForkServer(command))

    async def close(self) -> None:
        for server in self._started.values():
            await server.close()


@pytest.fixture
async def worker() -> AsyncIterator[Servers]:
    servers = Servers()
    yield servers
    await servers.close()


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


async def in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(30):
        return await work


Sockets = tuple[socket.socket, socket.socket]


async def test_a_stream_from_one_worker_to_another(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    told: list[int] = []
    sender = await start_send(worker(TINY_SIZE=str(8 * MB)), SEND, near.fileno(), told.append)
    receiver = await start_receive(worker(), RECEIVE, far.fileno())
    near.close()
    far.close()
    sent, got = await in_time(sender.outcome()), await in_time(receiver.outcome())
    assert sent.bytes == got.bytes == length(8 * MB)
    assert sender.bytes == sent.bytes
    assert told[-1] == sent.bytes
    assert got.key_fingerprint == fingerprint(begin())
    assert not sender.alive


async def test_a_refusal_comes_back_as_its_own_class(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    sender = await start_send(worker(TINY_SIZE="100"), SEND, near.fileno())
    receiver = await start_receive(
        worker(), replace(RECEIVE, steps=(ReceiveStep("vault/home@b", 3, 1),)), far.fileno()
    )
    with pytest.raises(StreamRefused, match="announced"):
        await in_time(receiver.outcome())
    await in_time(sender.outcome())


async def test_a_cancelled_worker_says_so_and_ends(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    sender = await start_send(worker(TINY_SIZE="-1"), SEND, near.fileno())
    await asyncio.to_thread(far.recv, HEAD)
    await sender.cancel()
    with pytest.raises(Cancelled):
        await in_time(sender.outcome())
    assert not sender.alive


async def test_a_worker_deaf_to_sigterm_is_killed(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    sender = await start_send(worker(TINY_SIZE="-1", TINY_STUBBORN="1"), SEND, near.fileno())
    await asyncio.to_thread(far.recv, HEAD)
    await sender.cancel(grace=0.05)
    with pytest.raises(WorkerDied, match="-9"):
        await in_time(sender.outcome())
    assert not sender.alive


async def test_cancelling_the_task_that_waits_kills_the_worker(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    sender = await start_send(worker(TINY_SIZE="-1"), SEND, near.fileno())
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(sender.outcome())
        await asyncio.to_thread(far.recv, HEAD)
        waiting.cancel()
    async with asyncio.timeout(30):
        await sender._process.wait()
    assert not sender.alive


async def test_a_killed_sender_is_an_interruption_over_there(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    sender = await start_send(worker(TINY_SIZE="-1"), SEND, near.fileno())
    told = asyncio.Event()
    receiver = await start_receive(worker(), RECEIVE, far.fileno(), lambda _: told.set())
    near.close()
    far.close()
    async with asyncio.TaskGroup() as group:
        got = group.create_task(outcome_or_error(receiver))
        sent = group.create_task(outcome_or_error(sender))
        async with asyncio.timeout(30):
            await told.wait()
        os.kill(sender.pid, 9)
    assert isinstance(sent.result(), WorkerDied)
    assert isinstance(got.result(), Interrupted)


async def outcome_or_error(transfer: Transfer[T]) -> T | TransferFailed:
    try:
        return await in_time(transfer.outcome())
    except TransferFailed as error:
        return error


async def test_a_crash_brings_its_last_words(worker: Servers, sockets: Sockets) -> None:
    sender = await start_send(worker(TINY_CRASH="1"), SEND, sockets[0].fileno())
    with pytest.raises(WorkerDied, match="as the test wished"):
        await in_time(sender.outcome())


async def test_a_command_that_is_not_there(sockets: Sockets) -> None:
    with pytest.raises(WorkerDied, match="could not be started"):
        await start_send(ForkServer(WorkerCommand(["/nowhere/python"])), SEND, sockets[0].fileno())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
async def test_the_receiving_worker_becomes_the_user_it_is_told(worker: Servers, sockets: Sockets) -> None:
    near, far = sockets
    received = asyncio.Event()
    receiver = await start_receive(worker(), RECEIVE, far.fileno(), lambda _: received.set(), user="nobody")
    near.sendall(stream(MB)[: HEAD + 600])
    async with asyncio.TaskGroup() as group:
        outcome = group.create_task(outcome_or_error(receiver))
        async with asyncio.timeout(30):
            await received.wait()
        nobody = pwd.getpwnam("nobody")
        with open(f"/proc/{receiver.pid}/status") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        assert status["Uid"].split() == [str(nobody.pw_uid)] * 4
        assert status["Gid"].split() == [str(nobody.pw_gid)] * 4
        assert status["Groups"].strip() == ""
        assert int(status["CapEff"], 16) == 0
        near.close()
    assert isinstance(outcome.result(), Interrupted)


async def test_an_unknown_user_is_a_bad_job(worker: Servers, sockets: Sockets) -> None:
    receiver = await start_receive(worker(), RECEIVE, sockets[1].fileno(), user="no-such-user")
    with pytest.raises(BadJob, match="no-such-user"):
        await in_time(receiver.outcome())


async def test_a_name_that_zfs_would_not_take_is_a_bad_job(worker: Servers, sockets: Sockets) -> None:
    job = replace(RECEIVE, steps=(ReceiveStep("no snapshot", 2, 1),))
    receiver = await start_receive(worker(), job, sockets[1].fileno())
    with pytest.raises(BadJob):
        await in_time(receiver.outcome())


class Immortal:
    """A process stuck in the kernel: signals are lost on it, it never ends."""

    pid = 4242
    returncode = None

    def __init__(self, *said: bytes) -> None:
        self.stdout = asyncio.StreamReader()
        for line in said:
            self.stdout.feed_data(line)
        self.signals: list[str] = []

    def terminate(self) -> None:
        self.signals.append("TERM")

    def kill(self) -> None:
        self.signals.append("KILL")

    async def wait(self) -> int:
        return await asyncio.get_running_loop().create_future()


async def test_a_worker_that_hangs_in_the_kernel_is_given_up() -> None:
    stuck = Immortal(b'{"bytes": 5}\n')
    transfer = Transfer(stuck, receive_outcome)
    async with asyncio.TaskGroup() as group:
        outcome = group.create_task(outcome_or_error(transfer))
        await asyncio.sleep(0)
        await transfer.cancel(grace=0.01, give_up=0.01)
    assert isinstance(outcome.result(), WorkerHangs)
    assert "hangs in the kernel" in outcome.result().text
    assert stuck.signals[:2] == ["TERM", "KILL"]
    assert transfer.alive
    assert transfer.bytes == 5


async def test_giving_up_before_anyone_waits_for_the_outcome_counts_too() -> None:
    transfer = Transfer(Immortal(), receive_outcome)
    await transfer.cancel(grace=0.01, give_up=0.01)
    assert isinstance(await outcome_or_error(transfer), WorkerHangs)


@pytest.mark.parametrize(
    "noise", [b"hello\n", b"[]\n", b'{"bytes": "x"}\n', b'{"outcome": {"nonsense": 1}}\n', b"\n"]
)
async def test_lines_that_make_no_sense_are_passed_over(noise: bytes) -> None:
    class Ended(Immortal):
        returncode = 0

        async def wait(self) -> int:
            return 0

    ended = Ended(noise, b'{"outcome": {"bytes": 7}}\n')
    ended.stdout.feed_eof()
    assert (await Transfer(ended, send_outcome).outcome()).bytes == 7


@pytest.mark.parametrize("fields", [{}, {"bytes": True}, {"bytes": 1, "code": 5}, {"bytes": 1, "more": 1}])
def test_an_outcome_is_checked(fields: Mapping[str, object]) -> None:
    with pytest.raises(BadJob):
        receive_outcome(fields)
