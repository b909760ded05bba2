"""Taking snapshots around hooks that hang, and being stopped in the middle. The rest is in test_snapshotter."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from node.hooks import HookResult, HookRunner
from node.taker import Taker
from policy.rules import Hooks, Policy
from policy.tick import Take
from tests.fakes.zfs import FakeZfs

NOW = 1_700_000_000
FREEZES = Hooks(pre_snapshot_script="freeze", post_snapshot_script="thaw")
HANGS = Hooks(pre_snapshot_script="hang", post_snapshot_script="unhang", script_timeout=0)


class Scripts(HookRunner):
    """Notes (command, dataset); "hang" waits until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[str, str]] = []
        self.hanging = asyncio.Event()
        self.go = asyncio.Event()

    async def run(self, command: str, environment: Mapping[str, str], timeout: int) -> HookResult:
        self.ran.append((command, environment["SANOID_TARGET"]))
        if command == "hang":
            self.hanging.set()
            await self.go.wait()
        return HookResult(0)


class SlowZfs(FakeZfs):
    """Snapshots of tank/slow are never taken."""

    def __init__(self) -> None:
        super().__init__(pools={"tank": 1 << 30, "pond": 1 << 30})
        self.asked = asyncio.Event()

    async def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        if any(name.startswith("tank/slow@") for name in names):
            self.asked.set()
            await asyncio.Event().wait()
        await super().snapshot(names, properties)


@pytest.fixture
async def zfs() -> SlowZfs:
    made = SlowZfs()
    for dataset in ("tank/db", "tank/slow", "tank/vm", "pond/vm"):
        await made.create(dataset, {})
    return made


def takes(*datasets: str) -> list[Take]:
    return [Take(dataset, "hourly", "") for dataset in datasets]


def policies(**hooks: Hooks) -> dict[str, Policy]:
    return {name.replace("_", "/"): Policy(name="p", hooks=one) for name, one in hooks.items()}


async def names(zfs: SlowZfs, dataset: str) -> int:
    return len(await zfs.snapshots(dataset))


async def test_stopped_between_freeze_and_snapshot_it_still_thaws(zfs: SlowZfs) -> None:
    scripts = Scripts()
    work = asyncio.ensure_future(
        Taker(zfs, scripts).take(takes("tank/db", "tank/slow"), policies(tank_db=FREEZES), NOW)
    )
    await zfs.asked.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert scripts.ran == [("freeze", "tank/db"), ("thaw", "tank/db")]


async def test_a_fault_between_freeze_and_snapshot_still_thaws(
    zfs: SlowZfs, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        raise OSError("no memory")

    monkeypatch.setattr(zfs, "snapshot", broken)
    scripts = Scripts()
    with pytest.raises(ExceptionGroup):
        await Taker(zfs, scripts).take(takes("tank/db"), policies(tank_db=FREEZES), NOW)
    assert scripts.ran == [("freeze", "tank/db"), ("thaw", "tank/db")]


async def test_a_hook_that_hangs_keeps_no_other_pool_waiting_or_frozen(zfs: SlowZfs) -> None:
    scripts = Scripts()
    found = policies(tank_db=FREEZES, pond_vm=HANGS)
    work = asyncio.ensure_future(Taker(zfs, scripts).take(takes("tank/db", "pond/vm"), found, NOW))
    await scripts.hanging.wait()
    while ("thaw", "tank/db") not in scripts.ran:
        await asyncio.sleep(0)
    assert await names(zfs, "tank/db") == 1
    scripts.go.set()
    taken = await work
    assert sorted(name.partition("@")[0] for name in taken.names) == ["pond/vm", "tank/db"]
    assert taken.trouble == ()


async def test_what_may_hang_for_ever_comes_before_anything_is_frozen(zfs: SlowZfs) -> None:
    scripts = Scripts()
    found = policies(tank_db=FREEZES, tank_vm=HANGS)
    work = asyncio.ensure_future(Taker(zfs, scripts).take(takes("tank/db", "tank/vm"), found, NOW))
    await scripts.hanging.wait()
    assert scripts.ran == [("hang", "tank/vm")]
    scripts.go.set()
    await work
    assert scripts.ran[1] == ("freeze", "tank/db")


async def test_where_the_hook_was_not_begun_nothing_runs_after(zfs: SlowZfs) -> None:
    scripts = Scripts()
    found = policies(tank_db=FREEZES, tank_vm=HANGS)
    work = asyncio.ensure_future(Taker(zfs, scripts).take(takes("tank/db", "tank/vm"), found, NOW))
    await scripts.hanging.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert scripts.ran == [("hang", "tank/vm"), ("unhang", "tank/vm")]
    assert await names(zfs, "tank/db") == 0
