"""The metrics: what Prometheus's own strict parsers read of them, where they come from, and who may read them."""

import asyncio
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from mesh.swim import MemberState
from node.cli.root import COMMANDS
from node.errors import MeshkeepError
from node.job import Job, RuleSpec
from node.metric_facts import (
    DrillFacts,
    Facts,
    NodeFacts,
    Pools,
    ReplicaFacts,
    Snapshots,
    StoredFacts,
)
from node.metrics import FAMILIES, POOL_STATES, REPLICA_STATES, dataset_facts, exposition
from node.metrics_server import Metrics, Sources
from node.settings import parse
from node.settings_model import PolicySection, PoolSection
from node.status import Problem
from policy.naming import snapshot_name
from policy.rules import Assignment, Chosen, Limit, Monitor, Policy, Resolution, resolve
from tests.fakes.mesh import BEGAN, Host, Street
from tests.fakes.zfs import FakeZfs
from zfs import errors
from zfs.model import PoolStatus, Snapshot, Vdev

ROOT = Path(__file__).parents[3]
NOW = 1_800_000_000
HOUR = 3600
POLICY = Policy(name="p", hourly=24, daily=0, monthly=0)

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Samples:
    """Every sample by name and labels, as the parser of the text format has it; none comes twice."""
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in ("gauge", "counter"), family.name
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def told(**facts: Any) -> Samples:
    return read(exposition(Facts(NOW, "1.2.0", "3.13.5", **facts)).decode())


def snapshot(dataset: str, name: str, at: int) -> Snapshot:
    return Snapshot(dataset, name, at, at, at)


def hourly(dataset: str, at: int) -> Snapshot:
    return snapshot(dataset, snapshot_name("hourly", at), at)


POOL = PoolStatus(
    "tank", "DEGRADED", (Vdev("tank", "DEGRADED"), Vdev("sda", "FAULTED", 1, 2, 3)), NOW - 9, 1000, 400, 60
)
REPLICA = ReplicaFacts(
    *("tank/a", "cloud", "ok", 86400, NOW - 60, 2, 12345),
    pinned=77,
    resumed=3,
    outcome="ok",
    seconds=5,
    run_bytes=99,
)
DRILL = DrillFacts("tank/a", "cloud", NOW - 900, 40 * 86400, False, 4096)
FULL: dict[str, Any] = {
    "zfs": "2.3.9-1",
    "snapshots": Snapshots(
        NOW - 30,
        (dataset_facts("tank/a", Chosen(POLICY, "why"), [hourly("tank/a", NOW - HOUR)], ()),),
        ("tank/gone",),
    ),
    "pools": Pools(NOW - 20, (POOL,)),
    "reloaded": NOW - 100,
    "nodes": (
        NodeFacts("home", "admin", "alive", True, "direct"),
        NodeFacts("cloud", "vault", "down", False, "none", NOW - 500, 0.025),
        NodeFacts("new", "member", "unknown", None, "none"),
    ),
    "replicas": (REPLICA,),
    "drills": (DRILL,),
    "stored": (StoredFacts("nas", 5000, 7),),
    "refused": {"key_changed": 2},
    "keys_waiting": {"nas": 1},
    "waiting": {"tank/b": 40},
    "problems": {"snapshot_failed": 2},
    "pruned": {"tank/a": 7},
    "unpruned": {"tank/a": 1},
}


