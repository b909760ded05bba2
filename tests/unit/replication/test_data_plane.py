"""Sender and receiver over real sockets and pipes."""

import base64
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from replication.jobs import Received, ReceiveJob, ReceiveOutcome, ReceiveStep, SendJob, SendOutcome, SendStep
from replication.receiver import receive_stream
from replication.sender import send_stream
from tests.fakes import records
from tests.unit.replication.tiny_streams import (
    CHUNK,
    WRAP,
    TinyReceiver,
    TinySender,
    begin,
    described,
    fingerprint,
    length,
    stream,
)
from zfs.errors import BadStream, NoSpace, NotFound, PoolUnavailable, StreamMismatch, ZfsError
from zfs.stream import HEADER_SIZE, Feature, read_begin

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
        near.sendall(stream(MB)[: len(described(begin())) + HEADER_SIZE + 256])
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


STEPS = 5
CHAIN = tuple(begin(number + 2, number + 1) for number in range(STEPS))
SENDS = SendJob(tuple(SendStep(f"tank/home@{n + 2}", f"tank/home@{n + 1}") for n in range(STEPS)), raw=True)
RECEIVES = ReceiveJob(
    tuple(ReceiveStep(f"vault/home@{n + 2}", n + 2, n + 1) for n in range(STEPS)), raw=True, resuming=False
)
NAMES = [step.snapshot for step in RECEIVES.steps]


def chain(*starts: bytes, size: int = 1000) -> bytes:
    """Whole streams, one behind the other; those of CHAIN by themselves."""
    return b"".join(stream(size, start, read_begin(start[:HEADER_SIZE]).to_guid) for start in starts or CHAIN)


