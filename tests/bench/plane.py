"""The data plane without ZFS: a stream from a pipe through loopback TCP into a pipe."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from replication.jobs import ReceiveJob, ReceiveStep
from replication.receiver import receive_stream
from replication.splice import Mover, wide_pipe
from tests.bench.measure import OURS, Row, Taken, cpu, rows, wall
from tests.fakes import records

ROOT = Path(__file__).resolve().parents[2]
LOOP = """
import os, sys
source, sink = int(sys.argv[1]), int(sys.argv[2])
while piece := os.read(source, 1 << 20):
    while piece:
        piece = piece[os.write(sink, piece):]
"""


def plane(quick: bool) -> list[Row]:
    """The same two pipes and the same socket for all; what differs is who moves the bytes."""
    size = (1 << 30) if quick else (4 << 30)
    tools = {
        OURS: [sys.executable, "-m", "tests.bench.plane"],
        "read and write in Python": [sys.executable, "-c", LOOP],
        "cat": None,
    }
    work = f"{size >> 30} GiB pipe, TCP on loopback, pipe"
    found = []
    for unit, measure in (("s", wall), ("CPU ms", cpu)):
        taken = [Taken(name, measure(partial(_move, size, words), 3)) for name, words in tools.items()]
        found += rows(work, unit, taken)
    return found + checked(quick)


def checked(quick: bool) -> list[Row]:
    """What it costs to judge every record: a receiver as it is, beside one that lets everything through."""
    size = (256 << 20) if quick else (2 << 30)
    found = []
    for block in (128 << 10, 4 << 10):
        with _stream(block, size) as feed:
            tools = {OURS: _receive, "splice, nothing looked at": _let_through}
            for unit, measure in (("s", wall), ("CPU ms", cpu)):
                taken = [Taken(name, measure(partial(_fed, feed, tool), 3)) for name, tool in tools.items()]
                work = f"receive {size >> 20} MiB in records of {block >> 10} KiB"
                found += rows(work, unit, taken)
    return found


Feed = Callable[[int], None]
"""Writes the stream to a socket."""

_BEGIN = records.begin(2)


@contextmanager
def _stream(block: int, size: int) -> Iterator[Feed]:
    """One valid stream with blocks of that size."""
    repeated = records.write(2, os.urandom(block), size=block) * ((16 << 20) // block)
    whole = os.memfd_create("stream")
    os.write(whole, repeated)

    def feed(sock: int) -> None:
        os.write(sock, _BEGIN)
        for _ in range(size // (16 << 20)):
            at = 0
            while at < len(repeated):
                at += os.sendfile(sock, whole, at, len(repeated) - at)
        os.write(sock, records.end(2))

    try:
        yield feed
    finally:
        os.close(whole)


def _fed(feed: Feed, receive: Callable[[socket.socket], None]) -> None:
    near, far = _joined()
    with near, far:
        pid = os.fork()
        if pid == 0:
            far.close()
            feed(near.fileno())
            os._exit(0)
        near.close()
        receive(far)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


class _Sink:
    """`zfs.door.Streams` that takes everything for good."""

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        raise NotImplementedError

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        while os.splice(fd, null, 1 << 20):
            continue
        os.close(null)


def _receive(sock: socket.socket) -> None:
    job = ReceiveJob((ReceiveStep("vault/home@b", 2, None),), raw=False, resuming=False)
    got = receive_stream(_Sink(), job, sock, lambda _: None)
    assert not got.code, got.text


def _let_through(sock: socket.socket) -> None:
    reader, writer = wide_pipe()
    sink = threading.Thread(target=lambda: _Sink().receive("", reader, raw=True))
    sink.start()
    Mover().move(sock.fileno(), writer)
    os.close(writer)
    sink.join()
    os.close(reader)


def _move(size: int, words: list[str] | None) -> None:
    near, far = _joined()
    out, into = wide_pipe()
    behind, end = wide_pipe()
    with near, far:
        producer = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=into)
        sender = _mover(words, out, near.fileno())
        receiver = _mover(words, far.fileno(), end)
        consumer = subprocess.Popen(["wc", "-c"], stdin=behind, stdout=subprocess.PIPE, text=True)
    for fd in (out, into, behind, end):
        os.close(fd)
    for process in (producer, sender, receiver):
        assert process.wait(600) == 0
    counted, _ = consumer.communicate(timeout=600)
    assert int(counted) == size


def _mover(words: list[str] | None, source: int, sink: int) -> "subprocess.Popen[bytes]":
    if words is None:
        return subprocess.Popen(["cat"], stdin=source, stdout=sink)
    return subprocess.Popen([*words, str(source), str(sink)], pass_fds=(source, sink), cwd=ROOT)


def _joined() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


if __name__ == "__main__":
    Mover().move(int(sys.argv[1]), int(sys.argv[2]))