class TestCopies:
    """What is told of runs, of drills, and of what is stored for others."""

    def test_of_the_last_run(self) -> None:
        samples = told(replicas=(REPLICA,))
        labels = {"dataset": "tank/a", "node": "cloud"}
        for name, wanted in (
            ("meshkeep_replication_last_run_seconds", 5),
            ("meshkeep_replication_last_run_bytes", 99),
            ("meshkeep_replication_pinned_bytes", 77),
            ("meshkeep_replication_resumed_total", 3),
        ):
            assert value(samples, name, **labels) == wanted, name

    @pytest.mark.parametrize(
        ("outcome", "said"), [("ok", "ok"), ("waiting", "waiting"), ("key_changed", "failed")]
    )
    def test_outcomes_are_three_however_many_codes_there_are(self, outcome: str, said: str) -> None:
        samples = told(replicas=(replace(REPLICA, outcome=outcome),))
        found = {dict(key[1])["outcome"]: one for key, one in samples.items() if key[0].endswith("_last_run")}
        assert found == {one: float(one == said) for one in ("ok", "waiting", "failed")}

    def test_before_the_first_run_there_is_no_outcome(self) -> None:
        samples = told(replicas=(replace(REPLICA, outcome="", seconds=None, run_bytes=None),))
        assert not [key for key in samples if "last_run" in key[0]]

    def test_of_drills(self) -> None:
        samples = told(drills=(DRILL, replace(DRILL, node="nas", proven=None, failed=True, bytes_read=None)))
        last = "meshkeep_restore_drill_last_success_timestamp_seconds"
        assert value(samples, last, dataset="tank/a", node="cloud") == NOW - 900
        assert value(samples, last, dataset="tank/a", node="nas") is None
        failed = [
            value(samples, "meshkeep_restore_drill_failed", dataset="tank/a", node=node)
            for node in ("cloud", "nas")
        ]
        assert failed == [0, 1]

    def test_of_what_is_stored_here(self) -> None:
        samples = told(
            stored=(StoredFacts("nas", 5000),), refused={"key_changed": 2}, keys_waiting={"nas": 1}
        )
        assert value(samples, "meshkeep_stored_bytes", owner="nas") == 5000
        assert value(samples, "meshkeep_stored_held_snapshots", owner="nas") is None
        assert value(samples, "meshkeep_stored_refused_total", code="key_changed") == 2
        assert value(samples, "meshkeep_stored_keys_waiting", owner="nas") == 1


class TestTheText:
    def test_every_metric_has_samples_once_all_is_known(self) -> None:
        text = exposition(Facts(NOW, "1.2.0", "3.13.5", **FULL)).decode()
        read(text)
        named = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
        assert named == {family.name for family in FAMILIES}

    def test_passes_the_strict_parser_of_openmetrics_too(self) -> None:
        from prometheus_client import CollectorRegistry
        from prometheus_client.openmetrics.exposition import generate_latest

        from node import metrics

        registry = CollectorRegistry()
        registry.register(metrics.Known(Facts(NOW, "1.2.0", "3.13.5", **FULL)))
        text = generate_latest(registry).decode()
        assert len(list(openmetrics.text_string_to_metric_families(text))) == len(FAMILIES)

    def test_names_and_labels_keep_the_conventions(self) -> None:
        for family in FAMILIES:
            assert re.fullmatch(r"meshkeep_[a-z_]+", family.name)
            assert family.name.endswith("_total") == (family.kind == "counter"), family.name
            assert set(family.labels) <= {
                *("dataset", "node", "kind", "pool", "state", "path", "role", "source", "rule", "code"),
                *("owner", "outcome"),
                *("version", "python", "zfs"),
            }
            assert family.help.endswith(".")
        assert len({family.name for family in FAMILIES}) == len(FAMILIES)

    def test_what_is_not_known_has_no_series(self) -> None:
        assert {name for name, _ in told()} == {
            "meshkeep_build_info",
            "meshkeep_config_last_reload_successful",
        }

    def test_odd_names_are_escaped(self) -> None:
        assert (
            value(told(waiting={'tank/a "b" \\c': 1}), "meshkeep_prune_waiting", dataset='tank/a "b" \\c')
            == 1
        )


class TestSnapshots:
    def test_counts_newest_and_limits_by_kind(self) -> None:
        samples = told(**FULL)
        labels = {"dataset": "tank/a", "kind": "hourly"}
        assert value(samples, "meshkeep_snapshots", **labels) == 1
        assert value(samples, "meshkeep_snapshot_last_timestamp_seconds", **labels) == NOW - HOUR
        assert value(samples, "meshkeep_snapshot_late_after_seconds", **labels) == 6 * HOUR
        assert value(samples, "meshkeep_state_age_seconds", source="snapshots") == 30
        assert value(samples, "meshkeep_rules_unmatched", rule="tank/gone") == 1

    def test_what_no_policy_made_is_other(self) -> None:
        history = [hourly("tank/a", NOW - 9), snapshot("tank/a", "mine", NOW), hourly("tank/a", NOW - 99)]
        facts = dataset_facts("tank/a", Chosen(POLICY, "why"), history, ())
        assert facts.counts == {"hourly": 2, "other": 1}
        assert facts.newest == {"hourly": NOW - 9}

    @pytest.mark.parametrize(
        ("monitor", "late"),
        [
            (Monitor(), {"hourly": 6 * HOUR}),
            (Monitor(hourly=Limit(50, 0)), {"hourly": 50}),
            (Monitor(hourly=Limit()), {}),
            (Monitor(monitor=False), {}),
        ],
    )
    def test_late_after_is_the_policys(self, monitor: Monitor, late: dict[str, int]) -> None:
        chosen = Chosen(replace(POLICY, monitor=monitor), "why")
        assert dataset_facts("tank/a", chosen, [], ()).late_after == late

    def test_what_is_skipped_while_unchanged_is_not_late(self) -> None:
        chosen = Chosen(replace(POLICY, skip_unchanged=True), "why")
        history = [hourly("tank/a", NOW - HOUR)]
        assert dataset_facts("tank/a", chosen, history, ["tank/a"]).late_after == {}
        assert dataset_facts("tank/a", chosen, history, []).late_after == {"hourly": 6 * HOUR}
        assert dataset_facts("tank/a", chosen, [], ["tank/a"]).late_after == {"hourly": 6 * HOUR}


