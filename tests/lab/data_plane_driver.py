"""Runs in a guest: one replication on one machine, by the real planner, door, workers and splice.

``driver.py OPTIONS`` with OPTIONS as JSON; prints one JSON object. Does without the lab's package.
"""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable
from typing import Any

from replication.conflicts import Conflict
from replication.errors import TransferFailed
from replication.fork_server import ForkServer, WorkerCommand
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.jobs import ReceiveJob, ReceiveStep, SendJob, SendStep, as_json
from replication.plan import plan
from replication.steps import Full, Plan, Resume, Stream, UpToDate
from replication.transfer import Transfer, start_receive, start_send
from zfs.errors import NotFound
from zfs.libzfs import LibZfs

WORKER = WorkerCommand((sys.executable, "-m", "node.worker"), dict(os.environ))


async def source_of(zfs: LibZfs, dataset: str) -> SourceHistory:
    facts = await zfs.dataset(dataset)
    snapshots, bookmarks = await zfs.snapshots(dataset), await zfs.bookmarks(dataset)
    return SourceHistory(dataset, tuple(snapshots), tuple(bookmarks), facts.encrypted)


async def target_of(zfs: LibZfs, dataset: str) -> TargetState | None:
    try:
        snapshots = await zfs.snapshots(dataset)
    except NotFound:
        return None
    received = tuple(TargetSnapshot(one.name, one.guid, one.createtxg, one.creation) for one in snapshots)
    return TargetState(True, received, await zfs.resume_state(dataset))


async def outcome_of(transfer: Transfer[Any]) -> dict[str, Any]:
    try:
        return as_json(await transfer.outcome())
    except TransferFailed as error:
        said = {} if transfer.said is None else as_json(transfer.said)
        return {**said, "bytes": transfer.bytes, "code": error.code, "text": error.text}


async def in_time(work: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    async with asyncio.timeout(240):
        return await work


def joined() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


def send_step(step: Stream) -> SendStep:
    base = None if isinstance(step, Full) else step.base
    return SendStep(step.to.full_name, base.full_name if base else None)


def receive_step(step: Stream, target: str) -> ReceiveStep:
    base = None if isinstance(step, Full) else step.base
    return ReceiveStep(f"{target}@{step.target_name}", step.to.guid, base.guid if base else None)


def memory(pid: int) -> int:
    """What the process had resident at most, in bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/status") as status:
            lines = [line for line in status if line.startswith("VmHWM")]
    except OSError:
        return 0
    return int(lines[0].split()[1]) * 1024 if lines else 0


async def move(server: ForkServer, steps: list[Stream], raw: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Steps over one connection; `kill` ("send" or "receive") dies when `kill_at` bytes have come through."""
    first = steps[0]
    resume = first if isinstance(first, Resume) else None
    send = SendJob(
        tuple(map(send_step, steps)),
        raw,
        resume.object if resume else None,
        resume.offset if resume else None,
        options.get("limit"),
    )
    receive = ReceiveJob(
        tuple(receive_step(step, options["target"]) for step in steps),
        raw,
        resume is not None,
        options.get("pinned"),
    )
    workers: dict[str, int] = {}
    peak = {"send": 0, "receive": 0}
    through: list[int] = []

    def watch(count: int) -> None:
        for name, pid in workers.items():
            peak[name] = max(peak[name], memory(pid))
        if count >= options.get("kill_at", 1 << 62) and (pid := workers.pop(options["kill"], 0)):
            os.kill(pid, signal.SIGKILL)

    began = time.monotonic()
    near, far = joined()
    with near, far:
        receiver = await start_receive(
            server, receive, far.fileno(), watch, options.get("user"), lambda one: through.append(one.number)
        )
        sender = await start_send(server, send, near.fileno())
        workers.update(send=sender.pid, receive=receiver.pid)
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(in_time(outcome_of(sender)))
        got = group.create_task(in_time(outcome_of(receiver)))
    return {
        "step": type(first).__name__,
        "steps": len(steps),
        "through": through,
        "seconds": time.monotonic() - began,
        "resident": peak,
        "sent": sent.result(),
        "got": got.result(),
    }


async def main(options: dict[str, Any]) -> dict[str, Any]:
    zfs = LibZfs()
    source, there = await source_of(zfs, options["source"]), await target_of(zfs, options["target"])
    decided = plan(source, there, Rule("here", "vault", raw=True))
    if isinstance(decided, Conflict):
        return {"conflict": decided.kind, "evidence": decided.evidence}
    if isinstance(decided, UpToDate):
        return {"steps": [], "reasons": decided.reasons}
    server = ForkServer(WORKER)
    try:
        done = await run(server, zfs, decided, options)
    finally:
        await server.close()
    return {"steps": done, "reasons": decided.reasons, "raw": decided.raw}


async def run(
    server: ForkServer, zfs: LibZfs, decided: Plan, options: dict[str, Any]
) -> list[dict[str, Any]]:
    """The steps of the plan, each by itself or `together`, up to the first that fails."""
    done: list[dict[str, Any]] = []
    streams = [step for step in decided.steps if isinstance(step, Stream)]
    if len(streams) < len(decided.steps):
        await zfs.abort_receive(options["target"])
        done.append({"step": "Abort"})
    packed = [streams] if options.get("together") and streams else [[step] for step in streams]
    for steps in packed:
        done.append(await move(server, steps, decided.raw, options))
        if done[-1]["got"].get("code"):
            break
    return done


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(json.loads(sys.argv[1])))))
