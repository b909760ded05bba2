"""The terms of a vault: what its owner and admins can do from afar, what its console can, and what the recovery key."""

from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.decrees import Shorten
from mesh.identity import Identity, genesis_from_words, new_recovery_words
from mesh.link_errors import Refusal
from mesh.objects import sign
from node.api import Api
from node.decrees import SHOWN
from node.errors import Exit, MeshkeepError
from node.peer_rules import judge
from node.promises import TERMS
from node.replica_keeper import MARKS
from replication.terms import FOREVER, NOTICE, Agreed, dump
from tests.fakes.mesh import request
from tests.fakes.vault import POLICY, ROOT, World

DAY, HOUR = 86400, 3600
BEGAN = 1_790_000_000


async def denied(doing: Awaitable[Any]) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await doing
    return caught.value


@pytest.fixture
async def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    await found.begin()
    return found


class TestShowing:
    async def test_says_of_each_value_whose_it_is_and_since_when(self, world: World) -> None:
        found = await world.show("cloud")
        joined = world.hosts["cloud"].mesh.me().created
        assert found["root"] == {"value": ROOT, "from": "invite", "since": joined}
        assert found["floor"] == {"value": 90 * DAY, "from": "invite", "since": joined}
        assert found["quota"] == {"value": 1 << 20, "from": "invite", "since": joined}
        assert found["keep"]["from"] == "configuration"
        assert {one["node"] for one in found["owners"]} == {"home", "pad"}
        world.policy = replace(POLICY, floor=100 * DAY)
        assert await world.floor() == (100, "configuration")

    async def test_an_admin_sees_all_from_afar_and_another_its_own(self, world: World) -> None:
        seen = {
            name: sorted(one["node"] for one in (await world.show(name, node="cloud"))["owners"])
            for name in ("home", "nas", "pad")
        }
        assert seen == {"home": ["home", "pad"], "nas": ["home", "pad"], "pad": ["pad"]}

    async def test_on_this_host_root_alone_changes(self, world: World, tmp_path: Path) -> None:
        api = Api(tmp_path / "agent.sock")
        world.verbs["cloud"].register(api)
        open_to_all = {verb for verb, access in api.verbs.items() if access == "group"}
        assert open_to_all == {"terms.show", "terms.freed"}


class TestLengthening:
    async def test_is_at_once_and_of_ones_own_alone(self, world: World) -> None:
        found = await world.extend("home", 180)
        assert [one["node"] for one in found["owners"]] == ["home"]
        assert await world.floor("home") == (180, "owner")
        assert await world.floor("pad") == (90, "invite")

    async def test_outlives_the_agent_and_holds_what_is_stored(self, world: World) -> None:
        await world.extend("home", 180)
        world.wake()
        await world.days(120)
        assert (world.stored("home"), world.stored("pad")) == (["a", "b", "c"], ["c"])
        await world.days(70)
        assert world.stored("home") == ["c"]

    @pytest.mark.parametrize("days", [1, 89])
    @pytest.mark.parametrize("at", ["home", "pad"])
    async def test_a_shorter_one_is_refused_and_both_ways_are_named(
        self, world: World, at: str, days: int
    ) -> None:
        error = await denied(world.extend(at, days))
        assert (error.code, error.exit) == ("shorter_floor", Exit.REFUSED)
        assert "console" in error.hint
        assert "recovery key" in error.hint
        assert await world.floor(at) == (90, "invite")

    async def test_the_same_becomes_a_promise_of_its_own(self, world: World) -> None:
        await world.extend("home", 90)
        assert await world.floor() == (90, "owner")

    async def test_an_admin_that_stores_nothing_there_has_nothing_to_lengthen(self, world: World) -> None:
        assert (await denied(world.extend("nas", 180))).exit == Exit.NOT_FOUND

    @pytest.mark.parametrize("floor", [None, "90d", 0, -1, True, FOREVER + 1, 1.5])
    async def test_by_nonsense_is_refused(self, world: World, floor: Any) -> None:
        caller = world.hosts["cloud"].mesh.view().members[world.id("home")]
        nothing: Any = None
        with pytest.raises(Refusal):
            await world.verbs["cloud"].answers()["terms.extend"](caller, {"floor": floor}, nothing)
        assert await world.floor() == (90, "invite")

    @pytest.mark.parametrize(
        "verb", ["terms.shorten", "terms.forget", "terms.cancel", "terms.root", "terms.ask"]
    )
    @pytest.mark.parametrize("caller", ["admin", "member", "client", "vault"])
    def test_for_anything_else_there_is_no_verb(self, verb: str, caller: Any) -> None:
        assert judge(verb, caller, "vault") is not None
        assert judge(verb, caller, "member") is not None


