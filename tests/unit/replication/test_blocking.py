"""Waiting for a call that blocks: as long as it takes where that is right, and not for ever where it is not."""

import os
import select
import threading

import pytest

from replication.blocking import BlockingCall, Line
from zfs.errors import NoSpace, ZfsError


@pytest.fixture
def release() -> threading.Event:
    return threading.Event()


def blocked(release: threading.Event) -> tuple[BlockingCall, int]:
    reader, writer = os.pipe()

    def call() -> None:
        release.wait()

    return BlockingCall(call, writer), reader


def test_a_receive_that_writes_its_last_transaction_group_is_waited_for(release: threading.Event) -> None:
    call, reader = blocked(release)
    threading.Timer(0.01, release.set).start()
    assert call.finish() is None
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_one_that_hangs_when_its_stream_is_gone_is_given_up(release: threading.Event) -> None:
    call, reader = blocked(release)
    failed = call.finish(patience=0.01)
    assert failed is not None
    assert failed.code == "worker_hangs"
    release.set()
    assert call.finish() is None
    os.close(reader)


def test_waiting_can_be_cancelled(release: threading.Event) -> None:
    call, reader = blocked(release)
    cancelled, cancel = os.pipe()
    os.write(cancel, b"!")
    failed = call.finish(cancel_fd=cancelled)
    assert failed is not None
    assert failed.code == "cancelled"
    release.set()
    assert call.finish() is None
    for fd in (reader, cancelled, cancel):
        os.close(fd)


@pytest.mark.parametrize(
    ("error", "code"),
    [(NoSpace("tank"), "target_full"), (ZfsError("tank", "?"), "zfs_failed"), (OSError("?"), "zfs_failed")],
)
def test_what_went_wrong_is_named_by_cause(error: Exception, code: str) -> None:
    reader, writer = os.pipe()

    def call() -> None:
        raise error

    failed = BlockingCall(call, writer).finish()
    assert failed is not None
    assert failed.code == code
    os.close(reader)


class Readers:
    """What a `Line` calls: each call waits to be released, and notes what it could read from its pipe."""

    def __init__(self, fails: int | None = None) -> None:
        self.began = threading.Semaphore(0)
        self.release = threading.Semaphore(0)
        self.read: list[tuple[int, bytes]] = []
        self._fails = fails

    def __call__(self, number: int, fd: int) -> None:
        self.began.release()
        assert self.release.acquire(timeout=20)
        if number == self._fails:
            raise NoSpace("tank")
        self.read.append((number, os.read(fd, 100)))


def filled(text: bytes) -> int:
    """The read end of a pipe with *text* in it."""
    reader, writer = os.pipe()
    os.write(writer, text)
    os.close(writer)
    return reader


class TestLine:
    def test_one_after_the_other_each_with_its_own(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        readers = Readers()
        line = Line(readers)
        for text in (b"a", b"b", b"c"):
            line.add(filled(text))
            readers.release.release()
        assert line.finish() is None
        assert readers.read == [(0, b"a"), (1, b"b"), (2, b"c")]
        assert line.done == 3
        assert len(os.listdir("/proc/self/fd")) == before

    def test_the_first_that_fails_is_the_last_and_nobody_reads_the_others(self) -> None:
        before = len(os.listdir("/proc/self/fd"))
        readers = Readers(fails=1)
        line = Line(readers)
        line.add(filled(b"a"))
        line.add(filled(b"b"))
        reader, writer = os.pipe()
        line.add(reader)
        for _ in range(3):
            readers.release.release()
        select.select([line.ended], [], [], 20)
        with pytest.raises(BrokenPipeError):
            os.write(writer, b"c")
        os.close(writer)
        line.add(filled(b"too late"))
        failed = line.finish()
        assert failed is not None
        assert (failed.code, line.done, readers.read) == ("target_full", 1, [(0, b"a")])
        assert len(os.listdir("/proc/self/fd")) == before

    def test_those_that_are_dropped_never_begin(self) -> None:
        readers = Readers()
        line = Line(readers)
        line.add(filled(b"a"))
        line.add(filled(b"b"))
        assert readers.began.acquire(timeout=20)
        line.drop()
        readers.release.release(2)
        assert line.finish() is None
        assert readers.read == [(0, b"a")]

    def test_there_is_room_for_so_many_and_again_when_one_is_through(self) -> None:
        readers = Readers()
        line = Line(readers)
        for _ in range(Line.AHEAD):
            assert select.select([line.room], [], [], 0)[0]
            line.add(filled(b"x"))
        assert not select.select([line.room], [], [], 0)[0]
        readers.release.release()
        assert select.select([line.room], [], [], 20)[0]
        readers.release.release(Line.AHEAD)
        assert line.finish() is None

    def test_one_that_hangs_is_given_up_and_may_still_end(self) -> None:
        readers = Readers()
        line = Line(readers)
        line.add(filled(b"a"))
        failed = line.finish(patience=0.01)
        assert failed is not None
        assert failed.code == "worker_hangs"
        readers.release.release()
        assert line.finish() is None
