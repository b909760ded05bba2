"""Signed objects go round between real memberships until all that may know the same do."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest

from mesh import sync
from mesh.link_errors import Refusal
from node import exchange as exchange_module
from tests.fakes.mesh import BEGAN, Host, Street, Wires, request

ROLES = {"nas": "member", "laptop": "client", "cloud": "vault", "attic": "vault"}


class Mesh:
    """home (admin), nas, laptop, cloud and attic; each was admitted by home and knows only what it saw then."""

    def __init__(self, path: Path) -> None:
        self.street, clock = Street(), [float(BEGAN)]
        self.hosts = {name: Host(path / name, self.street, clock) for name in ("home", *ROLES)}
        self.wires = Wires(self.hosts.values())

    async def begin(self) -> None:
        await self.hosts["home"].init()
        for name, role in ROLES.items():
            invite = await self.hosts["home"].invite(role=role, name=name)
            await self.hosts[name].join(invite["invite"])
        await asyncio.gather(*self.street.talks)

    def report(self, name: str, body: bytes) -> None:
        self.hosts[name].mesh.report(body)

    def knows(self, name: str) -> set[str]:
        """Whose record *name* has."""
        return {m.name for m in self.hosts[name].mesh.view().active() if m.record is not None}

    def reports(self, name: str) -> set[str]:
        """Whose report *name* has."""
        mesh = self.hosts[name].mesh
        assert mesh.trust is not None
        return {m.name for m in mesh.view().active() if mesh.trust.report_of(m.public) is not None}

    def objects(self, name: str) -> set[bytes]:
        trust = self.hosts[name].mesh.trust
        assert trust is not None
        return {item.data for item in trust.all_signed()}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies on the disks of all when they have joined."""
    path = tmp_path_factory.mktemp("begun")
    asyncio.run(Mesh(path).begin())
    return path


@pytest.fixture
def mesh(begun: Path, tmp_path: Path) -> Mesh:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    made = Mesh(tmp_path)
    for host in made.hosts.values():
        host.mesh.load()
    return made


