"""Whole meshes on the virtual network. Seeds are fixed; `soak` runs more of them, for longer."""

from itertools import product

import pytest

from mesh.simulation import Weather, World

SEEDS = [1, 2, 3]
LONG = pytest.mark.soak


def met(world: World) -> World:
    took = world.run_until(world.all_see_all, 60)
    assert world.all_see_all()
    assert took < 5
    return world


@pytest.mark.parametrize(("nodes", "seed"), [*product([2, 3, 5, 16], SEEDS), pytest.param(40, 1, marks=LONG)])
def test_everybody_is_soon_alive_to_everybody(nodes: int, seed: int) -> None:
    world = met(World(nodes, seed))
    world.run(60)
    assert world.all_see_all()
    assert {seen.event.kind for seen in world.seen} == {"alive"}


@pytest.mark.parametrize("seed", SEEDS)
def test_a_vault_is_alive_to_all_and_all_to_it(seed: int) -> None:
    world = World(5, seed, Weather(loss=0.05), vaults=2)
    vaults = world.ids[3:]
    world.run(300)
    assert all(world.views(id) <= {"alive", "suspect"} for id in world.ids[:3])
    assert all(world.cores[v].states()[m].state == "alive" for v in vaults for m in world.ids[:3])
    assert all(world.cores[v].states()[w].state == "unknown" for v in vaults for w in vaults if v != w)


def test_two_vaults_do_not_know_each_other_so_a_mesh_of_them_is_silent() -> None:
    world = World(3, vaults=3)
    world.run(100)
    assert world.wires.datagrams == 0


@pytest.mark.parametrize(("nodes", "seed"), [*product([2, 3, 8], SEEDS), (40, 1)])
def test_one_that_is_killed_is_down_for_all_within_the_bound(nodes: int, seed: int) -> None:
    bound = {2: 16, 3: 18, 8: 32, 40: 40}[nodes]
    world = met(World(nodes, seed))
    world.run(20)
    assert world.all_see_all()
    assert {seen.event.kind for seen in world.seen} == {"alive"}
    victim = world.ids[0]
    world.kill(victim)
    assert world.run_until(lambda: world.views(victim) == {"down"}, 200) < bound
    assert {seen.event.member for seen in world.downs()} == {victim}


@pytest.mark.parametrize("seed", SEEDS)
def test_half_of_them_killed_are_down_for_the_other_half(seed: int) -> None:
    world = met(World(10, seed))
    victims = world.ids[:5]
    world.kill(*victims)
    world.run_until(lambda: all(world.views(id) == {"down"} for id in victims), 300)
    assert {seen.event.member for seen in world.downs()} == set(victims)
    assert world.all_see_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_good_bye_is_known_to_all_and_nobody_is_down(seed: int) -> None:
    world = met(World(12, seed))
    world.leave(world.ids[3])
    assert world.run_until(lambda: world.views(world.ids[3]) == {"left"}, 30) < 5
    world.run(120)
    assert world.downs() == []
    assert world.views(world.ids[3]) == {"left"}


@pytest.mark.parametrize("incarnation", [0, 1000])
@pytest.mark.parametrize("seed", SEEDS)
def test_one_that_starts_again_without_memory_is_alive_again(seed: int, incarnation: int) -> None:
    world = met(World(6, seed))
    for end in (world.kill, world.leave):
        end(world.ids[2])
        world.run(100)
        world.boot(world.ids[2], incarnation + int(world.now) if incarnation else 0)
        assert world.run_until(world.all_see_all, 120) < 10


@pytest.mark.parametrize("hours", [0.2, pytest.param(24, marks=LONG)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_partition_heals_without_a_seed_however_long_it_was(seed: int, hours: float) -> None:
    world = met(World(9, seed))
    world.cut(world.ids[:4], world.ids[4:])
    world.run(hours * 3600)
    for n, id in enumerate(world.ids):
        across = world.ids[4:] if n < 4 else world.ids[:4]
        assert {world.cores[id].states()[other].state for other in across} == {"down"}
    world.heal()
    assert world.run_until(world.all_see_all, 1000) < 305
    world.run(100)
    assert world.all_see_all()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_node_reachable_only_through_another_is_alive(seed: int) -> None:
    world = met(World(5, seed))
    a, b = world.ids[:2]
    world.cut([a], [b])
    world.run(600)
    assert world.downs() == []
    assert world.cores[a].states()[b].via == "indirect"
    assert world.cores[b].states()[a].via == "indirect"


@pytest.mark.parametrize("minutes", [4, pytest.param(600, marks=LONG)])
@pytest.mark.parametrize("nodes", [2, 4, 10])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fifth_of_all_datagrams_lost_makes_nobody_down(nodes: int, seed: int, minutes: int) -> None:
    world = World(nodes, seed, Weather(loss=0.2))
    world.run(minutes * 60)
    assert world.downs() == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_host_that_slept_a_little_takes_nobody_for_dead(seed: int) -> None:
    world = met(World(6, seed))
    world.stall(world.ids[0], 40)
    world.run(120)
    assert {seen.observer for seen in world.downs()}.isdisjoint({world.ids[0]})
    assert world.all_see_all()


def test_the_same_seed_is_the_same_run_to_the_byte() -> None:
    def trace(seed: int) -> str:
        world = World(8, seed, Weather(loss=0.1), vaults=1)
        world.run(60)
        world.kill(world.ids[1])
        world.run(120)
        return world.trace.hexdigest()

    assert trace(1) == trace(1) != trace(2)


def test_what_it_costs_does_not_grow_with_the_mesh() -> None:
    for nodes in (3, 30):
        world = met(World(nodes))
        world.run(60)
        before = world.wires.total
        world.run(60)
        assert (world.wires.total - before) / nodes / 60 < 260  # bytes a second a node


@LONG
@pytest.mark.parametrize("seed", range(100))
def test_any_day_of_cuts_and_kills_ends_with_all_alive_to_all(seed: int) -> None:
    world = World(12, seed, Weather(loss=0.05), vaults=1)
    for _ in range(10):
        world.run(world.rng.uniform(10, 300))
        victim = world.rng.choice(world.ids)
        some = world.rng.sample(world.ids, 5)
        world.cut(some, [id for id in world.ids if id not in some])
        world.kill(victim)
        world.run(world.rng.uniform(10, 600))
        world.boot(victim, int(world.now))
        world.heal()
    world.wires.weather = Weather()
    members = world.ids[:-1]
    world.run(400)
    for id in world.ids:
        assert {world.cores[m].states()[id].state for m in members if m != id} == {"alive"}, seed
