"""One dataset's replication to one node: its rule, what `status` and `jobs` show, and who waits for its next run."""

import asyncio
import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from node.errors import Exit, MeshkeepError
from node.replication_check import Copy
from node.roots import Seen
from node.status import LATE_AFTER
from replication.conflicts import Conflict
from replication.guard import DEFAULT_PATIENCE, Patience
from replication.history import Initial, OnDivergence
from replication.selector import EVERY, Selector
from replication.tree import Branch
from replication.window import Window

AT_REST = frozenset({"ok", "nothing to send", "paused"})
"""The states of a job with which nobody need be concerned."""

QUIET = Window(60, 360)
"""When a drill that nobody asked for runs, by a rule without a window: 01:00 to 06:00."""


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule of the configuration, for one target. `rate_limit` in bytes a second, `late_after` in seconds.

    `on_divergence` is what becomes of a copy that nothing leads on from.
    `drill` is how many seconds after one drill the next is due (None: none by itself), in the hours `quiet`.
    """

    dataset: str
    target: str
    allow_plaintext: bool = False
    rate_limit: int | None = None
    recursive: bool = False
    exclude: tuple[str, ...] = ()
    late_after: int = LATE_AFTER
    selector: Selector = EVERY
    initial: Initial = "all"
    window: Window | None = None
    paused: bool = False
    patience: Patience = DEFAULT_PATIENCE
    drill: int | None = None
    drill_key_file: str | None = None
    quiet: Window = QUIET
    on_divergence: OnDivergence = "conflict"

    @property
    def branch(self) -> Branch:
        """Which datasets it is about."""
        return Branch(self.dataset, self.target, self.recursive, self.exclude)


class Stoppable(Protocol):
    """A transfer under way."""

    async def cancel(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended: protected as of (epoch seconds), bytes sent, steps run, and how many were resumed.

    `waiting` says what it waits for before it can begin, or is empty.
    """

    as_of: int | None
    bytes: int
    steps: int
    resumed: int
    waiting: str = ""


