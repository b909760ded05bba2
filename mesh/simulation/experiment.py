"""One measured run of a simulated mesh: how soon it meets, notices a death, spreads it, heals, and what that costs."""

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from mesh.simulation.world import Seen, Weather, World
from mesh.swim import SwimConfig

SETTLE = 60.0
PATIENCE = 3600.0
"""Seconds of the mesh after which something that was waited for counts as never having happened."""

AWAKE = (0.5, 4.0)
BLOCKED = (0.5, 4.0)
"""Seconds that a slow member works and stands still by turns (the anomalies of Lifeguard, §5)."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is done: `kills` one after the other, each back when all know; `partition` is (how many nodes, seconds)."""

    nodes: int
    seed: int = 1
    weather: Weather = field(default_factory=Weather)
    kills: int = 0
    partition: tuple[int, float] | None = None
    slow: int = 0
    vaults: int = 0
    minutes: float = 10.0
    config: SwimConfig = field(default_factory=SwimConfig)


@dataclass(slots=True)
class Death:
    """One kill. Seconds from then: the first suspicion, and when each of the others knew."""

    victim: str
    at: float
    suspected: float | None = None
    known: list[float] = field(default_factory=list)
    others: int = 0

    @property
    def known_by_all(self) -> float | None:
        """None where somebody never knew."""
        return self.known[-1] if self.known and len(self.known) >= self.others else None


@dataclass(slots=True)
class Outcome:
    """What was seen. Rates are of the quiet minutes, a second and node; bytes count every header on the wire."""

    experiment: Experiment
    converged: float | None = None
    deaths: list[Death] = field(default_factory=list)
    healed: float | None = None
    false_downs: int = 0
    false_downs_of_slow: int = 0
    false_suspicions: int = 0
    node_hours: float = 0.0
    bytes: float = 0.0
    datagrams: float = 0.0
    handshakes: float = 0.0
    simulated: float = 0.0
    trace: str = ""

    def as_json(self) -> dict[str, Any]:
        """Stable: see docs/mesh.md for the meaning of each."""
        first = [death.suspected for death in self.deaths if death.suspected is not None]
        everyone = [death.known_by_all for death in self.deaths if death.known_by_all is not None]
        config = self.experiment.config
        return {
            "schema": "meshkeep.simulate/1",
            "nodes": self.experiment.nodes,
            "seed": self.experiment.seed,
            "loss": self.experiment.weather.loss,
            "slow": self.experiment.slow,
            "vaults": self.experiment.vaults,
            "period_s": config.period,
            "suspicion_min_s": _rounded(shortest_suspicion(config, self.experiment.nodes)),
            "simulated_s": _rounded(self.simulated),
            "converged_s": _rounded(self.converged),
            "kills": len(self.deaths),
            "never_suspected": len(self.deaths) - len(first),
            "never_known_by_all": len(self.deaths) - len(everyone),
            "detect_first_s": spread_of(first),
            "detect_all_s": spread_of(everyone),
            "healed_s": _rounded(self.healed),
            "false_positives": self.false_downs,
            "false_positives_slow": self.false_downs_of_slow,
            "false_suspicions": self.false_suspicions,
            "node_hours": _rounded(self.node_hours),
            "bytes_per_node_s": _rounded(self.bytes),
            "datagrams_per_node_s": _rounded(self.datagrams),
            "handshakes_per_node_s": _rounded(self.handshakes),
            "trace": self.trace,
        }


def shortest_suspicion(config: SwimConfig, nodes: int) -> float:
    """Seconds that a confirmed suspicion lasts in a mesh of so many."""
    return config.suspicion_min * max(1.0, math.log10(nodes)) * config.period


def spread_of(values: Sequence[float]) -> dict[str, float | None]:
    """Mean, median and 99th percentile (nearest rank); None of nothing."""
    if not values:
        return {"mean": None, "p50": None, "p99": None}
    ordered = sorted(values)

    def rank(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)]

    return {
        "mean": _rounded(sum(ordered) / len(ordered)),
        "p50": _rounded(rank(0.5)),
        "p99": _rounded(rank(0.99)),
    }


def run(experiment: Experiment) -> Outcome:
    """All of it, from an empty mesh on."""
    return _Run(experiment).all()


