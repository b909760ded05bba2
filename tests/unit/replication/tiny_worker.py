"""The real worker over tiny streams: ``python -m tests.unit.replication.tiny_worker send|receive FD``.

TINY_SIZE is the length of what it sends, -1 for a stream without end; TINY_STUBBORN makes it deaf to SIGTERM.
"""

import os
import signal
import sys

from node.worker import run
from tests.unit.replication.tiny_streams import TinyReceiver, TinySender, begin
from zfs.door import Streams


def make() -> Streams:
    if "TINY_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "TINY_CRASH" in os.environ:
        raise SystemExit("as the test wished")
    size = int(os.environ.get("TINY_SIZE", "0"))
    if sys.argv[1] == "receive":
        return TinyReceiver()
    return TinySender(begin(), size if size >= 0 else 1 << 60, endless=size < 0)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], make))
