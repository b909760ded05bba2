"""The sending side of one transfer: ZFS writes into a pipe, one step after the other, and the pipe is spliced into the
socket. Blocks.
"""

import os
import socket
from functools import partial

from replication.blocking import PATIENCE_SECONDS, BlockingCall
from replication.errors import PeerGone, TransferFailed, WorkerHangs
from replication.jobs import SendJob, SendOutcome
from replication.silence import check_answering, keepalive
from replication.splice import Mover, Progress, wide_pipe
from zfs.door import Streams


def send_stream(
    streams: Streams, job: SendJob, sock: socket.socket, progress: Progress, cancel_fd: int | None = None
) -> SendOutcome:
    """Send what *job* says and shut the writing side of *sock* down. Never raises for a failed transfer.

    A dead socket closes the pipe, so that ZFS gives up too; an error of ZFS ends the stream early, which the
    other side takes for an interruption. *progress* gets the bytes so far. *cancel_fd* becoming readable ends
    it.
    """
    mover = Mover(job.limit, progress, cancel_fd, watch=partial(check_answering, sock))
    reader, writer = wide_pipe()
    done = 0

    def send(fd: int) -> None:
        nonlocal done
        resume = job.resume
        for step in job.steps:
            streams.send(step.snapshot, step.base, fd, raw=job.raw, resume=resume)
            resume = None
            done += 1

    call = BlockingCall(send, writer)
    lost: TransferFailed | None = None
    try:
        keepalive(sock)
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
    return SendOutcome(mover.moved, done, cause.code, cause.text) if cause else SendOutcome(mover.moved, done)
