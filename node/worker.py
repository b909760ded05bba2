"""Transfer workers, ``python -m node.worker serve FD``: a fork server, one child for each stream. Composition root.

The job of a child is one JSON line on stdin: the fields of `SendJob` or `ReceiveJob`, and for receive ``user``,
whom to become before a byte of the stream is read. Progress goes to stdout as lines ``{"bytes": N}``, a step that is
through as ``{"received": {...}}``, the last line is ``{"outcome": {...}}``, and the exit code is 0 if there was one.
SIGTERM, or nobody reading stdout, cancels.
"""

import json
import os
import pwd
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence

from replication.errors import BadJob, NotPermitted, TransferFailed
from replication.forking import serve
from replication.jobs import Outcome, Received, SendOutcome, as_json, receive_job, send_job
from replication.receiver import receive_stream
from replication.sender import send_stream
from zfs.door import Streams

USAGE = "usage: python -m node.worker serve FD"


def main(arguments: Sequence[str], make_streams: Callable[[], Streams]) -> int:
    """Serve; every child takes its streams from *make_streams*. Returns the exit code."""
    if len(arguments) != 2 or arguments[0] != "serve" or not arguments[1].isdigit():
        print(USAGE, file=sys.stderr)
        return 2
    with socket.socket(fileno=int(arguments[1])) as sock:
        serve(sock, lambda direction, fd: run(direction, fd, make_streams))
    return 0


def run(direction: str, fd: int, make_streams: Callable[[], Streams]) -> int:
    """Do one job, "send" or "receive", with the socket *fd*; returns the exit code."""
    cancel_fd, cancel = _cancel_on_signals()
    with socket.socket(fileno=fd) as sock:
        outcome = _work(direction, sock, make_streams, _Reporter(cancel), cancel_fd)
    _say({"outcome": as_json(outcome)})
    return 0


def _work(
    direction: str,
    sock: socket.socket,
    make_streams: Callable[[], Streams],
    report: "_Reporter",
    cancel_fd: int,
) -> Outcome:
    try:
        fields = _read_job()
        # Before the user changes: the library may lie where only root can read.
        streams = make_streams()
        if direction == "send":
            return send_stream(streams, send_job(fields), sock, report.progress, cancel_fd)
        user = fields.pop("user", None)
        job = receive_job(fields)
        _become(user)
        return receive_stream(streams, job, sock, report.progress, cancel_fd, report.received)
    except TransferFailed as error:
        return SendOutcome(0, code=error.code, text=error.text)


def _read_job() -> dict[str, object]:
    try:
        fields = json.loads(sys.stdin.buffer.readline())
    except ValueError as error:
        raise BadJob(f"the job is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadJob("the job is no JSON object")
    return fields


def _become(user: object) -> None:
    """Give up root for good. Raises BadJob where there is no such user, NotPermitted where that fails."""
    if user is None:
        return
    if not isinstance(user, str):
        raise BadJob(f"user must not be {user!r}")
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise BadJob(f"there is no user {user}") from None
    try:
        os.setgroups([])
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    except PermissionError as error:
        raise NotPermitted(f"cannot become {user}: {error}") from error


class _Reporter:
    """Tells how far it is; with nobody listening any more it cancels, for the agent is gone."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._turn = threading.Lock()

    def progress(self, count: int) -> None:
        self._tell({"bytes": count})

    def received(self, one: Received) -> None:
        self._tell({"received": as_json(one)})

    def _tell(self, message: Mapping[str, object]) -> None:
        try:
            with self._turn:
                _say(message)
        except BrokenPipeError:
            self._cancel()


def _say(message: Mapping[str, object]) -> None:
    line = memoryview(json.dumps(message).encode() + b"\n")
    while line:
        line = line[os.write(sys.stdout.fileno(), line) :]


def _cancel_on_signals() -> tuple[int, Callable[[], None]]:
    """A descriptor that becomes readable on SIGTERM, SIGINT or a call of the function beside it."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def cancel() -> None:
        os.write(writer, b"\n")

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: cancel())
    return reader, cancel


if __name__ == "__main__":
    from zfs.libzfs import LibZfsStreams, load_libraries

    load_libraries()
    sys.exit(main(sys.argv[1:], LibZfsStreams))
