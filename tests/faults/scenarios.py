"""What home has to do when a fault strikes: each makes the situation in which one round of runs begins."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from node.replicator import RuleSpec
from replication.guard import hold_tag
from tests.fakes.pair import CLOUD, HOME, ROOT
from tests.faults.judge import Judge
from tests.faults.points import Point, Strike

KB = 1024
REPLICA = f"{ROOT}/{HOME}/tank/home"
CLOUD_ONLY = (RuleSpec("tank/home", "cloud"),)


@dataclass(frozen=True, slots=True)
class Scenario:
    """`prepare` begins with an empty home and no fault; `mend` is what a person does about a conflict."""

    name: str
    prepare: Callable[[Judge], Awaitable[None]]
    rules: tuple[RuleSpec, ...] = CLOUD_ONLY
    mend: Callable[[Judge], Awaitable[None]] | None = None


async def first(judge: Judge) -> None:
    await judge.world.encrypted()
    await judge.snap("a", data=b"x" * 100 * KB)


async def first_three(judge: Judge) -> None:
    await first(judge)
    await judge.snap("b", "c")


async def chain(judge: Judge) -> None:
    """Five steps to go."""
    await first(judge)
    await judge.world.run()
    await judge.snap("b", "c", "d", "e", "f")


async def from_a_bookmark(judge: Judge) -> None:
    await first(judge)
    await judge.world.run()
    await judge.snap("b", "c")
    assert await judge.destroy("tank/home", "a") == ["a"]


async def base_only_held(judge: Judge) -> None:
    """As a replica that was adopted has it: a hold, and no bookmark yet."""
    await first(judge)
    await judge.world.run()
    await judge.snap("b", "c")
    await judge.world.home.hold(hold_tag(CLOUD), ["tank/home@a"])
    marks = await judge.world.home.bookmarks("tank/home")
    await judge.world.home.destroy_bookmarks([mark.full_name for mark in marks])


async def _cut(judge: Judge, number: int = 0) -> None:
    """A run whose stream *number* breaks off in the middle."""
    script = judge.world.script
    script.arm(Strike(Point("home", "stream", "send", number, 0.5), "cut"))
    await judge.world.run()
    script.disarm()
    assert not script.left, "nothing was cut"


async def resume_the_first(judge: Judge) -> None:
    await first(judge)
    await judge.snap("b")
    await _cut(judge)


async def resume_in_a_chain(judge: Judge) -> None:
    await first(judge)
    await judge.world.run()
    await judge.snap("b", "c", "d", data=b"y" * 50 * KB)
    await _cut(judge, 1)


async def begun_and_gone(judge: Judge) -> None:
    """What was partly received is gone from the source: somebody released it by hand."""
    await resume_in_a_chain(judge)
    partial = judge.world.cloud.state.nodes[REPLICA].partial
    assert partial is not None
    snapshots = judge.world.home.state.nodes["tank/home"].snapshots
    (name,) = [name for name, snap in snapshots.items() if snap.guid == partial.to_guid]
    for tag in list(snapshots[name].holds):
        await judge.world.home.release(tag, [f"tank/home@{name}"])
    assert await judge.destroy("tank/home", name) == [name]


async def conflict(judge: Judge) -> None:
    """Somebody made a snapshot of the replica."""
    await first(judge)
    await judge.world.run()
    await judge.snap("b")
    cloud = judge.world.cloud
    await cloud.snapshot([f"{REPLICA}@mine"])
    judge.strangers.add(cloud.state.nodes[REPLICA].snapshots["mine"].guid)


async def undo_conflict(judge: Judge) -> None:
    assert not await judge.world.cloud.destroy_snapshots([f"{REPLICA}@mine"])


async def tree(judge: Judge) -> None:
    await judge.world.encrypted()
    await judge.world.home.create("tank/home/child", {})
    for dataset in ("tank/home", "tank/home/child"):
        await judge.snap("a", "b", dataset=dataset)


async def two_targets(judge: Judge) -> None:
    await first(judge)
    await judge.world.run()
    await judge.snap("b", "c")


async def up_to_date(judge: Judge) -> None:
    await first_three(judge)
    await judge.world.run()


async def a_name_again(judge: Judge) -> None:
    await first(judge)
    await judge.snap("daily")
    await judge.world.run()
    await judge.snap("b")
    await judge.destroy("tank/home", "daily")
    await judge.snap("daily")


async def plain(judge: Judge) -> None:
    judge.world.role = "member"
    await judge.world.home.create("tank/home", {})
    await judge.snap("a", "b", data=b"x" * 10 * KB)


async def leftovers(judge: Judge) -> None:
    """Holds and bookmarks of a run that died between its second and third step."""
    await chain(judge)
    script = judge.world.script
    script.arm(Strike(Point("cloud", "door", "hold", 1), "other"))
    await judge.world.run()
    script.disarm()
    await judge.world.revive()


SCENARIOS = (
    Scenario("first", first),
    Scenario("first of three", first_three),
    Scenario("newest only", first_three, (RuleSpec("tank/home", "cloud", initial="newest"),)),
    Scenario("chain of five", chain),
    Scenario("from a bookmark", from_a_bookmark),
    Scenario("base only held", base_only_held),
    Scenario("resume the first", resume_the_first),
    Scenario("resume in a chain", resume_in_a_chain),
    Scenario("begun and gone", begun_and_gone),
    Scenario("conflict", conflict, mend=undo_conflict),
    Scenario("a name again", a_name_again),
    Scenario("plain to a member", plain, (RuleSpec("tank/home", "cloud", allow_plaintext=True),)),
    Scenario("leftovers", leftovers),
    Scenario("parent and child", tree, (RuleSpec("tank/home", "cloud", recursive=True),)),
    Scenario("two targets", two_targets, (RuleSpec("tank/home", "cloud"), RuleSpec("tank/home", "far"))),
    Scenario("up to date", up_to_date),
)
