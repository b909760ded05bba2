"""Starting transfer workers: the jobs they get, and the command that runs them."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from node.offers import Offer
from replication.errors import WorkerDied
from replication.fork_server import ForkServer, WorkerCommand
from replication.jobs import ReceiveJob, ReceiveOutcome, SendJob, SendOutcome
from replication.transfer import Progress, Transfer, start_receive, start_send

log = logging.getLogger(__name__)

PROGRESS_EVERY = 0.5
_PACKAGE_ROOT = Path(__file__).resolve().parent.parent


def worker_command() -> WorkerCommand:
    """Transfer workers of the same code and interpreter as the agent."""
    environment = {**os.environ, "PYTHONPATH": str(_PACKAGE_ROOT)}
    return WorkerCommand((sys.executable, "-P", "-m", "node.worker"), environment)


class Workers:
    """The factory that the composition root hands to everything that moves streams."""

    def __init__(self, command: WorkerCommand) -> None:
        self._server = ForkServer(command)

    async def prepare(self) -> None:
        """Have what the workers need imported before the first stream; a failure is said again then."""
        try:
            await self._server.start()
        except WorkerDied as error:
            log.warning("%s", error)

    async def close(self) -> None:
        """At the end, when no transfer is under way any more."""
        await self._server.close()

    async def send(
        self,
        sock: socket.socket,
        *,
        snapshot: str,
        base: str | None,
        raw: bool,
        resume: tuple[int, int] | None = None,
        rate_limit: int | None = None,
        on_progress: Progress | None = None,
    ) -> Transfer[SendOutcome]:
        """A worker that writes one stream to *sock*; *resume* is (object, offset)."""
        object_, offset = resume if resume else (None, None)
        job = SendJob(snapshot=snapshot, base=base, raw=raw, object=object_, offset=offset, limit=rate_limit)
        return await start_send(self._server, job, sock.fileno(), on_progress)

    async def receive(
        self,
        sock: socket.socket,
        *,
        snapshot: str,
        offer: Offer,
        pinned: str | None = None,
        user: str | None = None,
        on_progress: Progress | None = None,
    ) -> Transfer[ReceiveOutcome]:
        """A worker that stores one stream from *sock*; as *user* where the pool delegates to it."""
        job = ReceiveJob(
            snapshot=snapshot,
            raw=offer.raw,
            to_guid=offer.to_guid,
            from_guid=offer.from_guid,
            resuming=offer.resuming,
            key_fingerprint=pinned,
        )
        return await start_receive(self._server, job, sock.fileno(), on_progress, user)


@asynccontextmanager
async def watched(
    report: Callable[[], Awaitable[None]], every: float = PROGRESS_EVERY
) -> AsyncIterator[None]:
    """Call *report* now and then while the block runs."""

    async def watch() -> None:
        while True:
            await asyncio.sleep(every)
            await report()

    watcher = asyncio.ensure_future(watch())
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
