"""The sending side of one transfer: ZFS writes into a pipe, one step after the other, and the pipe is spliced into the
socket. Blocks.
"""

import base64
import os
import select
import socket
from functools import partial

from replication.announced import payload_size
from replication.blocking import PATIENCE_SECONDS, BlockingCall
from replication.errors import Cancelled, PeerGone, StreamRefused, TransferFailed, WorkerHangs
from replication.jobs import SendJob, SendOutcome
from replication.silence import check_answering, keepalive
from replication.splice import Mover, Progress, wide_pipe
from zfs.door import Streams
from zfs.stream import HEADER_SIZE


def send_stream(
    streams: Streams, job: SendJob, sock: socket.socket, progress: Progress, cancel_fd: int | None = None
) -> SendOutcome:
    """Send what *job* says and shut the writing side of *sock* down. Never raises for a failed transfer.

    A dead socket closes the pipe, so that ZFS gives up too; an error of ZFS ends the stream early, which the
    other side takes for an interruption. *progress* gets the bytes so far. *cancel_fd* becoming readable ends
    it.
    """
    mover = Mover(
        job.limit, lambda count: progress(len(start) + count), cancel_fd, watch=partial(check_answering, sock)
    )
    reader, writer = wide_pipe()
    done = 0

    def send() -> None:
        nonlocal done
        resume = job.resume
        for step in job.steps:
            streams.send(step.snapshot, step.base, writer, raw=job.raw, resume=resume)
            resume = None
            done += 1

    call = BlockingCall(send, writer)
    lost: TransferFailed | None = None
    start = b""
    try:
        keepalive(sock)
        start = _begin(reader, cancel_fd)
        sock.setblocking(True)
        sock.sendall(start)
        mover.move(reader, sock.fileno())
        sock.shutdown(socket.SHUT_WR)
    except OSError as error:
        lost = PeerGone(f"the other side closed the connection: {error.strerror}")
    except TransferFailed as error:
        lost = error
    finally:
        os.close(reader)
    failed = call.finish(PATIENCE_SECONDS)
    # With the socket lost, what ZFS says is only that nobody reads its pipe any more; unless it hangs.
    cause = failed if isinstance(failed, WorkerHangs) else lost or failed
    code, text = (cause.code, cause.text) if cause else ("", "")
    began = base64.b64encode(start[HEADER_SIZE:]).decode("ascii")
    return SendOutcome(len(start) + mover.moved, done, code, text, began)


def _begin(reader: int, cancel_fd: int | None) -> bytes:
    """The first BEGIN record and its payload, or as much as there is of it. Raises Cancelled, OSError.

    It is passed on unseen by anybody else: what the source remembers of what it sent is not the target's word.
    """
    header = _read(reader, HEADER_SIZE, cancel_fd)
    try:
        size = payload_size(header) if len(header) == HEADER_SIZE else 0
    except StreamRefused:  # whether it can be received is not for the sender to say
        size = 0
    return header + _read(reader, size, cancel_fd)


def _read(reader: int, count: int, cancel_fd: int | None) -> bytes:
    poller = select.poll()
    poller.register(reader, select.POLLIN)
    if cancel_fd is not None:
        poller.register(cancel_fd, select.POLLIN)
    data = b""
    while len(data) < count:
        if cancel_fd in dict(poller.poll()):
            raise Cancelled
        piece = os.read(reader, count - len(data))
        if not piece:
            break
        data += piece
    return data