class Slots:
    """How many streams may run to one target at once; who comes when all are taken waits in line."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0
        self._queue: list[asyncio.Future[None]] = []

    def resize(self, limit: int) -> None:
        """From now on; what runs goes on."""
        self._limit = limit
        self._let_in()

    async def take(self) -> bool:
        """One of them. Returns whether it had to be waited for: what was true before may not be any more."""
        if self._taken < self._limit and not self._queue:
            self._taken += 1
            return False
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn in self._queue:
                self._queue.remove(turn)
            else:  # it was let in, and will not come
                self.give_back()
            raise
        return True

    def give_back(self) -> None:
        self._taken -= 1
        self._let_in()

    def _let_in(self) -> None:
        while self._queue and self._taken < self._limit:
            turn = self._queue.pop(0)
            if not turn.cancelled():
                self._taken += 1
                turn.set_result(None)


@dataclass(slots=True)
class Job:
    """One dataset to one target, and what is known from the last runs. Mutable; owned by the event loop.

    `rule` may be that of a tree which the dataset is in. `stored`: whether the target has a snapshot of it, None
    before it was asked; `seen` when it last answered, `pinned` the bytes that only the base still uses. `rotate_once`
    is the guid that the copy ends with which a person wants kept aside.
    """

    dataset: str
    target: str
    rule: RuleSpec = RuleSpec("", "")
    vanished: bool = False
    stored: bool | None = None
    seen: int | None = None
    pinned: int = 0
    base_creation: int = 0
    began: int | None = None
    ended: int | None = None
    outcome: str = ""
    cancelled: bool = False
    work: "asyncio.Future[Report] | None" = None
    state: str = "waiting"
    error: MeshkeepError | None = None
    conflict: Conflict | None = None
    rotate_once: int | None = None
    roots: Seen | None = None
    as_of: int | None = None
    behind: int | None = None
    bases: tuple[int, ...] = ()
    began_raw: bool | None = None
    step: int = 0
    steps: int = 0
    snapshot: str = ""
    bytes_done: int = 0
    bytes_total: int = 0
    bytes_total_sent: int = 0
    resumed: int = 0
    run_bytes: int | None = None
    transfer: Stoppable | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    result: asyncio.Future[Report] | None = None
    _offset: int = 0
    _arrived: int = 0
    _counted: int = 0
    _began: float = 0.0
    _before: int = 0

    def __post_init__(self) -> None:
        self.wake.set()

    @property
    def id(self) -> str:
        """The same for this dataset and target for ever; any beginning of it that is unique will do."""
        return hashlib.blake2b(f"{self.dataset}\0{self.target}".encode(), digest_size=8).hexdigest()

    @property
    def running(self) -> bool:
        """Whether a run is under way, be it in line for its stream."""
        return self.lock.locked()

    def cancel(self) -> bool:
        """End the run that is under way; what arrived stays, and the next one goes on with it. False if none is."""
        if self.work is None:
            return False
        self.cancelled = True
        self.work.cancel()
        return True

    async def wait_for_work(self, timeout: float | None) -> None:
        """Until woken, or for `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self.wake.wait()
        except TimeoutError:
            return
        finally:
            self.wake.clear()

    def begin(self, now: int) -> None:
        """A run begins. The state stays what the last one found until there is work: looking changes nothing."""
        self.result = asyncio.get_running_loop().create_future()
        self.cancelled = False
        self.began, self.ended = now, None
        self._before = self.bytes_total_sent
        self.step = self.steps = 0
        self.snapshot = ""

    def see(self, as_of: int | None, behind: int) -> None:
        """What was found on the target."""
        self.as_of = as_of
        self.behind = behind

    def stepping(self, number: int, total: int, snapshot: str) -> None:
        self.step, self.steps, self.snapshot = number, total, snapshot

    def sending(self, arrived: int, total: int, *, first: bool = True) -> None:
        """A stream begins; `arrived` bytes of it are on the target already, and `total` it has with all that follow.

        The *first* of a chain begins to count; what comes after it adds to that.
        """
        if first:
            self._offset = self._arrived = arrived
            self._began = time.monotonic()
        else:
            self._offset += self._counted
        self._counted = 0
        self.bytes_done = self._offset
        self.bytes_total = max(self._offset - arrived + total, self._offset)

    def sent(self, count: int) -> None:
        """`count` bytes of the stream have gone out so far."""
        self.bytes_total_sent += count - self._counted
        self._counted = count
        self.bytes_done = self._offset + count
        self.bytes_total = max(self.bytes_total, self.bytes_done)

    @property
    def rate(self) -> float:
        """Bytes a second of the running chain of streams."""
        elapsed = time.monotonic() - self._began
        return (self.bytes_done - self._arrived) / elapsed if elapsed > 0 else 0.0

    def fail(self, state: str, error: MeshkeepError, now: int) -> MeshkeepError:
        self.state, self.error = state, error
        self.ended, self.outcome = now, error.code
        self.run_bytes = self.bytes_total_sent - self._before
        if self.result is not None and not self.result.done():
            self.result.set_exception(error)
            self.result.exception()  # nobody need be waiting for it
        return error

    def stopped(self) -> None:
        self.state = "paused" if self.rule.paused else "waiting"
        if self.result is not None:
            self.result.cancel()

    def stopped_by_hand(self, error: MeshkeepError, now: int) -> MeshkeepError:
        """A person cancelled the run: nothing is wrong, but who waits for it must know."""
        self.fail("cancelled", error, now)
        self.error = None
        return error

    def finish(self, report: Report, now: int) -> None:
        self.state, self.error = report.waiting or "ok", None
        self.ended, self.outcome = now, "waiting" if report.waiting else "ok"
        self.run_bytes = self.bytes_total_sent - self._before
        self.as_of = report.as_of
        if report.as_of is None and not report.waiting:
            self.state = "nothing to send"
        if self.result is not None and not self.result.done():
            self.result.set_result(report)

    def progress(self) -> dict[str, Any]:
        """What a progress bar needs."""
        left, rate = self.bytes_total - self.bytes_done, self.rate
        return {
            "job": self.id,
            "state": self.state,
            "dataset": self.dataset,
            "node": self.target,
            "step": self.step,
            "steps": self.steps,
            "snapshot": self.snapshot,
            "bytes_done": self.bytes_done,
            "bytes_total": self.bytes_total,
            "rate": int(rate),
            "eta_seconds": int(left / rate) if rate and left > 0 else None,
        }

    def copy(self) -> Copy:
        """What ``check replication`` judges. Trouble is only what does not mend itself."""
        stuck = self.error is not None and self.error.exit is Exit.REFUSED
        trouble = f"{self.state}: {self.error.what}" if stuck and self.error else ""
        return Copy(self.dataset, self.target, self.as_of, self.rule.late_after, trouble, self.rule.paused)

    def as_json(self) -> dict[str, Any]:
        """One entry of ``replicate list``."""
        return {
            **self.progress(),
            "rule": self.rule.dataset or self.dataset,
            "paused": self.rule.paused,
            "late_after": self.rule.late_after,
            "began": self.began,
            "ended": self.ended,
            "outcome": self.outcome,
            "next": self.next,
            "as_of": self.as_of,
            "behind": self.behind,
            "bytes_total_sent": self.bytes_total_sent,
            "resumed": self.resumed,
            "error": self.error.as_json() if self.error else None,
        }

    @property
    def next(self) -> str:
        """When it runs again by itself, in words."""
        if self.running:
            return ""
        if self.rule.paused:
            return "after meshkeep replicate resume"
        if self.state in AT_REST or self.cancelled:
            return "after the next snapshot"
        return "by itself"


def short_ids(jobs: Iterable[Job], least: int = 4) -> dict[str, str]:
    """For each id the shortest beginning of at least *least* letters that no other job's id has."""
    ids = sorted({job.id for job in jobs})
    found = {}
    for place, one in enumerate(ids):
        beside = [*ids[max(0, place - 1) : place], *ids[place + 1 : place + 2]]
        length = least
        while any(other[:length] == one[:length] for other in beside):
            length += 1
        found[one] = one[:length]
    return found
