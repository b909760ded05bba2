"""Inside the fork server: it has imported everything once, and forks a child for every transfer.

It has one thread and never calls ZFS, so that a child inherits no lock and no open device. The other end is
`replication.fork_server`, which starts it with one end of a pair of SOCK_SEQPACKET sockets:

- it gets ``{"id", "direction"}`` with the stream's socket, the job's pipe, the report's pipe and a file for
  errors;
- it answers ``{"id", "pid"}`` with a pidfd, or ``{"id", "error"}``; and at the child's end ``{"id", "code"}``,
  negative for a signal.

When the agent goes away it ends at once; its children go on until their sockets end.
"""

import json
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

STREAM = 3
"""The descriptor of the stream in a child; job, report and errors are 0, 1 and 2, and it has no others."""

DESCRIPTORS = 4
MESSAGE_SIZE = 4096

Work = Callable[[str, int], int]


def serve(sock: socket.socket, work: Work) -> None:
    """Fork until *sock* ends; a child does ``work(direction, STREAM)``, which returns its exit code.

    Raises RuntimeError where something has started a thread: what it holds would be held in every child.
    """
    if (threads := len(os.listdir("/proc/self/task"))) != 1:
        raise RuntimeError(f"cannot fork safely: {threads} threads are running")
    # A Ctrl-C meant for the agent reaches its whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _Server(sock, work).run()
    except ConnectionError:
        return  # the agent is gone, in the middle of something


class _Server:
    def __init__(self, sock: socket.socket, work: Work) -> None:
        self._sock = sock
        self._work = work
        self._children: dict[int, tuple[int, int]] = {}
        """By pidfd, which becomes readable at its end: the request's id, and the pid."""
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

    def run(self) -> None:
        while True:
            for fd, _ in self._poller.poll():
                if fd in self._children:
                    self._reap(fd)
                elif not self._answer():
                    return

    def _answer(self) -> bool:
        """Take one request; False when there will be no more."""
        data, fds, _, _ = socket.recv_fds(self._sock, MESSAGE_SIZE, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
        try:
            if data:
                self._fork(json.loads(data), fds)
        finally:
            for fd in fds:
                os.close(fd)
        return bool(data)

    def _fork(self, request: Mapping[str, object], fds: Sequence[int]) -> None:
        number = request["id"]
        assert isinstance(number, int)
        if len(fds) != DESCRIPTORS:
            self._say({"id": number, "error": "the fork server has no descriptors left"})
            return
        try:
            pid = os.fork()
        except OSError as error:
            self._say({"id": number, "error": f"fork failed: {error.strerror}"})
            return
        if pid == 0:
            self._be_child(str(request["direction"]), fds)
        pidfd = os.pidfd_open(pid)
        self._children[pidfd] = number, pid
        self._poller.register(pidfd, select.POLLIN)
        self._say({"id": number, "pid": pid}, pidfd)

    def _be_child(self, direction: str, fds: Sequence[int]) -> NoReturn:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            self._sock.close()
            _keep_only(fds)
            code = self._work(direction, STREAM)
        except BaseException:  # noqa: BLE001 (a child must never return into the server's loop)
            traceback.print_exc()
        finally:
            os._exit(code)

    def _reap(self, pidfd: int) -> None:
        number, pid = self._children.pop(pidfd)
        self._poller.unregister(pidfd)
        os.close(pidfd)
        _, status = os.waitpid(pid, 0)
        self._say({"id": number, "code": os.waitstatus_to_exitcode(status)})

    def _say(self, message: Mapping[str, object], *fds: int) -> None:
        socket.send_fds(self._sock, [json.dumps(message).encode()], fds)


def _keep_only(fds: Sequence[int]) -> None:
    """Put them in their places and close all others: a pipe of another child must end when that child does."""
    stream, *standard = fds
    for place, fd in enumerate(standard):
        os.dup2(fd, place)
    os.dup2(stream, STREAM)
    os.closerange(STREAM + 1, 1 + max(map(int, os.listdir("/proc/self/fd"))))
