"""The data plane without ZFS: a stream from a pipe through loopback TCP into a pipe."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

from replication.splice import Mover, wide_pipe
from tests.bench.measure import OURS, Row, Taken, cpu, rows, wall

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
    return found


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
