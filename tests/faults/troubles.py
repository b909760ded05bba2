"""What else goes wrong with hosts and people: each does something while the first of three streams is half through,
says how the run may end, and is mended in the end.
"""

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from node.errors import MeshkeepError
from node.replicator import RuleSpec
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_state import Snap
from tests.faults.judge import Broken, Judge
from tests.faults.scenarios import KB, REPLICA

Work = Callable[[Judge], None]
DATASET = "tank/home"
YEARS = 10 * 365 * 86400.0


async def _nothing(_: Judge) -> None:
    """It mends itself."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """`happens` in the middle of a stream; `codes` are the errors that the run may end with ("" for none). With
    `stays`, the next run must end with one of them too, until `mend`.
    """

    name: str
    happens: Work
    codes: frozenset[str]
    mend: Callable[[Judge], Awaitable[None]] = _nothing
    stays: bool = False


def _codes(*codes: str) -> frozenset[str]:
    return frozenset(codes)


# -- people at the source ----------------------------------------------------------------------------------------


def _snapshots(judge: Judge) -> dict[str, Snap]:
    return judge.world.home.state.nodes[DATASET].snapshots


def _renamed(judge: Judge) -> None:
    nodes = judge.world.home.state.nodes
    node = nodes.pop(DATASET)
    node.name = "tank/moved"
    nodes[node.name] = node
    judge.renamed[DATASET] = node.name


async def _rename_back(judge: Judge) -> None:
    await judge.world.home.rename("tank/moved", DATASET)
    judge.renamed.clear()


def _refused_while_sending(names: tuple[str, ...]) -> Work:
    """ZFS refuses to destroy what is held or being sent; that is what holds are for."""

    def destroy(judge: Judge) -> None:
        for name in names:
            snap = _snapshots(judge)[name]
            if not snap.holds and not snap.sending:
                raise Broken(f"@{name} could be destroyed while it is needed")

    return destroy


def _destroyed(name: str) -> Work:
    """The pruner of another program takes what nothing holds."""

    def destroy(judge: Judge) -> None:
        snap = _snapshots(judge)[name]
        if not snap.holds:
            judge.destroyed.add(_snapshots(judge).pop(name).guid)

    return destroy


def _rolled_back(judge: Judge) -> None:
    """``zfs rollback -r @a``: refused while anything newer is held."""
    newer = [snap for name, snap in _snapshots(judge).items() if name != "a"]
    if not any(snap.holds or snap.sending for snap in newer):
        raise Broken("the dataset could be rolled back behind what is being sent")


def _key_unloaded(judge: Judge) -> None:
    judge.world.home.unload_key(DATASET)


# -- pools -------------------------------------------------------------------------------------------------------


def _suspended(side: str) -> Work:
    return lambda judge: _disk(judge, side).suspend("tank" if side == "home" else "vault")


def _resumed(side: str) -> Callable[[Judge], Awaitable[None]]:
    async def resume(judge: Judge) -> None:
        _disk(judge, side).resume("tank" if side == "home" else "vault")

    return resume


def _exported(side: str) -> Work:
    def export(judge: Judge) -> None:
        disk, pool = _disk(judge, side), "tank" if side == "home" else "vault"
        judge.away[side] = (pool, disk.state.sizes.pop(pool))

    return export


def _imported(side: str) -> Callable[[Judge], Awaitable[None]]:
    async def bring(judge: Judge) -> None:
        pool, size = judge.away.pop(side)
        _disk(judge, side).state.sizes[pool] = size

    return bring


def _full(judge: Judge) -> None:
    state = judge.world.cloud.state
    state.sizes["vault"] = state.used("vault")


async def _more_disks(judge: Judge) -> None:
    judge.world.cloud.state.sizes["vault"] = 1 << 30


def _over_quota(judge: Judge) -> None:
    root = REPLICA.removesuffix(f"/{DATASET}")
    judge.world.cloud.state.nodes[root].properties["quota"] = str(judge.world.cloud.state.used(root))


async def _no_quota(judge: Judge) -> None:
    del judge.world.cloud.state.nodes[REPLICA.removesuffix(f"/{DATASET}")].properties["quota"]


def _readonly(judge: Judge) -> None:
    judge.world.cloud.make_readonly("vault")


async def _writable(judge: Judge) -> None:
    judge.world.cloud.state.readonly.clear()


def _disk(judge: Judge, side: str) -> FakeZfs:
    return judge.world.home if side == "home" else judge.world.cloud


# -- the replica, and the time -------------------------------------------------------------------------------------


def _jumps(seconds: float) -> Work:
    def jump(judge: Judge) -> None:
        judge.world.clock.now += seconds

    return jump


def _deaf(judge: Judge) -> None:
    """Nothing reaches the target any more."""
    judge.port = judge.world.port
    judge.world.port = 1


async def _hears_again(judge: Judge) -> None:
    judge.world.port = judge.port


TROUBLES = (
    Trouble("dataset renamed", _renamed, _codes("", "no_dataset", "interrupted"), _rename_back, stays=True),
    Trouble("what is sent destroyed", _refused_while_sending(("a", "b")), _codes("")),
    Trouble("a later one destroyed", _destroyed("d"), _codes("", "plan_stale")),
    Trouble("the next one destroyed", _destroyed("c"), _codes("", "plan_stale", "zfs_failed")),
    Trouble("rolled back", _rolled_back, _codes("")),
    Trouble("key unloaded", _key_unloaded, _codes("")),
    Trouble("source suspended", _suspended("home"), _codes("pool_unavailable", "interrupted"), _resumed("home")),
    Trouble("source exported", _exported("home"), _codes("no_dataset", "interrupted"), _imported("home")),
    Trouble("target suspended", _suspended("cloud"), _codes("pool_unavailable"), _resumed("cloud")),
    Trouble("target exported", _exported("cloud"), _codes("plan_stale", "interrupted"), _imported("cloud")),
    Trouble("target full", _full, _codes("target_full"), _more_disks),
    Trouble("over quota", _over_quota, _codes("target_full"), _no_quota),
    Trouble("target read-only", _readonly, _codes("read_only"), _writable),
    Trouble("clock ten years on", _jumps(YEARS), _codes("")),
    Trouble("clock ten years back", _jumps(-YEARS), _codes("")),
    Trouble("partition", _deaf, _codes("", "peer_unreachable"), _hears_again),
)  # fmt: skip


# -- agents of other versions -----------------------------------------------------------------------------------------


def with_more(value: Any) -> Any:
    """As a newer agent says it: fields that this one does not know, in every object but those with datasets as keys."""
    match value:
        case dict() if all("/" in key for key in value):
            return {key: with_more(one) for key, one in value.items()}
        case dict():
            return {key: with_more(one) for key, one in value.items()} | {"of_later": {"x": [1]}}
        case list():
            return [with_more(one) for one in value]
    return value


def fields_of(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The paths of all fields in it; [] for the objects of a list."""
    match value:
        case dict():
            own = {(*path, key) for key in value}
            return own.union(*(fields_of(one, (*path, key)) for key, one in value.items()))
        case list():
            return set().union(*(fields_of(one, (*path, "[]")) for one in value))
    return set()


