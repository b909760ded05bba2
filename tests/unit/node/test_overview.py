"""What `status` gathers: nodes, datasets and where they are protected, from here and from what others say."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import status
from node.job import Job, RuleSpec
from node.overview import Overview
from node.status import LATE_AFTER, Problem
from tests.fakes.mesh import BEGAN, Host, Street, request
from tests.fakes.zfs import FakeZfs


class Seen:
    """A host's overview. `jobs` are its replication rules, `policied` its datasets with a policy."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.zfs = FakeZfs(clock=lambda: host.clock[0])
        self.jobs: list[Job] = []
        self.policied: list[str] = []
        self.states: dict[str, str] = {}
        self.problems: list[Problem] = []
        replicator: Any = self
        self.overview = Overview(
            self.zfs,
            host.mesh,
            replicator,
            states=lambda: self.states,
            policied=lambda: self.policied,
            problems=lambda: self.problems,
            now=lambda: host.clock[0],
        )

    async def status(self) -> dict[str, Any]:
        return await self.overview.status()

    def replicated(self, dataset: str, as_of: int | None, state: str = "ok", to: str = "cloud") -> None:
        job = Job(dataset, to)
        job.as_of, job.state = as_of, state
        self.jobs.append(job)


class Mesh:
    def __init__(self, path: Path) -> None:
        self.path, self.street, self.clock = path, Street(), [float(BEGAN)]
        self.home = self.host("home")

    def host(self, name: str) -> Seen:
        return Seen(Host(self.path / name, self.street, self.clock))

    async def joined(self, name: str, role: str = "member", **args: Any) -> Seen:
        seen = self.host(name)
        known = args if "succeeds" in args else {"name": name}
        await seen.host.join((await self.home.host.invite(role=role, **known))["invite"])
        return seen


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    made = Mesh(tmp_path)
    await made.home.host.init()
    yield made
    await asyncio.gather(*made.street.talks)


def told(seen: Seen, by: Seen) -> None:
    """*seen* learns all that *by* knows."""
    trust = by.host.mesh.trust
    assert trust is not None
    seen.host.mesh.add([item.data for item in trust.all_signed()])


async def report(seen: Seen) -> None:
    seen.host.mesh.report(status.report_body(await seen.overview.own_datasets(), limit=48 << 10))


class TestWithoutAMesh:
    async def test_there_is_an_answer(self, mesh: Mesh) -> None:
        alone = mesh.host("alone")
        alone.problems = [Problem("config_invalid", "three mistakes", "meshkeep config check")]
        answer = await alone.status()
        assert (answer["mesh"], answer["nodes"], answer["datasets"]) == (None, [], [])
        assert answer["problems"][0]["code"] == "config_invalid"


class TestNodes:
    async def test_every_active_node_as_it_is_known(self, mesh: Mesh) -> None:
        cloud = await mesh.joined("cloud", "vault")
        mesh.home.states = {cloud.host.mesh.identity.id: "suspect"}
        nodes = {one["name"]: one for one in (await mesh.home.status())["nodes"]}
        assert nodes["home"]["state"] == "alive"
        assert nodes["home"]["path"] == "this node"
        assert (nodes["cloud"]["state"], nodes["cloud"]["role"]) == ("suspect", "vault")
        assert nodes["cloud"]["path"] == "no tunnel"

    async def test_of_one_that_nobody_heard_the_state_is_unknown(self, mesh: Mesh) -> None:
        await mesh.joined("cloud", "vault")
        nodes = {one["name"]: one["state"] for one in (await mesh.home.status())["nodes"]}
        assert nodes["cloud"] == "unknown"

    async def test_the_evicted_is_gone_and_is_told_so_itself(self, mesh: Mesh) -> None:
        nas = await mesh.joined("nas")
        await mesh.home.host.admissions.evict(request(node="nas"))
        assert [one["name"] for one in (await mesh.home.status())["nodes"]] == ["home"]
        told(nas, mesh.home)
        nas.replicated("tank/x", BEGAN)
        answer = await nas.status()
        assert answer["node"] == "nas"
        assert [one["name"] for one in answer["nodes"]] == ["home"]