class TestTheConsole:
    async def shorten(self, world: World, days: int, owner: str | None = "home") -> None:
        await world.verbs["cloud"].shorten(request(floor=days * DAY, owner=owner))

    async def test_shortens_at_once(self, world: World) -> None:
        await self.shorten(world, 40)
        assert await world.floor() == (40, "console")
        await world.days(42)
        assert (world.stored("home"), world.stored("pad")) == (["c"], ["a", "b", "c"])

    async def test_of_all_where_nobody_is_named(self, world: World) -> None:
        await self.shorten(world, 40, None)
        assert (await world.floor("home"), await world.floor("pad")) == ((40, "console"), (40, "console"))

    async def test_not_below_the_configuration(self, world: World) -> None:
        await self.shorten(world, 1)
        assert await world.floor() == (30, "configuration")

    async def test_shows_before_it_what_could_go(self, world: World) -> None:
        await world.days(50)
        found = await world.verbs["cloud"].freed(request(floor=40 * DAY, owner="home"))
        assert [(one["node"], one["snapshots"]) for one in found["owners"]] == [
            ("home", ["tank@a", "tank@b"])
        ]
        assert await world.floor() == (90, "invite")
        assert (await world.verbs["cloud"].freed(request(floor=60 * DAY)))["owners"][0]["snapshots"] == []

    async def test_of_whom_nothing_is_stored_is_told(self, world: World) -> None:
        error = await denied(world.verbs["cloud"].shorten(request(floor=40 * DAY, owner="nas")))
        assert error.exit == Exit.NOT_FOUND

    async def test_what_cannot_be_read_keeps_everything_until_it_says_otherwise(self, world: World) -> None:
        await world.zfs.set(f"{ROOT}/{world.id('home')}", {TERMS: "{"})
        await world.days(120)
        assert world.stored("home") == ["a", "b", "c"]
        assert world.codes("cloud") == ["terms_damaged"]
        await self.shorten(world, 40)
        await world.days(3)
        assert (world.stored("home"), world.codes("cloud")) == (["c"], [])

    async def test_what_a_replica_says_of_itself_is_no_agreement(self, world: World) -> None:
        """Nor what stands above the owners: only this agent writes it, on the root of each."""
        await world.zfs.set(ROOT, {TERMS: dump(Agreed(HOUR, "owner"))})
        assert await world.floor() == (90, "invite")


class TestTheRecoveryKey:
    async def test_takes_seven_days_and_everyone_sees_it(self, world: World) -> None:
        await world.ask(days=40)
        assert await world.floor() == (90, "invite")
        assert {name: world.codes(name) for name in world.hosts} == {
            name: ["floor_shortening"] for name in world.hosts
        }
        await world.days(7 - 1 / 24)
        assert await world.floor() == (90, "invite")
        await world.days(2 / 24)
        assert await world.floor() == (40, "recovery key")
        assert world.codes("cloud") == []
        await world.days(35)
        assert (world.stored("home"), world.stored("pad")) == (["c"], ["a", "b", "c"])

    async def test_is_heard_at_once_but_brings_no_round_forward(self, world: World) -> None:
        await world.days(89)
        await world.days(1)
        before = world.stored("home")
        marks = world.zfs.state.nodes[ROOT].properties[MARKS]
        for days in range(40, 60):
            await world.ask(days=days)
        assert world.stored("home") == before
        assert world.zfs.state.nodes[ROOT].properties[MARKS] == marks

    async def test_without_the_words_both_ways_are_named(self, world: World) -> None:
        error = await denied(world.ask(words=None))
        assert (error.code, error.exit) == ("shorter_floor", Exit.REFUSED)
        assert "console" in error.hint
        assert await world.waiting() is None

    async def test_with_the_words_of_another_mesh_is_refused(self, world: World) -> None:
        error = await denied(world.ask(words=new_recovery_words()))
        assert (error.code, error.exit) == ("bad_words", Exit.REFUSED)

    async def test_the_words_are_on_no_disk(self, world: World) -> None:
        await world.ask()
        seed = genesis_from_words(world.words).seed
        for host in world.hosts.values():
            everything = b"".join(host.files().values())
            assert " ".join(world.words).encode() not in everything
            assert seed not in everything

    async def test_is_shown_elsewhere_for_a_month(self, world: World) -> None:
        await world.ask()
        assert world.codes("pad") == ["floor_shortening"]
        world.clock[0] += SHOWN
        assert world.codes("pad") == []

    async def test_a_restart_forgets_nothing_of_the_seven_days(self, world: World) -> None:
        await world.ask(days=40)
        await world.days(6)
        world.wake()
        await world.days(1)
        assert await world.floor() == (40, "recovery key")


