"""Waiting for a call that blocks: as long as it takes where that is right, and not for ever where it is not."""

import os
import threading

import pytest

from replication.blocking import BlockingCall
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
