"""Starting transfer workers: the jobs they get, and the command that runs them."""

import asyncio
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from replication.errors import WorkerDied
from replication.fork_server import ForkServer, WorkerCommand
from replication.jobs import ReceiveJob, ReceiveOutcome, ReceiveStep, SendJob, SendOutcome, SendStep
from replication.transfer import Progress, Stepped, Transfer, start_receive, start_send

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
        steps: Sequence[SendStep],
        raw: bool,
        resume: tuple[int, int] | None = None,
        rate_limit: int | None = None,
        on_progress: Progress | None = None,
    ) -> Transfer[SendOutcome]:
        """A worker that writes *steps* to *sock*, one after the other; *resume* is (object, offset) of the first."""
        object_, offset = resume if resume else (None, None)
        job = SendJob(tuple(steps), raw=raw, object=object_, offset=offset, limit=rate_limit)
        return await start_send(self._server, job, sock.fileno(), on_progress)

    async def receive(
        self,
        sock: socket.socket,
        *,
        steps: Sequence[ReceiveStep],
        raw: bool,
        resuming: bool,
        pinned: str | None = None,
        keys: Sequence[str] = (),
        user: str | None = None,
        rate_limit: int | None = None,
        on_progress: Progress | None = None,
        on_step: Stepped | None = None,
    ) -> Transfer[ReceiveOutcome]:
        """A worker that stores *steps* from *sock*, one after the other; as *user* where the pool delegates to it.

        A step that fails ends it; those before it stay, and *on_step* was told each. Only the first may be *resuming*.
        """
        job = ReceiveJob(
            tuple(steps),
            raw=raw,
            resuming=resuming,
            key_fingerprint=pinned,
            limit=rate_limit,
            keys=tuple(keys),
        )
        return await start_receive(self._server, job, sock.fileno(), on_progress, user, on_step)


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