class TestDatasets:
    async def test_with_a_policy_or_a_replica_and_no_others(self, mesh: Mesh) -> None:
        home = mesh.home
        for name in ("tank/policied", "tank/replicated", "tank/other"):
            await home.zfs.create(name, {})
        await home.zfs.snapshot(["tank/policied@a"])
        home.policied = ["tank/policied", "tank/gone"]
        home.replicated("tank/replicated", None, "waiting")
        lines = (await home.status())["datasets"]
        assert [(one["name"], one["node"], one["snapshots"], one["newest"]) for one in lines] == [
            ("tank/policied", "home", 1, BEGAN),
            ("tank/replicated", "home", 0, None),
        ]
        assert lines[1]["replicas"] == [{"node": "cloud", "as_of": None, "state": "waiting"}]

    async def test_on_several_targets(self, mesh: Mesh) -> None:
        await mesh.home.zfs.create("tank/a", {})
        mesh.home.replicated("tank/a", 10)
        mesh.home.replicated("tank/a", 20, to="nas")
        (line,) = (await mesh.home.status())["datasets"]
        assert [(one["node"], one["as_of"]) for one in line["replicas"]] == [("cloud", 10), ("nas", 20)]

    async def test_of_a_pool_that_is_gone_it_still_says_where_they_are_protected(self, mesh: Mesh) -> None:
        mesh.home.replicated("tank/a", BEGAN)
        mesh.home.zfs.suspend("tank")
        (line,) = (await mesh.home.status())["datasets"]
        assert line["replicas"] == [{"node": "cloud", "as_of": BEGAN, "state": "ok"}]

    @pytest.mark.parametrize(("age", "late"), [(3600, False), (3601, True)])
    async def test_a_rule_has_its_own_idea_of_late_and_others_hear_of_it(
        self, mesh: Mesh, age: int, late: bool
    ) -> None:
        other = await mesh.joined("other")
        await mesh.home.zfs.create("tank/home", {})
        mesh.home.replicated("tank/home", int(mesh.clock[0]) - age)
        mesh.home.jobs[0].rule = RuleSpec("tank/home", "cloud", late_after=3600)
        await report(mesh.home)
        told(other, mesh.home)
        for seen in (mesh.home, other):
            codes = [one["code"] for one in (await seen.status())["problems"]]
            assert codes == ["replica_late"] * late

    @pytest.mark.parametrize(("age", "late"), [(0, False), (LATE_AFTER, False), (LATE_AFTER + 1, True)])
    async def test_a_replica_that_is_late_is_a_problem(self, mesh: Mesh, age: int, late: bool) -> None:
        await mesh.home.zfs.create("tank/a", {})
        mesh.home.replicated("tank/a", BEGAN - age)
        codes = [one["code"] for one in (await mesh.home.status())["problems"]]
        assert codes == ["replica_late"] * late

    @pytest.mark.parametrize("role", ["vault", "client"])
    async def test_of_a_vault_or_client_there_are_none(self, mesh: Mesh, role: str) -> None:
        node = await mesh.joined("node", role)
        node.policied = ["tank"]
        assert await node.overview.own_datasets() == []


class TestWhatOthersReport:
    async def test_is_shown_under_their_name(self, mesh: Mesh) -> None:
        nas = await mesh.joined("nas")
        await nas.zfs.create("tank/a", {})
        nas.replicated("tank/a", 10)
        await report(nas)
        told(mesh.home, nas)
        (line,) = (await mesh.home.status())["datasets"]
        assert (line["node"], line["name"]) == ("nas", "tank/a")
        assert line["replicas"] == [{"node": "cloud", "as_of": 10, "state": "ok"}]

    async def test_the_same_again_is_not_published_again(self, mesh: Mesh) -> None:
        await report(mesh.home)
        first = mesh.home.host.files()
        await report(mesh.home)
        assert mesh.home.host.files() == first

    async def test_of_a_node_that_burned_stands_under_its_heir_until_that_speaks(self, mesh: Mesh) -> None:
        old = await mesh.joined("nas")
        for name in ("tank/a", "tank/b"):
            await old.zfs.create(name, {})
            old.replicated(name, 10)
        await report(old)
        told(mesh.home, old)
        mesh.clock[0] += 100
        heir = await mesh.joined("heir", succeeds="nas")
        lines = (await mesh.home.status())["datasets"]
        assert [(one["node"], one["name"]) for one in lines] == [("nas", "tank/a"), ("nas", "tank/b")]
        await heir.zfs.create("tank/a", {})
        heir.replicated("tank/a", 50)
        await report(heir)
        told(mesh.home, heir)
        lines = (await mesh.home.status())["datasets"]
        assert [(one["name"], one["replicas"][0]["as_of"]) for one in lines] == [
            ("tank/a", 50),
            ("tank/b", 10),
        ]

    @pytest.mark.parametrize(
        "body",
        [
            b"", b"{", b"null", b"[]", b"7", b'{"datasets": 7}', b'{"datasets": [7, null, {}, {"name": 7}]}',
            b"\xff\xfe", b'{"datasets": {"name": "x"}}', b"[" * 5000,
        ],
    )  # fmt: skip
    async def test_nonsense_is_left_out(self, mesh: Mesh, body: bytes) -> None:
        nas = await mesh.joined("nas")
        nas.host.mesh.report(body)
        told(mesh.home, nas)
        assert (await mesh.home.status())["datasets"] == []

    async def test_what_is_half_right_shows_that_half(self) -> None:
        body = (
            b'{"datasets": [{"name": "a", "snapshots": "x", "newest": true, '
            b'"replicas": [{"node": "cloud", "as_of": "1"}, {"node": 7}, 7]}]}'
        )
        assert status.read_report(body, "nas") == [
            {
                "name": "a", "node": "nas", "snapshots": 0, "newest": None,
                "replicas": [{"node": "cloud", "as_of": None, "state": ""}],
            }
        ]  # fmt: skip
