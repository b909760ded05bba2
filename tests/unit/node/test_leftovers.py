"""What earlier rules left behind: released when it is surely nobody's, and never by a configuration with mistakes."""

from pathlib import Path

import pytest

from node.leftovers import Leftovers, Nodes
from node.replicator import RuleSpec
from replication.guard import cursor_name, hold_tag
from tests.fakes.mesh import request
from tests.fakes.pair import CLOUD, NEIGHBOUR, Pair
from zfs.names import pool_of

DAY = 86400


class World:
    """home, with a hold and a cursor for cloud and for the neighbour on tank/home@a."""

    def __init__(self, path: Path) -> None:
        self.pair = Pair(path)
        self.nodes: Nodes | None = Nodes({CLOUD: "cloud", NEIGHBOUR: "nas"}, {})
        self.sound = True
        self.passed_over: list[str] = []
        self.leftovers = Leftovers(
            self.pair.home,
            self.pair.replicator,
            nodes=lambda: self.nodes,
            sound=lambda: self.sound,
            passed_over=lambda: self.passed_over,
            now=self.pair.clock,
        )

    async def begin(self, dataset: str = "tank/home") -> None:
        await self.pair.encrypted(dataset)
        await self.pair.snap("a", dataset=dataset)
        guid = self.pair.home.state.snap(f"{dataset}@a").guid
        for node in (CLOUD, NEIGHBOUR):
            await self.pair.home.hold(hold_tag(node), [f"{dataset}@a"])
            await self.pair.home.bookmark(f"{dataset}@a", f"{dataset}#{cursor_name(node, guid)}")
        await self.pair.home.hold("mine", [f"{dataset}@a"])

    async def left(self, dataset: str = "tank/home") -> tuple[list[str], list[str]]:
        """Whose holds and whose cursors there are."""
        tags = await self.pair.home.holds(f"{dataset}@a")
        marks = await self.pair.home.bookmarks(dataset)
        nodes = (CLOUD, NEIGHBOUR)
        return (
            [node for node in nodes if hold_tag(node) in tags],
            [node for node in nodes if any(f"_{node}_" in mark.name for mark in marks)],
        )


BOTH = [CLOUD, NEIGHBOUR]


@pytest.fixture
async def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    await made.begin()
    made.pair.replicator.configure([RuleSpec("tank/home", "cloud")])
    return made


async def test_a_removed_rule_holds_nothing_and_could_still_come_back(world: World) -> None:
    (found,) = await world.leftovers.reconcile()
    assert (found.target_id, found.certain) == (NEIGHBOUR, True)
    assert await world.left() == ([CLOUD], BOTH)
    assert "mine" in await world.pair.home.holds("tank/home@a")


async def test_in_the_end_its_cursor_goes_too(world: World) -> None:
    world.pair.clock.now += 15 * DAY
    await world.leftovers.reconcile()
    assert await world.left() == ([CLOUD], [CLOUD])
    assert await world.leftovers.reconcile() == ()


async def test_of_an_evicted_node_nothing_stays_even_if_a_rule_has_its_name(world: World) -> None:
    world.nodes = Nodes({NEIGHBOUR: "nas"}, {CLOUD: "cloud"})
    world.pair.replicator.configure([RuleSpec("tank/home", "cloud"), RuleSpec("tank/home", "nas")])
    await world.leftovers.reconcile()
    assert await world.left() == ([NEIGHBOUR], [NEIGHBOUR])


async def test_before_the_mesh_is_known_nothing_is_released(world: World) -> None:
    world.nodes = None
    assert await world.leftovers.reconcile(everything=True) == ()
    assert await world.left() == (BOTH, BOTH)


async def test_a_bad_configuration_releases_nothing(world: World) -> None:
    world.sound = False
    world.pair.replicator.configure([])
    assert await world.leftovers.reconcile(everything=True) == ()
    assert await world.left() == (BOTH, BOTH)


async def test_a_dataset_that_is_being_sent_is_left_alone(world: World) -> None:
    async with world.pair.replicator.job("tank/home", "cloud").lock:
        await world.leftovers.reconcile()
    assert await world.left() == (BOTH, BOTH)


async def test_a_paused_rule_and_one_over_a_tree_name_their_targets(world: World) -> None:
    world.pair.replicator.configure(
        [RuleSpec("tank/home", "cloud", paused=True), RuleSpec("tank", "nas", recursive=True)]
    )
    assert await world.leftovers.reconcile() == ()
    assert await world.left() == (BOTH, BOTH)


async def test_what_a_tree_excludes_is_nobodys(world: World) -> None:
    world.pair.replicator.configure(
        [RuleSpec("tank/home", "cloud"), RuleSpec("tank", "nas", recursive=True, exclude=("tank/home",))]
    )
    await world.leftovers.reconcile()
    assert await world.left() == ([CLOUD], BOTH)


async def test_what_names_a_node_that_the_mesh_never_had_waits_for_a_person(world: World) -> None:
    world.nodes = Nodes({CLOUD: "cloud"}, {})
    (found,) = await world.leftovers.reconcile()
    assert not found.certain
    assert await world.left() == (BOTH, BOTH)
    shown = await world.leftovers.verb(request())
    assert [one["target"] for one in shown["leftovers"]] == [NEIGHBOUR]
    assert await world.left() == (BOTH, BOTH)
    await world.leftovers.verb(request(release=True))
    assert await world.left() == ([CLOUD], [CLOUD])


async def test_what_is_kept_for_others_is_not_looked_at(world: World) -> None:
    world.passed_over = [pool_of("tank/home")]
    assert await world.leftovers.find() == ()