class TestObjecting:
    @pytest.mark.parametrize("at", ["home", "nas"])
    async def test_any_admin_does_from_afar(self, world: World, at: str) -> None:
        await world.ask(at="home")
        await world.cancel(at, node="cloud", owner="home")
        assert await world.waiting() is None
        assert [world.codes(name) for name in world.hosts] == [[]] * 4
        await world.days(10)
        assert await world.floor() == (90, "invite")

    async def test_root_at_the_console_does(self, world: World) -> None:
        await world.ask()
        await world.cancel("cloud", owner="home")
        await world.days(10)
        assert await world.floor() == (90, "invite")
        assert (await denied(world.cancel("cloud", owner="home"))).exit == Exit.NOT_FOUND

    async def test_a_member_does_not(self, world: World) -> None:
        await world.ask()
        error = await denied(world.cancel("pad", node="cloud", owner="home"))
        assert error.exit == Exit.NOT_PERMITTED

    async def test_to_what_is_not_known_is_told(self, world: World) -> None:
        assert (await denied(world.cancel("nas", node="cloud", owner="home"))).exit == Exit.NOT_FOUND

    async def test_holds_although_the_admin_that_objected_is_shut_out_afterwards(self, world: World) -> None:
        """A thief has the paper: the recovery key may evict anyone."""
        await world.ask()
        await world.cancel("nas", node="cloud", owner="home")
        await world.hosts["home"].admissions.evict(request(node="nas"))
        await world.tell()
        await world.days(10)
        assert await world.floor() == (90, "invite")

    async def test_of_one_who_was_shut_out_before_it_was_heard_counts_for_nothing(self, world: World) -> None:
        """A stolen laptop must not keep the recovery key from being heard."""
        args = {"node": "cloud", "owner": "home", "floor": 40 * DAY, "words": world.words}
        await world.verbs["home"].ask(request(**args))
        await world.verbs["nas"].cancel(request(node="cloud", owner="home"))
        await world.hosts["home"].admissions.evict(request(node="nas"))
        await world.tell()
        await world.days(8)
        assert await world.floor() == (40, "recovery key")

    async def test_is_of_that_word_and_not_of_the_next(self, world: World) -> None:
        await world.ask(days=40)
        await world.cancel("nas", node="cloud", owner="home")
        await world.ask(days=50)
        await world.days(8)
        assert await world.floor() == (50, "recovery key")