class TestReplicas:
    def test_the_metric(self) -> None:
        samples = told(**FULL)
        where = {"dataset": "tank/a", "node": "cloud"}
        assert value(samples, "meshkeep_replica_latest_snapshot_timestamp_seconds", **where) == NOW - 60
        assert value(samples, "meshkeep_replica_late_after_seconds", **where) == 86400
        assert value(samples, "meshkeep_replica_snapshots_behind", **where) == 2
        assert value(samples, "meshkeep_replication_sent_bytes_total", **where) == 12345
        assert value(samples, "meshkeep_replica_state", **where, state="ok") == 1
        assert value(samples, "meshkeep_replica_state", **where, state="failed") == 0

    def test_of_one_that_is_nowhere_yet_nothing_is_made_up(self) -> None:
        samples = told(replicas=[replace(REPLICA, as_of=None, behind=None)])
        names = {name for name, _ in samples}
        assert "meshkeep_replica_latest_snapshot_timestamp_seconds" not in names
        assert "meshkeep_replica_snapshots_behind" not in names
        assert "meshkeep_replica_late_after_seconds" in names

    def test_words_without_end_are_no_labels(self) -> None:
        samples = told(replicas=[replace(REPLICA, state="tank/parent is not there yet")])
        where = {"dataset": "tank/a", "node": "cloud"}
        assert value(samples, "meshkeep_replica_state", **where, state="waiting") == 1
        assert value(samples, "meshkeep_jobs", kind="replicate", state="waiting") == 1
        assert sum(number for (name, _), number in samples.items() if name == "meshkeep_replica_state") == 1


class TestNodesAndPools:
    def test_nodes(self) -> None:
        samples = told(**FULL)
        assert value(samples, "meshkeep_node_up", node="home", role="admin") == 1
        assert value(samples, "meshkeep_node_up", node="cloud", role="vault") == 0
        assert value(samples, "meshkeep_node_up", node="new", role="member") is None
        assert value(samples, "meshkeep_node_path", node="home", path="direct") == 1
        assert value(samples, "meshkeep_node_path", node="cloud", path="direct") == 0
        assert value(samples, "meshkeep_node_last_handshake_timestamp_seconds", node="cloud") == NOW - 500
        assert value(samples, "meshkeep_node_last_handshake_timestamp_seconds", node="new") is None
        assert value(samples, "meshkeep_node_rtt_seconds", node="cloud") == 0.025
        assert [value(samples, "meshkeep_members", state=one) for one in ("alive", "down", "unknown")] == [
            1,
            1,
            1,
        ]

    def test_pools(self) -> None:
        samples = told(**FULL)
        health = {
            state: value(samples, "meshkeep_pool_health", pool="tank", state=state) for state in POOL_STATES
        }
        assert health == {state: float(state == "DEGRADED") for state in POOL_STATES}
        assert value(samples, "meshkeep_pool_size_bytes", pool="tank") == 1000
        assert value(samples, "meshkeep_pool_allocated_bytes", pool="tank") == 600
        assert value(samples, "meshkeep_pool_errors", pool="tank") == 6
        assert value(samples, "meshkeep_pool_last_scrub_timestamp_seconds", pool="tank") == NOW - 9

    def test_a_state_that_is_new_to_us_is_told_all_the_same(self) -> None:
        pool = replace(POOL, state="MELTED", scrub_end=None)
        samples = told(pools=Pools(NOW, (pool,)))
        assert value(samples, "meshkeep_pool_health", pool="tank", state="MELTED") == 1
        assert "meshkeep_pool_last_scrub_timestamp_seconds" not in {name for name, _ in samples}