def without(value: Any, path: tuple[str, ...]) -> Any:
    """As an older agent says it: without the field at *path*."""
    match value:
        case dict() if len(path) == 1:
            return {key: one for key, one in value.items() if key != path[0]}
        case dict() if path[0] in value:
            return value | {path[0]: without(value[path[0]], path[1:])}
        case list() if path[0] == "[]" and len(path) > 1:
            return [without(one, path[1:]) for one in value]
    return value


# -- one of them ------------------------------------------------------------------------------------------------------


async def live_through(trouble: Trouble, judge: Judge) -> None:
    """Raises Broken."""
    world = judge.world
    world.obey(RuleSpec(DATASET, "cloud"))
    await world.encrypted()
    await judge.snap("a", data=random.Random(1).randbytes(100 * KB))
    await world.run()
    await judge.snap("b", "c", "d", data=random.Random(2).randbytes(100 * KB))
    broken: list[Broken] = []

    def happens() -> None:
        try:
            trouble.happens(judge)
        except Broken as error:
            broken.append(error)

    tap: Any = world.sending.streams
    tap.meanwhile = happens
    await _ends_with(trouble.codes, judge)
    assert tap.meanwhile is None, "no stream was sent"
    if broken:
        raise broken[0]
    if trouble.stays:
        world.clock.now += 300
        await _ends_with(trouble.codes - {""}, judge)
    await trouble.mend(judge)
    for _ in range(4):
        world.clock.now += 300
        await world.run()
        judge.look()
    await _ends_with(_codes(""), judge)
    judge.at_rest()


async def _ends_with(codes: frozenset[str], judge: Judge) -> None:
    outcomes = await judge.world.run()
    judge.look()
    for job in judge.world.replicator.jobs:
        outcome = outcomes[job.dataset, job.target]
        code = outcome.code if isinstance(outcome, MeshkeepError) else ""
        if code not in codes:
            raise Broken(f"the run ended with {code or 'success'} ({outcome}) and not {sorted(codes)}")
        judge.after(job, failed=bool(code))
