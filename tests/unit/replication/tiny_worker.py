"""The real fork server over tiny streams: ``python -m tests.unit.replication.tiny_worker serve FD``.

TINY_SIZE is the length of what a child sends, -1 for a stream without end; TINY_STUBBORN makes it deaf to
SIGTERM. TINY_THREAD starts a thread before it serves; TINY_CRASH lets every child crash.
"""

import os
import signal
import sys
import threading

from node.worker import main
from tests.unit.replication.tiny_streams import TinyReceiver, TinySender, begin
from zfs.door import Streams


class TinyStreams:
    """Both directions."""

    def __init__(self, size: int) -> None:
        self._sender = TinySender(begin(), size if size >= 0 else 1 << 60, endless=size < 0)
        self.send = self._sender.send
        self.receive = TinyReceiver().receive


def make() -> Streams:
    if "TINY_STUBBORN" in os.environ:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "TINY_CRASH" in os.environ:
        raise SystemExit("as the test wished")
    return TinyStreams(int(os.environ.get("TINY_SIZE", "0")))


if __name__ == "__main__":
    if "TINY_THREAD" in os.environ:
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    sys.exit(main(sys.argv[1:], make))