class World:
    """One host with metrics; nothing listens until it is told to."""

    def __init__(self, path: Path, listen: str | None) -> None:
        self.host = Host(path / "home", Street(), [float(BEGAN)])
        self.zfs = FakeZfs(clock=lambda: self.host.clock[0], pools={"tank": 1 << 20})
        self.listen = listen
        self.rules: list[Assignment] = []
        self.jobs: list[Job] = []
        self.states: dict[str, MemberState] = {}
        self.problems: list[Problem] = []
        self.looks = 0
        self.hangs = False
        sources = Sources(
            resolution=self.resolution,
            histories=self.histories,
            jobs=lambda: self.jobs,
            states=lambda: self.states,
            problems=lambda: self.problems,
            waiting=lambda: {"tank/b": 40},
            pruned=lambda: {"tank/a": 7},
            unpruned=dict,
        )
        self.metrics = Metrics(
            self.zfs,
            self.host.mesh,
            sources,
            listen=lambda: self.listen,
            now=lambda: self.host.clock[0],
            patience=0.2,
        )

    async def resolution(self) -> Resolution:
        self.looks += 1
        if self.hangs:
            await asyncio.Event().wait()
        return resolve(self.rules, [one.name for one in await self.zfs.datasets()])

    async def histories(self, datasets: Iterable[str]) -> Mapping[str, Sequence[Snapshot]]:
        found = await self.zfs.histories(list(datasets))
        return {name: one for name, one in found.items() if not isinstance(one, errors.ZfsError)}

    async def scrape(self, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, f"http://{self.listen}{path}") as answer,
        ):
            return answer.status, answer.headers["Content-Type"], await answer.text()

    async def samples(self) -> Samples:
        return read((await self.scrape())[2])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, f"127.0.0.1:{free_port()}")
    yield made
    made.listen = None
    await made.metrics.settle()


class TestServing:
    async def test_get_metrics_and_nothing_else(self, world: World) -> None:
        await world.metrics.settle()
        status, kind, text = await world.scrape()
        assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
        assert value(read(text), "meshkeep_prune_waiting", dataset="tank/b") == 40
        assert (await world.scrape("/"))[0] == 404
        assert (await world.scrape(method="POST"))[0] == 405

    async def test_a_scrape_never_asks_zfs(self, world: World) -> None:
        await world.metrics.settle()
        await world.metrics.look()
        before = world.looks
        world.zfs.suspend("tank")
        world.host.clock[0] += 77
        samples = await world.samples()
        assert world.looks == before
        assert value(samples, "meshkeep_pool_health", pool="tank", state="ONLINE") == 1
        assert value(samples, "meshkeep_state_age_seconds", source="pools") == 77

    async def test_follows_the_settings(self, world: World) -> None:
        first = world.listen
        await world.metrics.settle()
        world.listen = f"127.0.0.1:{free_port()}"
        await world.metrics.settle()
        assert (await world.scrape())[0] == 200
        world.listen, second = first, world.listen
        with pytest.raises(aiohttp.ClientConnectorError):
            await world.scrape()
        world.listen = None
        await world.metrics.settle()
        world.listen = second
        with pytest.raises(aiohttp.ClientConnectorError):
            await world.scrape()

    async def test_a_port_that_is_taken_is_a_problem_until_it_is_free(self, world: World) -> None:
        assert world.listen is not None
        with socket.socket() as other:
            other.bind(("127.0.0.1", int(world.listen.rpartition(":")[2])))
            other.listen()
            await world.metrics.settle()
            assert world.metrics.problem is not None
            assert world.metrics.problem.code == "metrics_failed"
            assert "address already in use" in world.metrics.problem.text.lower()
        await world.metrics.settle()
        assert world.metrics.problem is None
        assert (await world.scrape())[0] == 200

    @pytest.mark.parametrize("listen", ["0.0.0.0:7481", "[::]:7481", "192.0.2.1:7481", "localhost:7481"])
    async def test_only_on_loopback_or_in_the_mesh(self, tmp_path: Path, listen: str) -> None:
        world = World(tmp_path, listen)
        await world.metrics.settle()
        assert world.metrics.problem is not None
        assert "only a loopback address or this node's own mesh address" in world.metrics.problem.text
        world.listen = None
        await world.metrics.settle()
        assert world.metrics.problem is None

    async def test_the_loop_listens_looks_and_lets_go(self, world: World) -> None:
        looked = asyncio.Event()
        look = world.metrics.look

        async def seen() -> None:
            await look()
            looked.set()

        world.metrics.look = seen  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as group:
            task = group.create_task(world.metrics.run())
            async with asyncio.timeout(10):
                await looked.wait()
                samples = await world.samples()
                assert value(samples, "meshkeep_pool_size_bytes", pool="tank") == 1 << 20
                looked.clear()
                world.listen = f"127.0.0.1:{free_port()}"
                world.metrics.configured()
                await looked.wait()
            assert (await world.scrape())[0] == 200
            task.cancel()
        with pytest.raises(aiohttp.ClientConnectorError):
            await world.scrape()