class _Run:
    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._rng = random.Random(f"experiment {experiment.seed}")
        self._outcome = Outcome(experiment)
        self._world = World(
            experiment.nodes,
            experiment.seed,
            experiment.weather,
            experiment.vaults,
            experiment.config,
            remember=False,
        )
        self._slow = frozenset(self._world.ids[: experiment.slow])
        self._death: Death | None = None
        self._cut = False
        self._world.watchers.append(self._watch)

    def all(self) -> Outcome:
        world, outcome = self._world, self._outcome
        outcome.converged = self._until_all_see_all()
        for id in sorted(self._slow):
            self._doze(id)
        world.run(SETTLE)
        self._quiet_minutes()
        for _ in range(self._experiment.kills):
            self._kill_one()
        if self._experiment.partition is not None:
            self._part(*self._experiment.partition)
        outcome.simulated, outcome.trace = world.now, world.trace.hexdigest()
        outcome.node_hours = world.now * self._experiment.nodes / 3600
        return outcome

    def _quiet_minutes(self) -> None:
        world, seconds = self._world, self._experiment.minutes * 60
        if seconds <= 0:
            return
        before = world.wires.total, world.wires.datagrams, world.wires.handshakes
        world.run(seconds)
        after = world.wires.total, world.wires.datagrams, world.wires.handshakes
        rates = [(b - a) / seconds / self._experiment.nodes for a, b in zip(before, after, strict=True)]
        self._outcome.bytes, self._outcome.datagrams, self._outcome.handshakes = rates

    def _kill_one(self) -> None:
        world = self._world
        world.run(self._rng.uniform(1, 2) * self._experiment.config.period)
        # A vault knows its callers by ear alone, so it is neither killed nor asked.
        members = [id for id in world.names() if id not in self._slow and not world.peers[id].quiet]
        victim = self._rng.choice(members)
        witnesses = sum(not world.peers[id].quiet for id in world.cores) - 1
        self._death = Death(victim, world.now, others=witnesses)
        self._outcome.deaths.append(self._death)
        world.kill(victim)
        world.run_until(lambda: self._death is not None and len(self._death.known) >= witnesses, PATIENCE)
        self._death = None
        world.boot(victim, int(world.now))
        self._until_all_see_all()

    def _part(self, count: int, seconds: float) -> None:
        world = self._world
        some = self._rng.sample(sorted(world.cores), min(count, len(world.cores)))
        self._cut = True
        world.cut(some, [id for id in world.names() if id not in some])
        world.run(seconds)
        world.heal()
        self._outcome.healed = self._until_all_see_all()
        self._cut = False

    def _until_all_see_all(self) -> float | None:
        """How long it took until every member held every other alive, slow ones and vaults left out."""
        world = self._world
        members = [id for id in world.ids if id not in self._slow and not world.peers[id].quiet]

        def met() -> bool:
            running = sum(not world.peers[id].quiet for id in world.cores) - 1
            return all(self._seen_alive(id) >= running for id in members if id in world.cores)

        took = world.run_until(met, PATIENCE)
        return took if met() else None

    def _seen_alive(self, id: str) -> int:
        """By how many; a suspicion of one that stands still now and then is none of its death."""
        suspected = self._world.count(id, "suspect") if self._slow else 0
        return self._world.count(id, "alive") + suspected

    def _doze(self, id: str) -> None:
        world = self._world
        world.stall(id, self._rng.uniform(*BLOCKED))
        awake_at = world.now + self._rng.uniform(*BLOCKED) + self._rng.uniform(*AWAKE)
        world.later(awake_at, lambda: self._doze(id))

    def _watch(self, seen: Seen) -> None:
        event, death = seen.event, self._death
        if death is not None and event.member == death.victim:
            if event.kind == "suspected" and death.suspected is None:
                death.suspected = seen.at - death.at
            if event.kind == "down" and not self._world.peers[seen.observer].quiet:
                death.known.append(seen.at - death.at)
            return
        if self._cut or event.member not in self._world.cores:
            return
        if event.kind == "suspected":
            self._outcome.false_suspicions += 1
        elif event.kind == "down" and event.member in self._slow:
            self._outcome.false_downs_of_slow += 1
        elif event.kind == "down":
            self._outcome.false_downs += 1


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)


def curves(deaths: Iterable[Death]) -> list[list[tuple[float, float]]]:
    """For each death the share of the others that knew, by the seconds since."""
    return [
        [(0.0, 0.0), *((at, (n + 1) / death.others) for n, at in enumerate(death.known))]
        for death in deaths
        if death.others
    ]
