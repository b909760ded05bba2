"""A host that burned had a list; what its heir, and who else is in the mesh, know of that."""

from pathlib import Path

import pytest

from mesh.codec import to_base64
from mesh.link_errors import PeerRefused
from mesh.objects import MAX_REPORT, Report, sign
from node import status
from node.sent import Sent
from node.testimony import HERE, Gathering
from replication.ledger import Entry, Ledger, begin
from replication.returning import Account, age
from tests.fakes.heirs import World


def entry(number: int) -> Entry:
    return Entry(number, f"s{number}", 1000 + number, 7000 + number, "ab" * 32, None, "cloud", 5000 + number)


class Burned:
    """home listed what it sent, told it, and burned; what it told reached some and not others."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.ledger: Ledger = begin("tank/home")

    async def send(self, *numbers: int) -> None:
        """The list grows, and the targets that are there get the manifest."""
        self.ledger = self.ledger.added(entry(number) for number in numbers)
        manifests = self.world.manifests()
        manifests._sent_lists = lambda: {"tank/home": self.ledger}
        await manifests.tend()

    async def tell(self, *nodes: str) -> None:
        """home's report, as these nodes hear it."""
        home = self.world.hosts["home"].mesh
        home.report(status.report_body([], MAX_REPORT, {"tank/home": self.ledger.head}))
        for node in nodes:
            await self.world.wires.compare("home", node)

    def gathering(self, node: str = "phoenix") -> Gathering:
        host = self.world.hosts[node]
        sent = Sent(self.world.zfs, self.world.path / node / "sent", lambda: 0.0)
        return Gathering(host.mesh, sent, self.world.manifests(node))

    async def known(self, node: str = "phoenix") -> tuple[Account, ...]:
        return await self.gathering(node).of(self.world.id_of("home"), "tank/home")


@pytest.fixture
async def burned(tmp_path: Path) -> Burned:
    world = World(tmp_path)
    await world.begin()
    return Burned(world)


class TestTheHeir:
    async def test_has_the_list_from_the_manifest_and_the_heads_from_who_heard_them(
        self, burned: Burned
    ) -> None:
        await burned.send(1, 2)
        await burned.tell("laptop", "nas")
        await burned.world.burn()
        accounts = await burned.known()
        assert accounts[0].ledger == burned.ledger
        assert {one.node for one in accounts[0].witnesses} >= {"laptop", "nas"}
        found = age(accounts, 1002, "cloud")
        assert found.state == "witnessed"
        assert {node for node, _ in found.by} >= {"laptop", "nas"}

    async def test_finds_out_that_the_manifest_of_the_vault_is_an_old_one(self, burned: Burned) -> None:
        await burned.send(1)
        burned.ledger = burned.ledger.added([entry(2)])
        await burned.tell("laptop")
        await burned.world.burn()
        accounts = await burned.known()
        assert accounts[0].ledger is not None
        assert accounts[0].ledger.head.count == 1
        assert age(accounts, 1001, "cloud").state == "stale"

    async def test_where_nobody_but_the_vault_heard_anything_it_is_unwitnessed(self, burned: Burned) -> None:
        burned.world.rules = [("tank/home", "cloud")]
        await burned.send(1)
        await burned.tell("cloud")
        await burned.world.burn()
        accounts = await burned.known()
        assert accounts[0].ledger == burned.ledger
        assert {one.node for one in accounts[0].witnesses} == {"cloud"}
        assert age(accounts, 1001, "cloud").state == "unwitnessed"

    async def test_counts_what_it_sent_itself(self, burned: Burned) -> None:
        await burned.send(1)
        await burned.world.burn()
        gathering = burned.gathering()
        gathering._sent._append(begin("tank/home"), [entry(9)])
        accounts = await gathering.of(burned.world.id_of("home"), "tank/home")
        assert [one.source for one in accounts][1] == HERE
        assert age(accounts, 1009, "cloud").state == "witnessed"

    async def test_asks_once_for_all_datasets(self, burned: Burned) -> None:
        await burned.send(1)
        await burned.world.burn()
        gathering = burned.gathering()
        burned.world.wires.asked.clear()
        for dataset in ("tank/home", "tank/other", "tank/home"):
            await gathering.of(burned.world.id_of("home"), dataset)
        asked = [(target, verb) for _, target, verb in burned.world.wires.asked]
        assert asked.count(("laptop", "sent.heads")) <= 2  # of the node that burned, and of the heir

    async def test_a_head_that_somebody_else_signed_counts_for_nothing(self, burned: Burned) -> None:
        await burned.send(1)
        await burned.world.burn()
        laptop = burned.world.hosts["laptop"].mesh
        far = {"tank/home": begin("tank/home").added([entry(99)]).head}
        forged = sign(
            laptop.identity,
            laptop.view().mesh_id,
            Report(laptop.identity.public, 9, status.report_body([], MAX_REPORT, far)),
        )
        gathering = burned.gathering()

        class Line:
            async def call(self, *_: object, **__: object) -> dict[str, str]:
                return {"report": to_base64(forged.data)}

        gathering._mesh.link = lambda: Line()  # type: ignore[method-assign, assignment, return-value]
        peers = await gathering._ask_all(burned.world.id_of("home"))
        assert all("tank/home" not in heads or heads["tank/home"].as_of != 1099 for _, heads in peers)


class TestTheDesk:
    async def test_gives_a_report_to_who_it_is_of_or_who_succeeded_it_and_to_nobody_else(
        self, burned: Burned
    ) -> None:
        await burned.tell("laptop", "nas")
        home = burned.world.id_of("home")
        assert (await burned.world.ask("home", "laptop", "sent.heads", owner=home))["report"]
        with pytest.raises(PeerRefused):
            await burned.world.ask("nas", "laptop", "sent.heads", owner=home)
        await burned.world.burn()
        assert (await burned.world.ask("phoenix", "laptop", "sent.heads", owner=home))["report"]
        with pytest.raises(PeerRefused):
            await burned.world.ask("nas", "laptop", "sent.heads", owner=home)

    async def test_who_still_has_its_list_asks_nobody(self, burned: Burned) -> None:
        gathering = burned.gathering("home")
        gathering._sent._append(begin("tank/home"), [entry(1)])
        burned.world.wires.asked.clear()
        (account,) = await gathering.of(burned.world.id_of("home"), "tank/home")
        assert (account.source, account.witnesses[0].node) == (HERE, HERE)
        assert burned.world.wires.asked == []


class TestTheReport:
    def test_an_older_version_reads_it_as_before(self) -> None:
        body = status.report_body([], MAX_REPORT, {"tank/home": begin("tank/home").added([entry(1)]).head})
        assert status.read_report(body, "home") == []
        assert status.report_body([], MAX_REPORT) == b'{"datasets":[]}'
        assert status.read_heads(b'{"datasets":[]}') == {}

    def test_heads_never_crowd_the_datasets_out(self) -> None:
        heads = {f"tank/{n}": begin(f"tank/{n}").added([entry(1)]).head for n in range(2000)}
        lines = [status.dataset_line(f"tank/{n}", "home", 1, 1, []) for n in range(2000)]
        body = status.report_body(lines, MAX_REPORT, heads)
        assert len(body) <= MAX_REPORT
        assert len(status.read_report(body, "home")) > 200
        assert len(status.read_heads(body)) > 200

    @pytest.mark.parametrize(
        "body", [b"", b"[]", b"{}", b"[" * 100_000, b'{"sent": 1}', b'{"sent": {"a": {}}}']
    )
    def test_rubbish_has_no_heads(self, body: bytes) -> None:
        assert status.read_heads(body) == {}