class Failing(World):
    """Whose pools cannot be asked about, in a way that nobody expects, until `sound`."""

    sound = False

    async def resolution(self) -> Resolution:
        if not self.sound:
            raise OSError(12, "Cannot allocate memory")
        return await super().resolution()


class TestWhatNobodyExpects:
    async def test_the_loop_outlives_it_and_it_is_a_problem_until_it_works(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        world = Failing(tmp_path, f"127.0.0.1:{free_port()}")
        looks: asyncio.Queue[None] = asyncio.Queue()
        look = world.metrics.look

        async def seen() -> None:
            await look()
            looks.put_nowait(None)

        world.metrics.look = seen  # type: ignore[method-assign]
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            task = group.create_task(world.metrics.run())
            for _ in range(2):
                await looks.get()
                samples = await world.samples()
                assert value(samples, "meshkeep_pool_size_bytes", pool="tank") == 1 << 20
                assert world.metrics.problem is not None
                assert world.metrics.problem.text == (
                    "metrics are not up to date: snapshots: OSError: [Errno 12] Cannot allocate memory"
                )
                world.metrics.configured()
            assert [one.exc_info is not None for one in caplog.records if one.levelname == "ERROR"] == [True]
            world.sound = True
            while world.metrics.problem is not None:
                world.metrics.configured()
                await looks.get()
            listening, world.listen = world.metrics._listen, None

            def broken() -> str:
                raise RuntimeError("no settings")

            world.metrics._listen = broken
            world.metrics.configured()
            await looks.get()
            assert world.metrics.problem is not None
            assert world.metrics.problem.text.endswith("serving: RuntimeError: no settings")
            world.metrics._listen = listening
            task.cancel()


class TestWhoMayRead:
    async def test_this_host_and_the_mesh_but_no_vault(self, tmp_path: Path) -> None:
        street, clock = Street(), [float(BEGAN)]
        world = World(tmp_path, None)
        world.host = Host(tmp_path / "home2", street, clock)
        world.metrics._mesh = world.host.mesh
        await world.host.init()
        allowed = {"127.0.0.1": True, "::1": True, "192.0.2.9": False, "nonsense": False}
        for name, role in (("nas", "member"), ("laptop", "client"), ("cloud", "vault")):
            other = Host(tmp_path / name, street, clock)
            await other.join((await world.host.invite(role=role, name=name))["invite"])
            allowed[world.host.mesh.address_of(other.mesh.identity.id)] = role != "vault"
        own = world.host.mesh.address_of(world.host.mesh.identity.id)
        allowed[own] = True
        assert {one: world.metrics._may_read(one) for one in allowed} == allowed
        assert world.metrics._place(f"[{own}]:7481") == (own, 7481)
        with pytest.raises(MeshkeepError, match="own mesh address"):
            world.metrics._place("[fd00::1]:7481")
        await asyncio.gather(*street.talks)

    async def test_one_who_may_not_is_refused(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        await world.metrics.settle()
        monkeypatch.setattr(world.metrics, "_may_read", lambda remote: remote != "127.0.0.1")
        assert (await world.scrape())[::2] == (403, "this node may not read metrics\n")


class TestWhereItComesFrom:
    async def test_the_verb_looks_first(self, world: World) -> None:
        await world.zfs.create("tank/a", {})
        world.rules = [Assignment("tank/a", POLICY), Assignment("tank/gone", POLICY)]
        await world.zfs.snapshot([f"tank/a@{snapshot_name('hourly', BEGAN)}"])
        job = Job("tank/a", "cloud", RuleSpec("tank/a", "cloud", late_after=99))
        job.as_of = BEGAN
        world.jobs = [job]
        world.problems = [Problem("x", "one"), Problem("x", "two")]
        answer = await world.metrics.verb()
        assert answer["schema"] == "meshkeep.metrics/1"
        samples = read(answer["text"])
        labels = {"dataset": "tank/a", "kind": "hourly"}
        assert value(samples, "meshkeep_snapshots", **labels) == 1
        assert value(samples, "meshkeep_snapshot_last_timestamp_seconds", **labels) == BEGAN
        assert value(samples, "meshkeep_rules_unmatched", rule="tank/gone") == 1
        assert value(samples, "meshkeep_replica_late_after_seconds", dataset="tank/a", node="cloud") == 99
        assert value(samples, "meshkeep_problems", code="x") == 2
        assert value(samples, "meshkeep_snapshots_pruned_total", dataset="tank/a") == 7
        infos = [dict(labels) for name, labels in samples if name == "meshkeep_build_info"]
        assert infos[0]["zfs"] == "2.3.9-fake"

    async def test_a_suspended_pool_is_told_though_nothing_else_is(self, world: World) -> None:
        await world.metrics.look()
        world.hangs = True
        world.zfs.suspend("tank")
        world.host.clock[0] += 60
        samples = read((await world.metrics.verb())["text"])
        assert value(samples, "meshkeep_pool_health", pool="tank", state="SUSPENDED") == 1
        assert value(samples, "meshkeep_state_age_seconds", source="pools") == 0
        assert value(samples, "meshkeep_state_age_seconds", source="snapshots") == 60

    async def test_of_a_pool_that_does_not_answer_the_list_tells(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def pool_status(name: str) -> PoolStatus:
            return await asyncio.Event().wait()  # type: ignore[return-value]

        monkeypatch.setattr(world.zfs, "pool_status", pool_status)
        world.zfs.suspend("tank")
        samples = read((await world.metrics.verb())["text"])
        assert value(samples, "meshkeep_pool_health", pool="tank", state="SUSPENDED") == 1

    async def test_the_configuration(self, world: World) -> None:
        def told() -> tuple[float | None, float | None]:
            samples = read(exposition(world.metrics.facts()).decode())
            return (
                value(samples, "meshkeep_config_last_reload_successful"),
                value(samples, "meshkeep_config_last_reload_success_timestamp_seconds"),
            )

        assert told() == (1, None)
        world.metrics.configured()
        assert told() == (1, BEGAN)
        world.host.clock[0] += 5
        world.metrics.not_configured()
        assert told() == (0, BEGAN)
        world.metrics.configured()
        assert told() == (1, BEGAN + 5)

    async def test_nodes_as_gossip_and_tunnels_know_them(self, tmp_path: Path) -> None:
        street, clock = Street(), [float(BEGAN)]
        world = World(tmp_path, None)
        host = Host(tmp_path / "home2", street, clock)
        world.metrics._mesh = home = host.mesh
        await host.init()
        for name in ("nas", "cloud"):
            other = Host(tmp_path / name, street, clock)
            await other.join((await host.invite(role="member", name=name))["invite"])
            if name == "nas":
                world.states[other.mesh.identity.id] = MemberState("suspect", rtt=0.5)
        nodes = {node.name: node for node in world.metrics.facts().nodes}
        assert nodes["home"] == NodeFacts("home", "admin", "alive", True, "direct")
        assert nodes["nas"] == NodeFacts("nas", "member", "suspect", True, "none", None, 0.5)
        assert (nodes["cloud"].state, nodes["cloud"].up) == ("unknown", None)
        assert home.joined
        await asyncio.gather(*street.talks)


def test_the_library_is_not_loaded_before_it_is_needed() -> None:
    script = "import sys, node.metrics_server; print('prometheus_client' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "False"


class TestTheDocs:
    TEXT = (ROOT / "docs/monitoring.md").read_text()

    def test_the_table_is_the_one_in_the_code(self) -> None:
        rows = [line for line in self.TEXT.splitlines() if line.startswith("| `meshkeep_")]
        assert rows == [
            f"| `{one.name}` | {one.kind} | {', '.join(one.labels) or '–'} | {one.help} |" for one in FAMILIES
        ]

    def test_every_command_is_one_of_ours(self) -> None:
        used = set(re.findall(r"(?:^|sudo |`|/usr/bin/)meshkeep ([a-z]+)", self.TEXT, re.MULTILINE))
        assert {"check", "metrics", "status", "config"} <= used <= set(COMMANDS)

    def test_the_settings_in_it_are_settings(self) -> None:
        settings = parse([("docs", '[metrics]\nlisten = "127.0.0.1:7481"\n')])
        assert settings.metrics == "127.0.0.1:7481"
        for key in re.findall(
            r"`((?:hourly|capacity)_(?:warn|crit)|monitor(?:_dont_(?:warn|crit))?)\b", self.TEXT
        ):
            assert key in {*PolicySection.model_fields, *PoolSection.model_fields}


class TestTheRules:
    """What promtool would say, as far as that can be said without it."""

    GROUPS = yaml.safe_load((ROOT / "deploy/prometheus-rules.yml").read_text())["groups"]
    RULES = tuple(rule for group in GROUPS for rule in group["rules"])
    LABELS = MappingProxyType({one.name: set(one.labels) for one in FAMILIES} | {"up": set()})

    @pytest.fixture(params=RULES, ids=[rule["alert"] for rule in RULES])
    def rule(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return dict(request.param)

    def labels(self, rule: dict[str, Any]) -> set[str]:
        return {"instance", "job"} | set().union(*(self.LABELS[name] for name in metrics_of(rule["expr"])))

    def test_has_the_parts_of_an_alert(self, rule: dict[str, Any]) -> None:
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"Meshkeep[A-Z][A-Za-z]+", rule["alert"])
        assert re.fullmatch(r"\d+[mhd]", rule["for"])
        assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
        assert set(rule["annotations"]) == {"summary", "try"}

    def test_is_about_metrics_that_exist(self, rule: dict[str, Any]) -> None:
        named = metrics_of(rule["expr"])
        assert named
        assert named <= set(self.LABELS)

    def test_uses_labels_that_they_have(self, rule: dict[str, Any]) -> None:
        known = self.labels(rule)
        for names in re.findall(r"\b(?:on|by) \(([^)]*)\)", rule["expr"]):
            assert {name.strip() for name in names.split(",")} <= known
        for selector in re.findall(r"\{([^}]*)\}", rule["expr"]):
            assert set(re.findall(r"(\w+)(?==|!=|=~)", selector)) <= known
        for text in rule["annotations"].values():
            assert set(re.findall(r"\$labels\.(\w+)", text)) <= known
            assert text.count("{{") == text.count("}}")

    def test_compares_only_what_has_the_same_labels(self, rule: dict[str, Any]) -> None:
        expr = rule["expr"]
        if " on (" not in expr:
            assert len({frozenset(self.LABELS[name]) for name in metrics_of(expr)}) == 1

    def test_is_balanced(self, rule: dict[str, Any]) -> None:
        for opening, closing in ("()", "{}"):
            assert rule["expr"].count(opening) == rule["expr"].count(closing)
        assert rule["expr"].count('"') % 2 == 0

    def test_names_states_that_there_are(self, rule: dict[str, Any]) -> None:
        for metric, states in (("replica", REPLICA_STATES), ("pool", POOL_STATES)):
            for found in re.findall(rf'meshkeep_{metric}_\w+\{{state!?=~?"([^"]+)"', rule["expr"]):
                assert set(found.split("|")) <= set(states)

    def test_what_to_try_is_a_command_that_there_is(self, rule: dict[str, Any]) -> None:
        program, word = rule["annotations"]["try"].split()[:2]
        assert program in ("meshkeep", "zpool", "zfs", "systemctl")
        assert program != "meshkeep" or word in COMMANDS

    def test_no_alert_comes_twice(self) -> None:
        names = [rule["alert"] for rule in self.RULES]
        assert len(names) == len(set(names)) > 10


def metrics_of(expr: str) -> set[str]:
    """The names of metrics in a PromQL expression."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\b(?:on|by) \([^)]*\)', " ", expr)
    return set(re.findall(r"[a-z_]+", bare)) - {"time", "group", "by", "on", "unless"}
