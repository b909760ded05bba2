"""The fork server and its agent's side: real processes over tiny streams."""

import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from node.transfers import Workers
from replication import fork_server
from replication.errors import Interrupted, PeerGone, TransferFailed, WorkerDied
from replication.fork_server import UNKNOWN_CODE, ForkServer, WorkerCommand
from replication.jobs import Outcome, ReceiveJob, ReceiveOutcome, ReceiveStep, SendJob, SendOutcome, SendStep
from replication.transfer import Transfer, start_receive, start_send
from tests.unit.replication.tiny_streams import begin, length, stream

SEND = SendJob((SendStep("tank/home@b", "tank/home@a"),), raw=True)
RECEIVE = ReceiveJob((ReceiveStep("vault/home@b", to_guid=2, from_guid=1),), raw=True, resuming=False)
HEAD = len(begin())
MB = 1 << 20
ENDLESS = {"TINY_SIZE": "-1"}

T = TypeVar("T")
Out = TypeVar("Out", bound=Outcome)
Make = Callable[..., ForkServer]


def command(**environment: str) -> WorkerCommand:
    """Any warning is an error: forking beside other threads would be one."""
    words = [sys.executable, "-W", "error", "-m", "tests.unit.replication.tiny_worker"]
    return WorkerCommand(words, {**os.environ, **environment})


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Fork servers of the tiny worker."""
    made: list[ForkServer] = []

    def one(**environment: str) -> ForkServer:
        made.append(ForkServer(command(**environment)))
        return made[-1]

    yield one
    for server in made:
        await server.close()


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


async def in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(30):
        return await work


async def outcome_or_error(transfer: Transfer[Out]) -> Out | TransferFailed:
    try:
        return await in_time(transfer.outcome())
    except TransferFailed as error:
        return error


async def one_transfer(server: ForkServer) -> tuple[SendOutcome, ReceiveOutcome]:
    with pair() as (near, far):
        sender = await start_send(server, SEND, near.fileno())
        receiver = await start_receive(server, RECEIVE, far.fileno())
    return await in_time(sender.outcome()), await in_time(receiver.outcome())


async def read(sock: socket.socket, size: int = HEAD) -> bytes:
    sock.settimeout(30)
    data = b""
    while len(data) < size and (piece := await asyncio.to_thread(sock.recv, size - len(data))):
        data += piece
    return data


async def read_to_end(sock: socket.socket) -> None:
    sock.settimeout(30)
    while await asyncio.to_thread(sock.recv, MB):
        pass


def descriptors(pid: int | str) -> list[str]:
    folder = Path(f"/proc/{pid}/fd")
    return sorted(os.readlink(one) for one in folder.iterdir() if one.is_symlink())


def count(pid: int | str) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def kill_server(server: ForkServer) -> None:
    """And see it gone, so that what follows meets a server that is known to be dead."""
    assert server.pid is not None
    gone = os.pidfd_open(server.pid)
    kill(server.pid)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(gone, ended.set)
    await in_time(ended.wait())
    asyncio.get_running_loop().remove_reader(gone)
    os.close(gone)


class TestOneServer:
    async def test_twenty_transfers_and_no_descriptor_is_left_on_either_side(self, make: Make) -> None:
        server = make(TINY_SIZE=str(MB))
        await one_transfer(server)
        first, here, there = server.pid, count("self"), count(server.pid or 0)
        for _ in range(20):
            sent, got = await one_transfer(server)
            assert sent.bytes == got.bytes == length(MB)
        assert server.pid == first
        assert count("self") == here
        assert count(first or 0) == there

    async def test_each_transfer_has_a_process_of_its_own_below_the_server(self, make: Make) -> None:
        server = make(**ENDLESS)
        with pair() as (near, far), pair() as (left, right):
            one = await start_send(server, SEND, near.fileno())
            other = await start_send(server, SEND, left.fileno())
            await read(far)
            await read(right)
            children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
            assert sorted(map(int, children)) == sorted({one.pid, other.pid})
            await one.cancel()
            await read(right, 8 * MB)
            await other.cancel()
            await outcome_or_error(one)
            await outcome_or_error(other)

    async def test_two_at_once_do_not_hold_each_others_ends(self, make: Make) -> None:
        """The second child is forked while the first runs; the end of the first must still be seen at once."""
        server = make(**ENDLESS)
        with pair() as (near, far), pair() as (left, right):
            one = await start_send(server, SEND, near.fileno())
            await read(far)
            other = await start_send(server, SEND, left.fileno())
            await read(right)
            near.close()
            kill(one.pid)
            # Both only end when no process has the other end any more.
            assert isinstance(await outcome_or_error(one), WorkerDied)
            await in_time(read_to_end(far))
            assert other.alive
            await other.cancel()
            await outcome_or_error(other)

    async def test_a_child_has_its_four_descriptors_and_what_it_opened_itself(self, make: Make) -> None:
        server = make()
        with pair() as (near, far), pair() as (left, right):
            one = await start_receive(server, RECEIVE, near.fileno())
            other = await start_receive(server, RECEIVE, left.fileno())
            far.sendall(begin()[:10])
            # What is read of the second is read after the first was forked.
            right.sendall(stream(1))
            right.shutdown(socket.SHUT_WR)
            await in_time(other.outcome())
            held = descriptors(one.pid)
            ours = f"socket:[{os.fstat(near.fileno()).st_ino}]"
            assert [entry for entry in held if entry.startswith("socket:")] == [ours]
            pipes = [entry for entry in held if entry.startswith("pipe:")]
            assert len(set(pipes)) == 3, "job, report, and its own for signals"
            assert len([entry for entry in held if "deleted" in entry]) == 1
            far.close()
            await outcome_or_error(one)

    async def test_many_asked_at_once(self, make: Make) -> None:
        server = make(TINY_SIZE=str(MB))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one_transfer(server)) for _ in range(8)]
        assert {task.result()[1].bytes for task in tasks} == {length(MB)}

    async def test_the_server_has_one_thread(self, make: Make) -> None:
        server = make(TINY_SIZE="10")
        await one_transfer(server)
        assert len(os.listdir(f"/proc/{server.pid}/task")) == 1


class TestAChildIsKilled:
    async def test_that_transfer_failed_and_the_server_lives_on(self, make: Make) -> None:
        server = make(**ENDLESS)
        with pair() as (near, far):
            sender = await start_send(server, SEND, near.fileno())
            await read(far)
            kill(sender.pid)
            with pytest.raises(WorkerDied, match="-9"):
                await in_time(sender.outcome())
            assert not sender.alive
        before = server.pid
        with pair() as (near, far):
            sender = await start_send(server, SEND, near.fileno())
            await read(far)
            assert server.pid == before
            await sender.cancel()
            await outcome_or_error(sender)

    async def test_no_zombie_is_left(self, make: Make) -> None:
        server = make(TINY_SIZE="10")
        await one_transfer(server)
        assert Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text() == ""

    async def test_one_that_has_ended_cannot_be_signalled(self, make: Make) -> None:
        server = make(TINY_CRASH="1")
        with pair() as (near, _):
            child = await server.spawn("send", near.fileno(), {}, 2)
            await in_time(child.wait())
            with pytest.raises(ProcessLookupError):
                child.kill()


class TestTheServerIsKilled:
    async def test_in_the_middle_the_stream_goes_on_and_the_next_has_a_new_server(self, make: Make) -> None:
        server = make(**ENDLESS)
        with pair() as (near, far):
            sender = await start_send(server, SEND, near.fileno())
            await read(far)
            first = server.pid
            await kill_server(server)
            await read(far, 8 * MB)
            assert sender.alive
            with pair() as (left, right):
                other = await start_send(server, SEND, left.fileno())
                await read(right)
                assert server.pid not in (None, first)
                await other.cancel()
                await outcome_or_error(other)
            near.close()
            far.close()
            assert isinstance(await outcome_or_error(sender), PeerGone)
            assert not sender.alive

    async def test_a_child_left_behind_can_still_be_ended(self, make: Make) -> None:
        server = make(**ENDLESS)
        with pair() as (near, far):
            sender = await start_send(server, SEND, near.fileno())
            await read(far)
            await kill_server(server)
            kill(sender.pid)
            with pytest.raises(WorkerDied, match=str(UNKNOWN_CODE)):
                await in_time(sender.outcome())

    async def test_before_it_answers_it_is_started_again(self, make: Make) -> None:
        server = make(TINY_SIZE="10")
        await server.start()
        first = server.pid
        kill(first)  # not seen to be dead when it is asked
        sent, _ = await one_transfer(server)
        assert sent.bytes == length(10)
        assert server.pid != first

    async def test_seen_to_be_gone_just_before_it_is_asked_it_is_started_again(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = make(TINY_SIZE="10")
        await server.start()
        first = server.pid
        opened = fork_server._reading

        async def meanwhile(fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
            if server.pid == first:
                kill(first)
            while server.pid == first:
                await asyncio.sleep(0)
            return await opened(fd)

        monkeypatch.setattr(fork_server, "_reading", meanwhile)
        sent, _ = await in_time(one_transfer(server))
        assert sent.bytes == length(10)

    async def test_again_and_again_no_descriptor_is_left(self, make: Make) -> None:
        server = make(TINY_SIZE="10")
        await one_transfer(server)
        here = count("self")
        for _ in range(3):
            await kill_server(server)
            await one_transfer(server)
        assert count("self") == here

    async def test_one_that_dies_every_time_fails_the_transfer_with_its_last_words(self, make: Make) -> None:
        server = make(TINY_THREAD="1")
        here = count("self")
        with pair() as (near, _), pytest.raises(WorkerDied, match="cannot fork safely: 2 threads"):
            await start_send(server, SEND, near.fileno())
        await asyncio.sleep(0)  # a pipe of asyncio is closed one turn after it is told
        assert count("self") == here


class TestTheFactoryOfTheAgent:
    async def test_what_was_prepared_is_used_and_closed(self, caplog: pytest.LogCaptureFixture) -> None:
        workers = Workers(command(TINY_SIZE="10"))
        await workers.prepare()
        pid = workers._server.pid
        with pair() as (near, far):
            sender = await workers.send(near, steps=[SendStep("tank/home@b", None)], raw=True)
            assert workers._server.pid == pid
            assert len(await read(far, length(10))) == length(10)
            assert (await in_time(sender.outcome())).bytes == length(10)
        await workers.close()
        assert not Path(f"/proc/{pid}").exists()
        assert not caplog.records

    async def test_that_it_cannot_be_prepared_is_said_and_no_more(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        workers = Workers(WorkerCommand(["/nowhere/python"]))
        await workers.prepare()
        assert "could not be started" in caplog.text


class TestTheEnd:
    async def test_closing_ends_the_server_and_leaves_nothing_open(self, make: Make) -> None:
        here = count("self")
        server = make(TINY_SIZE="10")
        await one_transfer(server)
        pid = server.pid
        await server.close()
        assert not Path(f"/proc/{pid}").exists()
        assert server.pid is None
        assert count("self") == here

    async def test_without_descriptors_the_transfer_fails_and_nothing_else(self, make: Make) -> None:
        server = make(TINY_SIZE="10")
        await one_transfer(server)
        here = count("self")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with pair() as (near, _):
            for spare in range(8):
                top = max(map(int, os.listdir("/proc/self/fd")))
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(top + spare, soft), hard))
                try:
                    with contextlib.suppress(WorkerDied, OSError):
                        await outcome_or_error(await start_send(server, SEND, near.fileno()))
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.sleep(0)
        assert count("self") == here
        await one_transfer(server)

    async def test_closing_one_that_never_started(self, make: Make) -> None:
        await make().close()

    async def test_without_the_agent_it_ends_and_its_child_goes_on_to_the_end_of_its_socket(
        self, make: Make
    ) -> None:
        server = make()
        with pair() as (near, far):
            receiver = await start_receive(server, RECEIVE, near.fileno())
            far.sendall(stream(MB)[: HEAD + 600])
            assert server._server is not None
            process = server._server.process
            server._server._sock.shutdown(socket.SHUT_RDWR)  # as when the agent is killed
            assert await in_time(process.wait()) == 0
            assert receiver.alive
            near.close()
            far.close()
            assert isinstance(await outcome_or_error(receiver), Interrupted)

    async def test_a_caller_that_gives_up_asking_leaves_no_child(self, make: Make) -> None:
        server = make(**ENDLESS)
        with pair() as (near, far):
            async with asyncio.TaskGroup() as group:
                asking = group.create_task(start_send(server, SEND, near.fileno()))
                while server.pid is None:
                    await asyncio.sleep(0)
                asking.cancel()
            near.close()
            # The child, if there was one, found no job: the socket ends without a byte of a stream.
            assert await in_time(read(far, 1)) == b""
