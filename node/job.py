"""The state of one replication rule: what `status` and `replicate list` show of it, and who waits for its next run."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.errors import MeshkeepError
from replication.conflicts import Conflict


class Stoppable(Protocol):
    """A transfer under way."""

    async def cancel(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended: protected as of (epoch seconds), bytes sent, steps run, and how many were resumed."""

    as_of: int | None
    bytes: int
    steps: int
    resumed: int


@dataclass(slots=True)
class Job:
    """One rule's run, and what is known from the last ones. Mutable; owned by the event loop."""

    dataset: str
    target: str
    allow_plaintext: bool = False
    rate_limit: int | None = None
    state: str = "waiting"
    error: MeshkeepError | None = None
    conflict: Conflict | None = None
    as_of: int | None = None
    behind: int | None = None
    common: int | None = None
    began_raw: bool | None = None
    step: int = 0
    steps: int = 0
    snapshot: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_total_sent: int = 0
    resumed: int = 0
    transfer: Stoppable | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    result: asyncio.Future[Report] | None = None
    _offset: int = 0
    _counted: int = 0
    _began: float = 0.0

    def __post_init__(self) -> None:
        self.wake.set()

    async def wait_for_work(self, timeout: float) -> None:
        """Until woken, or for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.wake.wait()
        except TimeoutError:
            return
        finally:
            self.wake.clear()

    def begin(self) -> None:
        self.result = asyncio.get_running_loop().create_future()
        self.state = "running"
        self.step = self.steps = 0
        self.snapshot = ""

    def see(self, as_of: int | None, behind: int) -> None:
        """What was found on the target."""
        self.as_of = as_of
        self.behind = behind

    def stepping(self, number: int, total: int, snapshot: str) -> None:
        self.step, self.steps, self.snapshot = number, total, snapshot

    def sending(self, arrived: int, total: int) -> None:
        """A stream begins; `arrived` bytes of it are on the target already."""
        self.bytes_done, self.bytes_total = arrived, total
        self._offset, self._counted = arrived, 0
        self._began = time.monotonic()

    def sent(self, count: int) -> None:
        """`count` bytes of the stream have gone out so far."""
        self.bytes_total_sent += count - self._counted
        self._counted = count
        self.bytes_done = self._offset + count
        self.bytes_total = max(self.bytes_total, self.bytes_done)

    @property
    def rate(self) -> float:
        """Bytes a second of the running stream."""
        elapsed = time.monotonic() - self._began
        return self._counted / elapsed if elapsed > 0 else 0.0

    def fail(self, state: str, error: MeshkeepError) -> MeshkeepError:
        self.state, self.error = state, error
        if self.result is not None and not self.result.done():
            self.result.set_exception(error)
            self.result.exception()  # nobody need be waiting for it
        return error

    def stopped(self) -> None:
        self.state = "waiting"
        if self.result is not None:
            self.result.cancel()

    def finish(self, report: Report) -> None:
        self.state, self.error = "ok", None
        self.as_of = report.as_of
        if report.as_of is None:
            self.state = "nothing to send"
        if self.result is not None and not self.result.done():
            self.result.set_result(report)

    def progress(self) -> dict[str, Any]:
        """What a progress bar needs."""
        return {
            "dataset": self.dataset,
            "node": self.target,
            "step": self.step,
            "steps": self.steps,
            "snapshot": self.snapshot,
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "rate": int(self.rate),
        }

    def as_json(self) -> dict[str, Any]:
        """One entry of ``replicate list``."""
        return {
            **self.progress(),
            "state": self.state,
            "as_of": self.as_of,
            "behind": self.behind,
            "bytes_total_sent": self.bytes_total_sent,
            "resumed": self.resumed,
            "error": self.error.as_json() if self.error else None,
        }
