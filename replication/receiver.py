"""The receiving side of one transfer: every record is judged, then passed on to ZFS. Blocks."""

import os
import socket
from collections.abc import Callable

from replication.announced import Judged, announced, judge, payload_size
from replication.blocking import PATIENCE_SECONDS, Line
from replication.errors import Cancelled, Interrupted, StreamRefused, TransferFailed
from replication.jobs import Received, ReceiveJob, ReceiveOutcome
from replication.records import Walker
from replication.silence import keepalive
from replication.splice import Mover, Progress, prepare, wide_pipe
from zfs.door import Streams
from zfs.stream import HEADER_SIZE, MAX_PAYLOAD, read_begin

BUFFER = 512 << 10
"""Bytes that are read at once; a BEGIN record fits in with its payload."""

SPLICE_FROM = 64 << 10
"""Bytes of payload still to come from which they are worth a splice."""

assert BUFFER > HEADER_SIZE + MAX_PAYLOAD

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

    A refused record never reaches ZFS, and the rest of the stream is left unread in *sock* for whoever owns that to
    close. A stream that is cut short leaves its partial state on the target, and the snapshots of the steps before it
    stay. *progress* gets the bytes so far, *stepped* each step that is through, in another thread. *cancel_fd* becoming
    readable ends it.
    """
    judged: list[Judged] = []

    def receive(number: int, fd: int) -> None:
        streams.receive(job.steps[number].snapshot, fd, raw=job.raw)
        stepped(Received(number, judged[number].begin, judged[number].key_fingerprint))

    line = Line(receive)
    mover = Mover(job.limit, progress, cancel_fd, stop_fd=line.ended)
    lost: TransferFailed | None = None
    try:
        _Feed(job, sock, mover, line, judged).run()
    except BrokenPipeError:
        # ZFS stopped reading: mostly it failed, and then it says why.
        lost = Interrupted("ZFS took a snapshot for complete before the end of its stream")
    except OSError as error:
        lost = Interrupted(f"the connection was lost: {error.strerror}")
    except TransferFailed as error:
        lost = error
    if isinstance(lost, Cancelled):
        line.drop()
    mover.end()
    failed = line.finish(PATIENCE_SECONDS) if lost else line.finish(cancel_fd=cancel_fd)
    # What ZFS says of a stream that was cut short is no more than that.
    failure = lost if failed is None or (lost and isinstance(failed, Interrupted)) else failed
    last = judged[-1] if judged else Judged()
    code, text = (failure.code, failure.text) if failure else ("", "")
    return ReceiveOutcome(mover.moved, line.done, last.begin, last.key_fingerprint, code, text)


class _Feed:
    """From the socket to ZFS: reads, judges, and puts every stream into a pipe of its own."""

    def __init__(
        self, job: ReceiveJob, sock: socket.socket, mover: Mover, line: Line, judged: list[Judged]
    ) -> None:
        self._job = job
        self._sock = sock
        self._mover = mover
        self._line = line
        self._judged = judged
        self._window = _Window()

    def run(self) -> None:
        """All steps. Raises TransferFailed, OSError; BrokenPipeError where ZFS reads no more."""
        keepalive(self._sock)
        prepare(self._sock.fileno())
        pin = self._job.key_fingerprint
        for number in range(len(self._job.steps)):
            record = self._begin(number, pin)
            pin = pin or self._judged[0].key_fingerprint
            self._stream(record)
        self._refuse_more()

    def _begin(self, number: int, pin: str | None) -> bytes:
        """The judged BEGIN record and its payload."""
        header = self._exactly(HEADER_SIZE)
        payload = self._exactly(payload_size(header))
        judged = judge(header, payload, announced(self._job, number, pin))
        self._judged.append(judged)
        if judged.refusal:
            raise judged.refusal
        return header + payload

    def _stream(self, record: bytes) -> None:
        """One stream, of which *record* was read, to its end."""
        self._mover.wait(self._line.room)
        reader, writer = wide_pipe()
        self._line.add(reader)
        try:
            os.set_blocking(writer, False)
            self._mover.write(writer, memoryview(record))
            self._records(Walker(read_begin(record[:HEADER_SIZE])), writer)
        finally:
            os.close(writer)

    def _records(self, walker: Walker, writer: int) -> None:
        while True:
            data = self._window.data
            count = walker.feed(data)
            self._mover.write(writer, data[:count])
            self._window.drop(count)
            if walker.ended:
                return
            if walker.left >= SPLICE_FROM:
                walker.passed(self._alive(self._mover.splice(self._sock.fileno(), writer, walker.left)))
            else:
                self._more(writer)

    def _exactly(self, count: int) -> bytes:
        while len(self._window.data) < count:
            self._more()
        data = bytes(self._window.data[:count])
        self._window.drop(count)
        return data

    def _more(self, writer: int | None = None) -> None:
        self._window.added(self._alive(self._mover.read(self._sock, self._window.room(), writer)))

    def _alive(self, count: int) -> int:
        if not count:
            raise Interrupted(f"the stream ended too early, after {self._mover.moved} bytes")
        return count

    def _refuse_more(self) -> None:
        """Behind the last stream nothing may come. What has not come yet is nobody's."""
        if self._window.data or self._sock_has_more():
            raise StreamRefused("there are more bytes behind the end of the last stream")

    def _sock_has_more(self) -> bool:
        try:
            return bool(self._sock.recv(1, socket.MSG_PEEK))
        except (BlockingIOError, ConnectionError):
            return False


class _Window:
    """The bytes that were read and not yet passed on."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(BUFFER))
        self._start = self._end = 0

    @property
    def data(self) -> memoryview:
        return self._view[self._start : self._end]

    def drop(self, count: int) -> None:
        """The first *count* were passed on."""
        self._start += count

    def added(self, count: int) -> None:
        """So many were read into `room`."""
        self._end += count

    def room(self) -> memoryview:
        """Where to read to."""
        rest = self.data
        self._view[: len(rest)] = rest
        self._start, self._end = 0, len(rest)
        return self._view[self._end :]
