"""Sender and receiver over real sockets and pipes."""

import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from replication.jobs import ReceiveJob, ReceiveOutcome, ReceiveStep, SendJob, SendOutcome, SendStep
from replication.receiver import receive_stream
from replication.sender import send_stream
from tests.unit.replication.tiny_streams import (
    WRAP,
    TinyReceiver,
    TinySender,
    begin,
    fingerprint,
    length,
    stream,
)
from zfs.errors import NoSpace, PoolUnavailable, StreamMismatch, ZfsError
from zfs.stream import HEADER_SIZE, Feature

SEND = SendJob((SendStep("tank/home@b", "tank/home@a"),), raw=True)
RECEIVE = ReceiveJob((ReceiveStep("vault/home@b", to_guid=2, from_guid=1),), raw=True, resuming=False)
MB = 1 << 20
Sockets = tuple[socket.socket, socket.socket]


def ignore(_: int) -> None:
    pass


@contextmanager
def tcp() -> Iterator[Sockets]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        yield near, far


@contextmanager
def unix() -> Iterator[Sockets]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.fixture(params=[tcp, unix], ids=["tcp", "unix"])
def sockets(request: pytest.FixtureRequest) -> Iterator[Sockets]:
    with request.param() as pair:
        yield pair


class Side(threading.Thread):
    """One end of a transfer in a thread; `outcome` waits for it."""

    def __init__(self, work: Callable[[], SendOutcome | ReceiveOutcome]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self._result: SendOutcome | ReceiveOutcome | BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._work()
        except BaseException as error:  # noqa: BLE001 (raised again by `outcome`)
            self._result = error

    def outcome(self) -> SendOutcome | ReceiveOutcome:
        self.join(30)
        assert not self.is_alive(), "it hangs"
        if isinstance(self._result, BaseException):
            raise self._result
        assert self._result is not None
        return self._result


def sending(streams: TinySender, sock: socket.socket, cancel_fd: int | None = None) -> Side:
    return Side(lambda: send_stream(streams, SEND, sock, ignore, cancel_fd))


def receive(
    streams: TinyReceiver, sock: socket.socket, job: ReceiveJob = RECEIVE, cancel_fd: int | None = None
) -> ReceiveOutcome:
    return receive_stream(streams, job, sock, ignore, cancel_fd)


def feed(sock: socket.socket, data: bytes) -> None:
    sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


class TestAWholeStream:
    def test_64_mb_arrive_and_both_sides_count_the_same(self, sockets: Sockets) -> None:
        near, far = sockets
        sender, receiver, told = TinySender(begin(), 64 * MB), TinyReceiver(), list[int]()
        side = sending(sender, near)
        got = receive_stream(receiver, RECEIVE, far, told.append)
        sent = side.outcome()
        assert receiver.received == ["vault/home@b"]
        assert receiver.bytes == 64 * MB
        assert (sent.bytes, sent.steps, sent.code) == (got.bytes, 1, "")
        assert sent.begin == got.begin != ""
        assert got.bytes == length(64 * MB)
        assert told == sorted(told)
        assert told[-1] == got.bytes

    def test_zfs_is_asked_for_exactly_the_job(self, sockets: Sockets) -> None:
        near, far = sockets
        sender = TinySender(begin(), 0)
        job = SendJob((SendStep("tank/home@b", "tank/home#a"),), raw=True, object=7, offset=4096)
        side = Side(lambda: send_stream(sender, job, near, ignore))
        receive(TinyReceiver(), far)
        side.outcome()
        assert sender.asked == [("tank/home@b", "tank/home#a", True, (7, 4096))]

    def test_the_payload_and_its_fingerprint_come_back_for_the_archive(self, sockets: Sockets) -> None:
        near, far = sockets
        side = sending(TinySender(begin(), 10), near)
        got = receive(TinyReceiver(), far)
        side.outcome()
        assert got.key_fingerprint == fingerprint(begin())
        assert got.begin

    def test_the_socket_stays_open_for_a_last_word(self, sockets: Sockets) -> None:
        near, far = sockets
        side = sending(TinySender(begin(), 10), near)
        assert not receive(TinyReceiver(), far).code
        side.outcome()
        far.sendall(b"thanks")
        near.setblocking(True)
        assert near.recv(100) == b"thanks"

    def test_a_stream_that_was_announced_as_resuming(self, sockets: Sockets) -> None:
        near, far = sockets
        side = sending(TinySender(begin(resume=(7, 4096)), 10), near)
        assert not receive(TinyReceiver(), far, replace(RECEIVE, resuming=True)).code
        side.outcome()

    def test_no_descriptor_is_left_behind(self, sockets: Sockets) -> None:
        near, far = sockets
        before = len(os.listdir("/proc/self/fd"))
        side = sending(TinySender(begin(), MB), near)
        receive(TinyReceiver(), far)
        side.outcome()
        assert len(os.listdir("/proc/self/fd")) == before


class TestTheSendingSideFails:
    def test_a_sender_that_dies_is_an_interruption(self, sockets: Sockets) -> None:
        near, far = sockets
        near.sendall(stream(MB)[: len(begin()) + HEADER_SIZE + 256])
        near.close()
        receiver = TinyReceiver()
        got = receive(receiver, far)
        assert got.code == "interrupted"
        assert got.key_fingerprint == fingerprint(begin())
        assert not receiver.received
        assert receiver.bytes == 256

    @pytest.mark.parametrize("length", [0, 1, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 1])
    def test_cut_inside_the_begin_record_zfs_is_not_even_called(self, sockets: Sockets, length: int) -> None:
        near, far = sockets
        feed(near, begin()[:length])
        receiver = TinyReceiver()
        assert receive(receiver, far).code == "interrupted"
        assert not receiver.called

    def test_an_error_of_zfs_is_named_and_the_other_side_sees_an_interruption(self, sockets: Sockets) -> None:
        near, far = sockets
        error = PoolUnavailable("tank", "the pool is suspended")
        side = sending(TinySender(begin(), 8 * MB, fails_at=2 * MB, error=error), near)
        assert receive(TinyReceiver(), far).code == "interrupted"
        sent = side.outcome()
        assert sent.code == "pool_unavailable"
        assert "suspended" in sent.text

    def test_what_is_no_error_of_zfs_is_not_hidden(self, sockets: Sockets) -> None:
        near, far = sockets
        side = sending(TinySender(begin(), 8 * MB, fails_at=0, error=ValueError("a bug")), near)
        receive(TinyReceiver(), far)
        with pytest.raises(ValueError, match="a bug"):
            side.outcome()

    def test_cancelled_in_the_middle_of_an_endless_stream(self, sockets: Sockets) -> None:
        near, far = sockets
        reader, writer = os.pipe()
        sender = TinySender(begin(), 1 << 60, endless=True)
        side = sending(sender, near, reader)
        far.recv(1000)
        os.write(writer, b"!")
        assert side.outcome().code == "cancelled"
        assert sender.ended.wait(10)
        os.close(reader)
        os.close(writer)


class TestTheReceivingSideFails:
    def test_a_receiver_that_dies_ends_zfs_send_too(self, sockets: Sockets) -> None:
        near, far = sockets
        sender = TinySender(begin(), 1 << 60, endless=True)
        side = sending(sender, near)
        far.recv(1000)
        far.close()
        assert side.outcome().code == "peer_gone"
        assert sender.ended.wait(10)

    @pytest.mark.parametrize(
        ("error", "code"), [(NoSpace("vault"), "target_full"), (StreamMismatch("vault/home"), "diverged")]
    )
    def test_an_error_of_zfs_is_named(self, sockets: Sockets, error: ZfsError, code: str) -> None:
        near, far = sockets
        side = sending(TinySender(begin(), 1 << 60, endless=True), near)
        got = receive(TinyReceiver(fails_at=MB, error=error), far)
        assert got.code == code
        far.close()
        assert side.outcome().code == "peer_gone"

    def test_zfs_failing_at_once_does_not_wait_for_a_silent_sender(self, sockets: Sockets) -> None:
        near, far = sockets
        near.sendall(stream(100)[:-400])
        got = receive(TinyReceiver(fails_at=0, error=NoSpace("vault")), far)
        assert got.code == "target_full"

    def test_a_sender_that_does_not_end_its_stream_holds_nothing_up(self, sockets: Sockets) -> None:
        near, far = sockets
        near.sendall(stream(4))
        assert not receive(TinyReceiver(), far).code

    @pytest.mark.parametrize("sent", [b"", stream(100)[:-HEADER_SIZE]], ids=["before", "within"])
    def test_cancelled(self, sockets: Sockets, sent: bytes) -> None:
        near, far = sockets
        near.sendall(sent)
        reader, writer = os.pipe()
        os.write(writer, b"!")
        assert receive(TinyReceiver(), far, cancel_fd=reader).code == "cancelled"
        os.close(reader)
        os.close(writer)


REFUSED = {
    "another snapshot": begin(to_guid=3),
    "another base": begin(from_guid=3),
    "full where an increment was announced": begin(from_guid=None),
    "not raw": begin(features=Feature.COMPRESSED, wrap=None),
    "raw without key material": begin(wrap=None),
    "a package": begin(header_type=2),
    "redacted": begin(features=Feature.RAW | Feature.REDACTED),
    "deduplicated": begin(features=Feature.RAW | Feature.DEDUP),
    "a clone": begin(flags=1),
    "features of the future": begin(features=Feature.RAW | Feature(1 << 40)),
    "resuming": begin(resume=(1, 2)),
    "resuming by the flag only": begin(features=Feature.RAW | Feature.RESUMING),
    "no stream": b"x" * 2000,
    "a payload that lies": begin()[:-8] + b"\xff" * 8,
}


class TestRefusedBeforeZfsSeesAByte:
    @pytest.mark.parametrize("start", REFUSED.values(), ids=REFUSED.keys())
    def test_what_was_not_announced(self, start: bytes) -> None:
        with unix() as (near, far):
            feed(near, stream(4, start))
            receiver = TinyReceiver()
            got = receive(receiver, far)
            assert got.code == "stream_refused"
            assert got.text
            assert not receiver.called

    def test_a_payload_too_large_is_not_read(self) -> None:
        huge = bytearray(begin()[:HEADER_SIZE])
        huge[4:8] = struct.pack("<I", 1 << 31)
        with unix() as (near, far):
            near.sendall(bytes(huge))
            assert receive(TinyReceiver(), far).code == "stream_refused"

    def test_another_wrapped_key_than_the_pinned_one(self) -> None:
        pinned = replace(RECEIVE, key_fingerprint=fingerprint(begin()))
        offered = begin(wrap=b"X" + WRAP[1:])
        with unix() as (near, far):
            feed(near, stream(4, offered))
            receiver = TinyReceiver()
            got = receive(receiver, far, pinned)
            assert got.code == "key_changed"
            assert got.key_fingerprint == fingerprint(offered)
            assert got.begin
            assert not receiver.called

    def test_the_pinned_key_passes(self) -> None:
        pinned = replace(RECEIVE, key_fingerprint=fingerprint(begin()))
        with unix() as (near, far):
            feed(near, stream(4))
            assert not receive(TinyReceiver(), far, pinned).code

    def test_a_refused_endless_sender_is_let_go_when_the_socket_closes(self, sockets: Sockets) -> None:
        near, far = sockets
        sender = TinySender(begin(to_guid=3), 1 << 60, endless=True)
        side = sending(sender, near)
        assert receive(TinyReceiver(), far).code == "stream_refused"
        far.close()
        assert side.outcome().code == "peer_gone"
        assert sender.ended.wait(10)
