"""Moving bytes in the kernel: counting, pacing, cancelling, and saying so where it cannot be done."""

import os
import socket
import tempfile
from collections.abc import Iterator
from threading import Timer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import Cancelled, PeerGone, Unsupported
from replication.pace import TokenBucket
from replication.silence import check_answering, keepalive, seconds_since_ack
from replication.splice import Mover, prepare, wide_pipe


class Clock:
    """Every look at it is a second later."""

    def __init__(self, step: float = 1.0) -> None:
        self.now = 0.0
        self.step = step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def pipes() -> Iterator[tuple[int, socket.socket, socket.socket, int]]:
    """(read end, socket, its other end, write end)."""
    reader, writer = wide_pipe()
    near, far = socket.socketpair()
    with near, far:
        yield reader, near, far, writer
    for fd in (reader, writer):
        try:
            os.close(fd)
        except OSError:
            continue


def test_all_that_was_written_arrives(pipes: tuple[int, socket.socket, socket.socket, int]) -> None:
    reader, near, far, writer = pipes
    os.write(writer, b"x" * 50_000)
    os.close(writer)
    told: list[int] = []
    mover = Mover(progress=told.append)
    assert mover.move(reader, near.fileno()) == 50_000
    assert mover.moved == 50_000
    assert told[-1] == 50_000
    assert len(far.recv(100_000)) == 50_000


def test_progress_comes_at_most_every_half_second(
    pipes: tuple[int, socket.socket, socket.socket, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("replication.splice.CHUNK", 1000)
    reader, near, _, writer = pipes
    os.write(writer, b"x" * 100_000)
    os.close(writer)
    told: list[int] = []
    Mover(progress=told.append, clock=Clock(0.01)).move(reader, near.fileno())
    assert told == [1000, 51_000, 100_000]


def test_cancelled_before_anything_moves(pipes: tuple[int, socket.socket, socket.socket, int]) -> None:
    reader, near, _, writer = pipes
    os.write(writer, b"x")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"!")
        with pytest.raises(Cancelled):
            Mover(cancel_fd=ours.fileno()).move(reader, near.fileno())


def test_cancelled_while_waiting_for_the_bandwidth(
    pipes: tuple[int, socket.socket, socket.socket, int],
) -> None:
    reader, near, far, writer = pipes
    os.write(writer, b"x" * 200_000)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        mover = Mover(limit=1, cancel_fd=ours.fileno(), clock=lambda: 0.0, progress=lambda _: theirs.close())
        with pytest.raises(Cancelled):
            mover.move(reader, near.fileno())
        assert mover.moved == 65536
    assert far


def test_nobody_reads_any_more_while_there_is_nothing_to_move(
    pipes: tuple[int, socket.socket, socket.socket, int],
) -> None:
    reader, near, far, _ = pipes
    far.close()
    with pytest.raises(BrokenPipeError):
        Mover().move(reader, near.fileno())


def test_two_files_cannot_be_spliced_and_nothing_else_is_tried() -> None:
    with tempfile.TemporaryFile() as one, tempfile.TemporaryFile() as other:
        one.write(b"x")
        one.flush()
        one.seek(0)
        with pytest.raises(Unsupported):
            Mover().move(one.fileno(), other.fileno())


class TestTokenBucket:
    def test_it_begins_full_and_then_waits(self) -> None:
        bucket = TokenBucket(1 << 20, 0.0)
        assert bucket.allowance(0.0) == 1 << 18
        bucket.spend(1 << 18)
        assert bucket.allowance(0.0) == 0
        assert bucket.delay() == pytest.approx(1 / 16)
        assert bucket.allowance(1 / 16) == 65536

    def test_a_clock_that_stands_still_gives_nothing(self) -> None:
        bucket = TokenBucket(1000, 5.0)
        bucket.spend(bucket.allowance(5.0))
        assert bucket.allowance(5.0) == 0

    @pytest.mark.parametrize("rate", [0, -1])
    def test_no_limit_is_not_a_limit_of_zero(self, rate: int) -> None:
        with pytest.raises(ValueError, match="positive"):
            TokenBucket(rate, 0.0)

    @given(
        rate=st.integers(1, 1 << 34),
        steps=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=60),
    )
    def test_over_any_time_no_more_than_the_rate_and_one_bucket(
        self, rate: int, steps: list[tuple[float, float]]
    ) -> None:
        bucket = TokenBucket(rate, 0.0)
        now, spent = 0.0, 0
        for pause, share in steps:
            now += pause
            count = int(bucket.allowance(now) * share)
            bucket.spend(count)
            spent += count
            assert spent <= rate * now + max(65536, rate * 0.25) + 1

    @given(rate=st.integers(1, 1 << 34))
    def test_after_the_delay_something_may_go(self, rate: int) -> None:
        bucket = TokenBucket(rate, 0.0)
        bucket.spend(bucket.allowance(0.0))
        later = bucket.delay() * 1.0001 + 1e-6
        assert bucket.allowance(later) >= 65535


class TestSilence:
    def test_a_living_peer_is_not_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            far, _ = server.accept()
        with near, far:
            keepalive(near)
            assert near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            near.sendall(b"x")
            check_answering(near)
            assert 0 <= seconds_since_ack(near) < 60

    def test_a_minute_without_an_answer_is_enough(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("replication.silence.seconds_since_ack", lambda _: 61.0)
        with socket.socket() as sock, pytest.raises(PeerGone):
            check_answering(sock)

    def test_what_is_not_tcp_is_left_alone(self) -> None:
        near, far = socket.socketpair()
        with near, far:
            keepalive(near)
            check_answering(near)


def test_a_little_is_read_too_though_no_more_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    with near, far:
        prepare(far.fileno())
        Timer(0.05, near.sendall, (b"a little",)).start()
        buffer = memoryview(bytearray(100))
        mover = Mover()
        assert mover.read(far, buffer) == 8
        assert bytes(buffer[:8]) == b"a little"
        assert mover.moved == 8
        near.close()
        assert mover.read(far, buffer) == 0