class TestManySteps:
    """`RECEIVES` are five increments, one upon the other, over one connection."""

    def receive(
        self, streams: TinyReceiver, sock: socket.socket, job: ReceiveJob = RECEIVES
    ) -> tuple[ReceiveOutcome, list[Received]]:
        told: list[Received] = []
        return receive_stream(streams, job, sock, ignore, None, told.append), told

    @pytest.mark.parametrize("size", [0, 1000, 3 * MB])
    def test_all_arrive_and_each_is_reported(self, sockets: Sockets, size: int) -> None:
        near, far = sockets
        sender, receiver = TinySender(CHAIN[0], size, starts=list(CHAIN[1:])), TinyReceiver()
        side = Side(lambda: send_stream(sender, SENDS, near, ignore))
        got, told = self.receive(receiver, far)
        sent = side.outcome()
        assert (got.code, got.steps, sent.steps, sent.code) == ("", STEPS, STEPS, "")
        assert got.bytes == sent.bytes
        assert receiver.received == NAMES
        assert receiver.bytes == STEPS * size
        assert [one.number for one in told] == list(range(STEPS))
        assert [one.key_fingerprint for one in told] == [fingerprint(one) for one in CHAIN]
        assert told[-1].begin == got.begin

    def test_many_more_than_pipes_are_kept_open(self, sockets: Sockets) -> None:
        near, far = sockets
        count = 300
        starts = [begin(n + 2, n + 1) for n in range(count)]
        sends = SendJob(tuple(SendStep(f"tank/home@{n}", None) for n in range(count)), raw=True)
        job = replace(
            RECEIVES, steps=tuple(ReceiveStep(f"vault/home@{n}", n + 2, n + 1) for n in range(count))
        )
        before = len(os.listdir("/proc/self/fd"))
        side = Side(lambda: send_stream(TinySender(starts[0], 10, starts=starts[1:]), sends, near, ignore))
        assert self.receive(TinyReceiver(), far, job)[0].steps == count
        side.outcome()
        assert len(os.listdir("/proc/self/fd")) == before

    def test_only_the_first_is_resumed(self, sockets: Sockets) -> None:
        near, far = sockets
        sender = TinySender(begin(resume=(7, 4096)), 10, starts=list(CHAIN[1:]))
        job = replace(SENDS, object=7, offset=4096)
        side = Side(lambda: send_stream(sender, job, near, ignore))
        got, _ = self.receive(TinyReceiver(), far, replace(RECEIVES, resuming=True))
        side.outcome()
        assert (got.code, got.steps) == ("", STEPS)
        assert [resume for *_, resume in sender.asked] == [(7, 4096), None, None, None, None]

    def test_cut_within_the_third_the_first_two_stay(self, sockets: Sockets) -> None:
        near, far = sockets
        whole = chain()
        feed(near, whole[: len(whole) // 2])
        receiver = TinyReceiver()
        got, told = self.receive(receiver, far)
        assert (got.code, got.steps, len(told)) == ("interrupted", 2, 2)
        assert receiver.received == NAMES[:2]
        assert got.begin == base64.b64encode(CHAIN[2][HEADER_SIZE:]).decode()

    @pytest.mark.parametrize("steps", [0, 1, 4])
    def test_cut_between_two_those_before_stay(self, sockets: Sockets, steps: int) -> None:
        near, far = sockets
        feed(near, chain(*CHAIN[:steps])) if steps else near.shutdown(socket.SHUT_WR)
        receiver = TinyReceiver()
        got, told = self.receive(receiver, far)
        assert (got.code, got.steps, len(told)) == ("interrupted", steps, steps)
        assert receiver.received == NAMES[:steps]

    @pytest.mark.parametrize("fails_at", [0, MB])
    def test_where_zfs_refuses_one_it_ends_and_says_why(self, sockets: Sockets, fails_at: int) -> None:
        near, far = sockets
        sender = TinySender(CHAIN[0], 3 * MB, starts=list(CHAIN[1:]))
        side = Side(lambda: send_stream(sender, SENDS, near, ignore))
        receiver = TinyReceiver(fails_at=fails_at, error=NoSpace("vault"), failing=NAMES[2])
        got, told = self.receive(receiver, far)
        far.close()
        assert (got.code, got.steps, len(told)) == ("target_full", 2, 2)
        assert receiver.received == NAMES[:2]
        # Unless all that was left fitted into the socket's buffers: then it cannot know.
        assert side.outcome().code in ("peer_gone", "")

    def test_a_failure_ends_it_though_the_sender_is_silent(self, sockets: Sockets) -> None:
        near, far = sockets
        near.sendall(chain(*CHAIN[:2]))
        receiver = TinyReceiver(fails_at=0, error=NoSpace("vault"), failing=NAMES[1])
        assert self.receive(receiver, far)[0].code == "target_full"

    def test_an_error_of_the_sending_zfs_ends_it_after_the_steps_before(self, sockets: Sockets) -> None:
        near, far = sockets

        class Gone(TinySender):
            def send(self, snapshot: str, *arguments: Any, **options: Any) -> None:
                if snapshot == SENDS.steps[3].snapshot:
                    raise NotFound(snapshot)
                super().send(snapshot, *arguments, **options)

        side = Side(lambda: send_stream(Gone(CHAIN[0], 10, starts=list(CHAIN[1:])), SENDS, near, ignore))
        got, _ = self.receive(TinyReceiver(), far)
        sent = side.outcome()
        assert (got.code, got.steps, sent.code, sent.steps) == ("interrupted", 3, "plan_stale", 3)

    @pytest.mark.parametrize("pinned", [None, fingerprint(CHAIN[0])], ids=["by the first", "before"])
    def test_a_key_that_changes_on_the_way_is_refused(self, sockets: Sockets, pinned: str | None) -> None:
        near, far = sockets
        other = begin(4, 3, wrap=b"X" + WRAP[1:])
        feed(near, chain(*CHAIN[:2], other, *CHAIN[3:]))
        receiver = TinyReceiver()
        got, told = self.receive(receiver, far, replace(RECEIVES, key_fingerprint=pinned))
        assert (got.code, got.steps, len(told)) == ("key_changed", 2, 2)
        assert got.key_fingerprint == fingerprint(other)
        assert receiver.received == NAMES[:2]

    def test_steps_in_another_order_are_refused(self, sockets: Sockets) -> None:
        near, far = sockets
        feed(near, chain(CHAIN[0], CHAIN[2], CHAIN[1]))
        receiver = TinyReceiver()
        got, _ = self.receive(receiver, far)
        assert (got.code, got.steps) == ("stream_refused", 1)
        assert receiver.received == NAMES[:1]

    @pytest.mark.parametrize("more", [b"x", CHAIN[0], bytes(MB)], ids=["a byte", "a stream", "much"])
    def test_what_comes_behind_the_last_is_refused(self, sockets: Sockets, more: bytes) -> None:
        near, far = sockets
        Side(lambda: feed(near, chain() + more) or SendOutcome(0))
        receiver = TinyReceiver()
        got, told = self.receive(receiver, far, replace(RECEIVES, steps=RECEIVES.steps[:4]))
        assert (got.code, got.steps, len(told)) == ("stream_refused", 4, 4)
        assert receiver.received == NAMES[:4]

    def test_cancelled_those_that_have_not_begun_do_not(self, sockets: Sockets) -> None:
        near, far = sockets
        cancelled, cancel = os.pipe()
        waits, goes_on = threading.Event(), threading.Event()

        class Slow(TinyReceiver):
            def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
                waits.set()
                assert goes_on.wait(20)
                super().receive(snapshot, fd, raw=raw)

        receiver = Slow()
        side = Side(lambda: receive_stream(receiver, RECEIVES, far, ignore, cancelled))
        near.sendall(chain(*CHAIN[:4]))
        assert waits.wait(20)
        os.write(cancel, b"!")
        threading.Timer(0.2, goes_on.set).start()
        got = side.outcome()
        assert got.code == "cancelled"
        assert receiver.received == NAMES[: len(receiver.received)]
        assert isinstance(got, ReceiveOutcome)
        assert got.steps == len(receiver.received)
        os.close(cancelled)
        os.close(cancel)


class TestARecordThatIsNotInOrder:
    def test_zfs_sees_what_came_before_it_and_nothing_of_it(self, sockets: Sockets) -> None:
        near, far = sockets
        data = described(begin()) + records.write(2, CHUNK[:512])
        good = len(data)
        data += records.write(3, CHUNK[:512]) + records.end(2)
        feed(near, data)
        seen = bytearray()

        class Watching(TinyReceiver):
            def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
                while piece := os.read(fd, 1 << 16):
                    seen.extend(piece)
                raise BadStream(snapshot, "incomplete stream")

        got = receive(Watching(), far)
        assert got.code == "stream_refused"
        assert "record 3 of the stream (WRITE" in got.text
        assert data.startswith(bytes(seen))
        assert len(seen) <= good

    def test_a_length_of_4_gib_is_not_waited_for(self, sockets: Sockets) -> None:
        near, far = sockets
        near.sendall(described(begin()) + records.write(2, b"", packed=4 << 30))
        assert receive(TinyReceiver(), far).code == "stream_refused"

    def test_large_payloads_pass_the_parser_by(self, sockets: Sockets) -> None:
        near, far = sockets
        start = begin(features=Feature.RAW | Feature.COMPRESSED | Feature.LZ4 | Feature.LARGE_BLOCKS)
        side = sending(TinySender(start, 40 * MB, block=8 * MB), near)
        receiver = TinyReceiver()
        got = receive(receiver, far)
        side.outcome()
        assert (got.code, receiver.bytes) == ("", 40 * MB)


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