class TestAThief:
    """Who has a node of the mesh, or listens, or has kept old words."""

    async def push(self, world: World, value: Shorten, by: Identity, mesh: bytes | None = None) -> None:
        target = world.hosts["cloud"].mesh
        try:
            data = sign(by, mesh or target.view().mesh_id, value).data
        except ValueError:
            return
        target.add([data])
        await world.keeper.tend()

    def word(self, world: World, **change: Any) -> Shorten:
        genesis = genesis_from_words(world.words)
        value = Shorten(
            genesis.public, world.public("cloud"), world.public("home"), 10**9 * 3, BEGAN, 7 * DAY
        )
        return replace(value, **change)

    async def test_cannot_sign_it_as_a_node_not_even_as_an_admin(self, world: World) -> None:
        for name in ("home", "nas", "pad", "cloud"):
            by = world.hosts[name].mesh.identity
            await self.push(world, self.word(world, genesis_public=by.public), by)
        assert await world.waiting() is None

    async def test_cannot_use_one_of_another_mesh(self, world: World) -> None:
        genesis = genesis_from_words(world.words)
        value = self.word(world)
        foreign = sign(genesis, world.hosts["cloud"].mesh.view().mesh_id, value).data
        other = Identity.from_seed(b"o" * 32)
        await self.push(world, replace(value, genesis_public=other.public), other, mesh=_mesh_of(other))
        assert await world.waiting() is None
        world.hosts["cloud"].mesh.add([foreign])  # while the same in this mesh would be heard
        await world.keeper.tend()
        assert await world.waiting() is not None

    async def test_cannot_use_one_for_another_vault_or_of_anothers_data(self, world: World) -> None:
        genesis = genesis_from_words(world.words)
        await self.push(world, self.word(world, target_public=world.public("nas")), genesis)
        await self.push(world, self.word(world, owner_public=world.public("nas")), genesis)
        assert await world.waiting() is None
        await world.days(10)
        assert (await world.floor("home"), await world.floor("pad")) == ((90, "invite"), (90, "invite"))

    async def test_cannot_play_one_again_that_took_effect(self, world: World) -> None:
        await world.ask(days=40)
        (kept,) = [one.data for one in _decrees(world)]
        await world.days(8)
        await world.extend("home", 180)
        world.hosts["cloud"].mesh.add([kept])
        world.wake()
        await world.days(20)
        assert await world.floor() == (180, "owner")

    async def test_nor_one_that_was_opposed_once_the_veto_is_gone(self, world: World) -> None:
        await world.ask(days=40)
        (kept,) = [one.data for one in _decrees(world)]
        await world.cancel("cloud", owner="home")
        world.hosts["cloud"].mesh.add([kept])
        world.wake()
        await world.days(20)
        assert await world.floor() == (90, "invite")

    async def test_nor_an_older_one_after_a_newer(self, world: World) -> None:
        await world.ask(days=1)
        (kept,) = [one.data for one in _decrees(world)]
        await world.days(1)
        await world.ask(days=60)
        world.hosts["cloud"].mesh.add([kept])
        await world.days(8)
        assert await world.floor() == (60, "recovery key")

    async def test_cannot_have_days_pass_by_setting_the_clock(self, world: World) -> None:
        await world.ask(days=40)
        world.error = 30 * DAY
        await world.days(1)
        assert await world.floor() == (90, "invite")
        assert "clock_jumped" in world.codes("cloud")
        world.error = 0
        await world.days(1)
        assert await world.floor() == (90, "invite")

    async def test_nor_by_having_it_heard_while_the_clock_is_set_back(self, world: World) -> None:
        await world.days(20)
        world.error = -8 * DAY
        await world.ask(days=40)
        world.error = 0
        await world.days(6)
        assert await world.floor() == (90, "invite")

    async def test_nor_in_many_small_steps(self, world: World) -> None:
        await world.ask(days=40)
        for _ in range(40):
            world.error += DAY
            await world.days(1 / 24)
        assert await world.floor() == (90, "invite")

    async def test_nor_where_all_floors_are_shorter_than_the_seven_days(self, world: World) -> None:
        world.policy = replace(POLICY, floor=HOUR)
        await world.verbs["cloud"].shorten(request(floor=2 * DAY))
        await world.ask(days=1)
        world.error = DAY
        await world.days(6.5)
        assert await world.floor() == (2, "console")
        await world.days(1)
        assert await world.floor() == (1, "recovery key")

    async def test_nor_by_losing_what_the_vault_remembers(self, world: World) -> None:
        await world.ask(days=40)
        await world.days(6)
        del world.zfs.state.nodes[ROOT].properties[MARKS]
        world.wake()
        await world.days(6)
        assert await world.floor() == (90, "invite")
        await world.days(2)
        assert await world.floor() == (40, "recovery key")

    async def test_lengthening_stops_no_word_of_the_recovery_key(self, world: World) -> None:
        """Who holds the source fills the vault for ever; the paper is for that."""
        await world.extend("home", 36_500)
        await world.ask(days=40)
        await world.extend("home", 36_500)
        await world.days(8)
        assert await world.floor() == (40, "recovery key")


def _decrees(world: World) -> list[Any]:
    trust = world.hosts["cloud"].mesh.trust
    assert trust is not None
    return trust.decrees()


def _mesh_of(identity: Identity) -> bytes:
    from mesh.identity import mesh_id

    return mesh_id(identity.public)


def test_the_notice_is_a_week() -> None:
    assert NOTICE == 7 * DAY
