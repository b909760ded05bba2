"""The receiving side of one transfer: judge the BEGIN record, then splice the socket to ZFS. Blocks."""

import os
import select
import socket
from collections.abc import Callable

from replication.announced import Judged, announced, judge, payload_size
from replication.blocking import PATIENCE_SECONDS, BlockingCall
from replication.errors import BadJob, Cancelled, Interrupted, TransferFailed
from replication.jobs import Received, ReceiveJob, ReceiveOutcome
from replication.silence import keepalive
from replication.splice import Mover, Progress, wide_pipe
from zfs.door import Streams
from zfs.stream import HEADER_SIZE

Stepped = Callable[[Received], None]


def receive_stream(
    streams: Streams,
    job: ReceiveJob,
    sock: socket.socket,
    progress: Progress,
    cancel_fd: int | None = None,
    stepped: Stepped = lambda _: None,
) -> ReceiveOutcome:
    """Receive what *job* announces from *sock*. Never raises for a failed transfer.

    A refused stream never reaches ZFS, and the rest of it is left unread in *sock* for whoever owns that to
    close. A stream that is cut short leaves its partial state on the target. *progress* gets the bytes so
    far. *cancel_fd* becoming readable ends it.
    """
    if len(job.steps) != 1:
        raise BadJob("one step at a time")
    judged = Judged()
    start = b""
    try:
        keepalive(sock)
        start = _read_begin(sock, cancel_fd)
        judged = judge(start[:HEADER_SIZE], start[HEADER_SIZE:], announced(job, 0, job.key_fingerprint))
        if judged.refusal:
            raise judged.refusal
    except TransferFailed as error:
        return _outcome(len(start), 0, judged, error)
    except OSError as error:
        return _outcome(len(start), 0, judged, Interrupted(f"the connection was lost: {error.strerror}"))
    mover = Mover(job.limit, lambda count: progress(len(start) + count), cancel_fd)
    failure = _feed(streams, job, sock, start, mover)
    if failure is None:
        stepped(Received(0, judged.begin, judged.key_fingerprint))
    return _outcome(len(start) + mover.moved, 0 if failure else 1, judged, failure)


def _outcome(count: int, steps: int, judged: Judged, failure: TransferFailed | None) -> ReceiveOutcome:
    code, text = (failure.code, failure.text) if failure else ("", "")
    return ReceiveOutcome(count, steps, judged.begin, judged.key_fingerprint, code, text)


def _feed(
    streams: Streams, job: ReceiveJob, sock: socket.socket, start: bytes, mover: Mover
) -> TransferFailed | None:
    """Give ZFS the record already read and then the rest of the socket; what went wrong, or None."""
    reader, writer = wide_pipe()
    call = BlockingCall(lambda fd: streams.receive(job.steps[0].snapshot, fd, raw=job.raw), reader)
    lost: TransferFailed | None = None
    try:
        _write_all(writer, start)
        mover.move(sock.fileno(), writer)
    except BrokenPipeError:
        pass  # ZFS stopped reading: it has all it needs, or it failed, and then it says why
    except OSError as error:
        lost = Interrupted(f"the connection was lost: {error.strerror}")
    except TransferFailed as error:
        lost = error
    finally:
        os.close(writer)
    failed = call.finish(PATIENCE_SECONDS) if lost else call.finish(cancel_fd=mover.cancel_fd)
    # With the socket lost, ZFS sees a stream that was cut short and says no more than that.
    return lost if lost and isinstance(failed, Interrupted) else failed


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _read_begin(sock: socket.socket, cancel_fd: int | None) -> bytes:
    """The first record's header and payload. Raises Interrupted, StreamRefused, Cancelled, OSError."""
    header = _read_exactly(sock, HEADER_SIZE, cancel_fd)
    return header + _read_exactly(sock, payload_size(header), cancel_fd)


def _read_exactly(sock: socket.socket, count: int, cancel_fd: int | None) -> bytes:
    sock.setblocking(False)
    data = bytearray()
    while len(data) < count:
        _wait_readable(sock, cancel_fd)
        try:
            piece = sock.recv(count - len(data))
        except BlockingIOError:
            continue
        if not piece:
            raise Interrupted(f"the stream ended in its BEGIN record, after {len(data)} of {count} bytes")
        data += piece
    return bytes(data)


def _wait_readable(sock: socket.socket, cancel_fd: int | None) -> None:
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    if cancel_fd is not None:
        poller.register(cancel_fd, select.POLLIN)
    if cancel_fd in dict(poller.poll()):
        raise Cancelled
