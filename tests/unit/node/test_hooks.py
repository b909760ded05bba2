"""Hooks, with real shells. What a test waits for, the hook itself does; the tests never sleep."""

import asyncio
import contextlib
import os
import resource
from pathlib import Path

import pytest

from node.hooks import KEPT, HookResult, HookRunner

LONG = 30
"""Seconds that no test waits for: a hook that is still there after them was not killed."""


async def run(command: str, timeout: int = LONG, **environment: str) -> HookResult:
    return await HookRunner(grace=0.2).run(command, environment, timeout)


def is_alive(pid: int) -> bool:
    """Zombies do not count: nobody in a test's container may be there to reap them."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_what_it_printed_and_how_it_ended_is_told() -> None:
    assert await run("echo out; echo err >&2") == HookResult(0, False, "out\nerr\n")
    failed = await run("echo no disk; exit 3")
    assert (failed.code, failed.ok, failed.words) == (3, False, "failed with exit code 3: no disk")
    assert (await run("kill -9 $$")).words == "was ended by signal 9"
    assert (await run("no-such-program")).code == 127


async def test_the_environment_is_clean_and_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/secret")
    told = await run("env", SANOID_TARGET="tank/with spaces")
    names = {line.partition("=")[0] for line in told.output.splitlines()}
    assert "SANOID_TARGET=tank/with spaces" in told.output
    assert names <= {"PATH", "HOME", "LC_ALL", "PWD", "SHLVL", "_", "SANOID_TARGET", "OLDPWD"}


async def test_one_that_never_ends_is_killed_with_all_its_children(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    told = await run(f"sleep {LONG} & echo $! > {pids}; echo $$ >> {pids}; echo waiting; wait", timeout=1)
    assert (told.code, told.timed_out, told.output) == (None, True, "waiting\n")
    assert told.words == "did not end in time and was killed: waiting"
    assert [pid for pid in pids.read_text().split() if is_alive(int(pid))] == []


async def test_one_that_ignores_sigterm_is_killed_too(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = f"trap '' TERM; echo $$ >> {pids}; while :; do sleep 0.1; done"
    told = await run(f"""sh -c "{child.replace("$", chr(92) + "$")}" & trap '' TERM; wait; wait""", timeout=1)
    assert told.timed_out
    (pid,) = pids.read_text().split()
    assert not is_alive(int(pid))


async def test_a_megabyte_is_read_and_its_end_kept() -> None:
    told = await run("head -c 1048576 /dev/zero | tr '\\0' x; echo the end")
    assert told.ok
    assert len(told.output) == KEPT
    assert told.output.endswith("xxx" + "the end\n")


async def test_a_stream_without_end_fills_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    told = await run("yes", timeout=1)
    assert told.timed_out
    assert len(told.output) == KEPT
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 << 10, "KiB"


async def test_a_child_left_in_the_background_neither_hangs_us_nor_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pid"
    async with asyncio.timeout(LONG / 2):
        told = await run(f"sleep {LONG} & echo $! > {pids}; echo done")
    pid = int(pids.read_text())
    assert told == HookResult(0, False, "done\n")
    assert is_alive(pid)
    os.kill(pid, 9)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_without_a_timeout_it_may_take_its_time(timeout: int) -> None:
    assert await run("sleep 0.3; echo done", timeout=timeout) == HookResult(0, False, "done\n")


async def test_cancelled_it_takes_the_hook_along(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(run(f"echo $$ > {fifo}; sleep {LONG}"))
        pid = int(await asyncio.to_thread(fifo.read_text))
        task.cancel()
    with contextlib.suppress(ChildProcessError):  # asyncio's watcher has reaped it, or we do
        os.waitpid(pid, 0)
    assert not is_alive(pid)


async def test_what_can_not_be_run_is_said() -> None:
    for told in (await run("true\0"), await run("true", BIG="x" * (1 << 20))):
        assert told.code is None
        assert told.words.startswith("could not be run: ")


async def test_no_descriptor_is_left() -> None:
    await run("true")
    before = len(os.listdir("/proc/self/fd"))
    for command in ("true", "sleep 30", "true\0"):
        await run(command, timeout=1)
    assert len(os.listdir("/proc/self/fd")) <= before