class TestComparing:
    async def test_two_members_know_the_same_after_one_comparison(self, mesh: Mesh) -> None:
        mesh.report("home", b"of home")
        mesh.report("nas", b"of nas")
        assert mesh.objects("home") != mesh.objects("nas")
        await mesh.wires.compare("nas", "home")
        assert mesh.objects("home") == mesh.objects("nas")

    async def test_whichever_side_asks(self, mesh: Mesh) -> None:
        mesh.report("home", b"of home")
        mesh.report("nas", b"of nas")
        await mesh.wires.compare("home", "nas")
        assert mesh.objects("home") == mesh.objects("nas")

    async def test_who_knows_the_same_pushes_nothing(self, mesh: Mesh) -> None:
        await mesh.wires.compare("nas", "home")
        mesh.wires.asked.clear()
        await mesh.wires.compare("nas", "home")
        assert mesh.wires.asked == [("nas", "home", "mesh.sync")]

    async def test_what_was_learned_is_on_disk(self, mesh: Mesh) -> None:
        await mesh.wires.compare("nas", "home")
        before = mesh.objects("nas")
        mesh.hosts["nas"].mesh.load()
        assert mesh.objects("nas") == before

    @pytest.mark.parametrize("limit", [1, 500, 3000])
    async def test_in_as_many_batches_as_it_takes(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch, limit: int
    ) -> None:
        monkeypatch.setattr(exchange_module, "batches", lambda items: sync.batches(items, limit))
        for name in ("home", "nas"):
            mesh.report(name, b"of " + name.encode())
        await mesh.wires.compare("nas", "home")
        assert mesh.objects("home") == mesh.objects("nas")
        if limit == 1:
            assert mesh.wires.asked.count(("nas", "home", "mesh.sync")) > 2

    async def test_an_eviction_reaches_who_did_not_see_it(self, mesh: Mesh) -> None:
        await mesh.wires.compare("nas", "home")
        await mesh.hosts["home"].admissions.evict(request(node="laptop"))
        assert mesh.hosts["nas"].mesh.view().by_name("laptop") is not None
        await mesh.wires.compare("home", "nas")
        assert mesh.hosts["nas"].mesh.view().by_name("laptop") is None

    async def test_the_evicted_is_not_answered_any_more(self, mesh: Mesh) -> None:
        await mesh.hosts["home"].admissions.evict(request(node="nas"))
        with pytest.raises(Refusal) as caught:
            await mesh.wires.compare("nas", "home")
        assert (caught.value.code, caught.value.exit) == ("not_admitted", 8)

    async def test_a_peer_that_never_comes_to_an_end_is_left(
        self, mesh: Mesh, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def endless(caller: object, args: object) -> dict[str, Any]:
            return {"digest": {"trust": [], "records": {}, "reports": {}}, "items": [], "more": True}

        monkeypatch.setattr(mesh.wires.exchanges["home"], "answer", endless)
        async with asyncio.timeout(5):
            await mesh.wires.compare("nas", "home")

    async def test_news_spread_over_the_ones_between(self, mesh: Mesh) -> None:
        await mesh.wires.compare("nas", "home")
        await mesh.wires.compare("laptop", "home")
        mesh.report("nas", b"news")
        await mesh.wires.compare("nas", "home")
        await mesh.wires.compare("laptop", "home")
        assert mesh.knows("laptop") == {"home", "nas", "laptop", "cloud", "attic"}


class TestAVault:
    async def test_is_never_given_a_clients_or_another_vaults_record(self, mesh: Mesh) -> None:
        for name in ("nas", "laptop"):
            await mesh.wires.compare(name, "home")
        await mesh.wires.compare("home", "cloud")
        await mesh.wires.compare("nas", "cloud")
        assert mesh.knows("cloud") == {"home", "nas", "cloud"}

    async def test_knows_who_is_admitted_and_who_is_evicted_all_the_same(self, mesh: Mesh) -> None:
        await mesh.wires.compare("home", "cloud")
        assert {m.name for m in mesh.hosts["cloud"].mesh.view().active()} == {"home", *ROLES}

    async def test_asks_nobody(self, mesh: Mesh) -> None:
        for name in ROLES:
            await mesh.wires.compare("home", name)
        initiates = {name: bool(mesh.wires.exchanges[name]._peers()) for name in mesh.hosts}
        assert initiates == {"home": True, "nas": True, "laptop": True, "cloud": False, "attic": False}

    async def test_is_refused_when_it_asks_all_the_same(self, mesh: Mesh) -> None:
        await mesh.wires.compare("home", "cloud")
        with pytest.raises(Refusal) as caught:
            await mesh.wires.compare("cloud", "home")
        assert caught.value.code == "role_may_not"

    async def test_sees_the_reports_of_those_it_serves_only(self, mesh: Mesh) -> None:
        mesh.report("home", b"of home")
        mesh.report("nas", b"of nas")
        await mesh.wires.compare("nas", "home")
        mesh.wires.exchanges["home"]._served = lambda node: [mesh.hosts["home"].mesh.identity.id]
        await mesh.wires.compare("home", "cloud")
        assert mesh.reports("cloud") == {"home"}

    async def test_gets_new_versions_of_what_it_has(self, mesh: Mesh) -> None:
        await mesh.wires.compare("home", "cloud")
        home = mesh.hosts["home"].mesh
        before = home.me().record
        home._boot = b"newboot!"
        await home._publish()
        assert home.me().record != before
        await mesh.wires.compare("home", "cloud")
        assert mesh.hosts["cloud"].mesh.view().members[home.identity.id].record == home.me().record


class TestAClient:
    async def test_gets_the_records_and_no_report(self, mesh: Mesh) -> None:
        mesh.report("home", b"of home")
        await mesh.wires.compare("laptop", "home")
        assert mesh.knows("laptop") == {"home", *ROLES}
        assert mesh.reports("laptop") == set()


class TestNonsense:
    @pytest.mark.parametrize(
        "args", [{}, {"digest": None}, {"digest": []}, {"digest": {"trust": 1}}, {"digest": {"trust": [1]}}]
    )
    async def test_a_digest_that_is_none(self, mesh: Mesh, args: dict[str, Any]) -> None:
        with pytest.raises(Refusal) as caught:
            await self.asked(mesh, "mesh.sync", args)
        assert caught.value.code == "bad_request"

    @pytest.mark.parametrize("items", [7, None, ["x"], [{}], [{"oid": "x"}], {"a": 1}])
    async def test_items_that_are_none(self, mesh: Mesh, items: object) -> None:
        before = mesh.objects("home")
        with pytest.raises(Refusal) as caught:
            await self.asked(mesh, "mesh.push", {"items": items})
        assert caught.value.code == "bad_request"
        assert mesh.objects("home") == before

    async def test_an_item_that_nobody_signed_is_not_taken(self, mesh: Mesh) -> None:
        before = mesh.objects("home")
        item = {"oid": "00", "kind": "trust", "node": "x", "version": 0, "data": "AAAA"}
        assert await self.asked(mesh, "mesh.push", {"items": [item]}) == {"new": 0}
        assert mesh.objects("home") == before

    async def asked(self, mesh: Mesh, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        nas, home = mesh.hosts["nas"], mesh.hosts["home"]
        return await mesh.wires.ask(nas, nas.mesh.address_of(home.mesh.identity.id), verb, args)
