"""Coming in and being put out: real invites, real dialogues, doors that lead to each other in memory."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.invite import Token
from node.errors import Exit, MeshkeepError
from tests.fakes.mesh import BEGAN, Host, Street, request


class World:
    """Hosts that could meet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.street = Street()
        self.clock = [float(BEGAN)]

    def host(self, name: str) -> Host:
        return Host(self.path / name, self.street, self.clock)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path)
    yield made
    await asyncio.gather(*made.street.talks)


@pytest.fixture
async def home(world: World) -> Host:
    host = world.host("home")
    await host.init()
    return host


async def error_of(call: Any) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await call
    return caught.value


async def refused_join(host: Host, invite: str, **args: Any) -> MeshkeepError:
    """The error; nothing on the host's disk has changed."""
    before = host.files()
    error = await error_of(host.join(invite, **args))
    assert host.files() == before
    assert not host.mesh.joined
    assert host.joined == 0
    return error


class TestInit:
    async def test_makes_a_mesh_with_one_admin(self, world: World) -> None:
        host = world.host("first")
        answer = await host.init("fog", "first")
        assert (answer["mesh"], answer["node"]) == ("fog", "first")
        assert host.mesh.me().role == "admin"
        assert answer["address"].startswith("fd")

    async def test_the_recovery_words_are_shown_and_nowhere_on_disk(self, world: World) -> None:
        host = world.host("first")
        words = (await host.init())["recovery_words"]
        text = words if isinstance(words, str) else " ".join(words)
        everything = b"".join(host.files().values())
        assert len(text.split()) >= 12
        assert text.encode() not in everything

    async def test_twice_is_refused_and_changes_nothing(self, home: Host) -> None:
        before = home.files()
        error = await error_of(home.init("other", "other"))
        assert (error.code, error.exit) == ("already_joined", Exit.REFUSED)
        assert home.files() == before

    @pytest.mark.parametrize("name", ["", "Home", "a_b", "-a", "a-", "x" * 33, "ä", "a b", 7])
    async def test_a_name_that_is_none(self, world: World, name: object) -> None:
        host = world.host("first")
        before = host.files()
        for args in ({"mesh": name, "name": "home"}, {"mesh": "fog", "name": name or "_"}):
            error = await error_of(host.init(**args))  # type: ignore[arg-type]
            assert (error.code, error.exit) == ("bad_name", Exit.USAGE)
        assert host.files() == before

    async def test_a_restarted_agent_is_in_the_mesh_still(self, home: Host) -> None:
        before = home.mesh.view().members
        home.mesh.trust = None
        home.mesh.load()
        assert home.mesh.view().members == before


class TestJoin:
    @pytest.mark.parametrize("role", ["admin", "member", "vault", "client"])
    async def test_by_an_invite_both_know_each_other(self, world: World, home: Host, role: str) -> None:
        new = world.host("new")
        invite = await home.invite(role=role, name="new")
        answer = await new.join(invite["invite"])
        assert (answer["mesh"], answer["node"], answer["role"]) == ("fog", "new", role)
        for host in (home, new):
            member = host.mesh.view().by_name("new")
            assert member is not None
            assert member.role == role
            assert member.record is not None
        assert new.mesh.view().by_name("home") is not None

    async def test_it_is_still_so_after_a_restart_of_both(self, world: World, home: Host) -> None:
        new = world.host("new")
        await new.join((await home.invite(name="new"))["invite"])
        for host in (home, new):
            host.mesh.load()
            assert {m.name for m in host.mesh.view().active()} == {"home", "new"}

    async def test_the_new_node_chooses_its_name_where_the_invite_leaves_it(
        self, world: World, home: Host
    ) -> None:
        new = world.host("new")
        answer = await new.join((await home.invite())["invite"], name="laptop")
        assert answer["node"] == "laptop"

    async def test_a_vault_keeps_its_terms(self, world: World, home: Host) -> None:
        vault = world.host("vault")
        invite = await home.invite(role="vault", under="tank/backup", quota=1000, floor_days=7)
        await vault.join(invite["invite"], name="cloud")
        terms = vault.mesh.local.terms()
        assert terms is not None
        assert (terms.under, terms.quota, terms.floor_days) == ("tank/backup", 1000, 7)

    async def test_who_is_in_a_mesh_does_not_join_another(self, world: World, home: Host) -> None:
        other = world.host("other")
        await other.init("rival", "other")
        error = await error_of(other.join((await home.invite())["invite"]))
        assert (error.code, error.exit) == ("already_joined", Exit.REFUSED)

    async def test_waiting_and_dialled(self, world: World, home: Host) -> None:
        new = world.host("new")
        invite = await home.invite(role="vault", name="cloud")
        joining = asyncio.ensure_future(new.join(invite["invite"], wait=True))
        await asyncio.sleep(0)
        answer = await home.admissions.dial(request(id=invite["id"], address="203.0.113.9"))
        assert (answer["name"], answer["role"]) == ("cloud", "vault")
        assert (await joining)["node"] == "cloud"
        assert home.mesh.local.hints()[answer["node"]][0].host == "203.0.113.9"

    async def test_a_second_join_on_the_same_host_at_once(self, world: World, home: Host) -> None:
        new = world.host("new")
        invite = await home.invite(name="cloud")
        first = asyncio.ensure_future(new.join(invite["invite"], wait=True))
        await asyncio.sleep(0)
        error = await error_of(new.join(invite["invite"], wait=True))
        assert (error.code, error.exit) == ("joining", Exit.REFUSED)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


class TestAnInviteThatIsNoGood:
    async def test_used(self, world: World, home: Host) -> None:
        invite = (await home.invite())["invite"]
        await world.host("one").join(invite, name="one")
        error = await refused_join(world.host("two"), invite, name="two")
        assert (error.code, error.exit) == ("join_used", Exit.REFUSED)
        assert home.mesh.view().by_name("two") is None

    async def test_revoked(self, world: World, home: Host) -> None:
        invite = await home.invite()
        await home.admissions.revoke(request(id=invite["id"]))
        error = await refused_join(world.host("new"), invite["invite"], name="new")
        assert (error.code, error.exit) == ("join_revoked", Exit.REFUSED)

    async def test_expired_is_seen_before_anything_is_dialled(self, world: World, home: Host) -> None:
        invite = await home.invite(ttl=60)
        world.clock[0] += 60
        error = await refused_join(world.host("new"), invite["invite"], name="new")
        assert (error.code, error.exit) == ("invite_expired", Exit.REFUSED)

    async def test_expired_while_it_waited_to_be_dialled(self, world: World, home: Host) -> None:
        invite = await home.invite(ttl=60)
        new = world.host("new")
        before = new.files()
        joining = asyncio.ensure_future(new.join(invite["invite"], wait=True, name="new"))
        await asyncio.sleep(0)
        world.clock[0] += 60
        for door in world.street.doors:
            for guest in world.street.doors[door].guests:
                world.street.bell(guest).set()
        error = await error_of(joining)
        assert (error.code, error.exit) == ("invite_expired", Exit.REFUSED)
        assert new.files() == before

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda text: "", lambda text: "hello", lambda text: text[:-1], lambda text: text[:40],
            lambda text: text.replace("mk1-", "mk9-"), lambda text: text + "a", lambda text: "mk1-",
            lambda text: text[:50] + ("a" if text[50] != "a" else "b") + text[51:],
            lambda text: text[:-3] + "ä" + text[-2:],
        ],
    )  # fmt: skip
    async def test_mistyped(self, world: World, home: Host, spoil: Any) -> None:
        invite = (await home.invite())["invite"]
        error = await refused_join(world.host("new"), spoil(invite), name="new")
        assert error.code.startswith("invite_")
        assert error.exit is Exit.USAGE

    async def test_another_secret_finds_no_door(self, world: World, home: Host) -> None:
        """Who guesses a secret is not even heard: WireGuard has no such peer."""
        token = Token.parse((await home.invite())["invite"])
        forged = Token(
            token.mesh_id, b"?" * 16, token.door_public, "admin", token.expires, token.endpoints
        ).text
        error = await refused_join(world.host("new"), forged, name="new")
        assert (error.code, error.exit) == ("issuer_unreachable", Exit.NO_PEER)

    async def test_a_role_that_was_made_higher_on_the_way(self, world: World, home: Host) -> None:
        token = Token.parse((await home.invite(role="client"))["invite"])
        forged = Token(
            token.mesh_id, token.secret, token.door_public, "admin", token.expires, token.endpoints
        ).text
        new = world.host("new")
        error = await error_of(new.join(forged, name="new"))
        assert error.exit is Exit.REFUSED
        assert not new.mesh.joined
        assert [m.role for m in home.mesh.view().members.values() if m.name == "new"] == ["client"]

    async def test_a_taken_name(self, world: World, home: Host) -> None:
        error = await refused_join(world.host("new"), (await home.invite())["invite"], name="home")
        assert (error.code, error.exit) == ("join_name_taken", Exit.REFUSED)

    async def test_another_name_than_the_invite_says(self, world: World, home: Host) -> None:
        invite = (await home.invite(name="cloud"))["invite"]
        error = await refused_join(world.host("new"), invite, name="other")
        assert (error.code, error.exit) == ("join_name_fixed", Exit.REFUSED)

    @pytest.mark.parametrize("name", ["Home", "a_b", "x" * 33, "-"])
    async def test_a_name_that_is_none(self, world: World, home: Host, name: str) -> None:
        error = await refused_join(world.host("new"), (await home.invite())["invite"], name=name)
        assert (error.code, error.exit) == ("bad_name", Exit.USAGE)

    async def test_after_a_refusal_the_invite_is_good_still(self, world: World, home: Host) -> None:
        invite = (await home.invite())["invite"]
        new = world.host("new")
        await refused_join(new, invite, name="home")
        assert (await new.join(invite, name="fine"))["node"] == "fine"

    async def test_two_at_once_exactly_one_is_in(self, world: World, home: Host) -> None:
        invite = (await home.invite())["invite"]
        guests = [world.host(name) for name in ("one", "two", "three")]
        ends = await asyncio.gather(
            *(guest.join(invite, name=guest.path.name) for guest in guests), return_exceptions=True
        )
        errors = [end for end in ends if isinstance(end, MeshkeepError)]
        assert [error.code for error in errors] == ["join_used", "join_used"]
        assert sum(guest.mesh.joined for guest in guests) == 1
        assert len(home.mesh.view().members) == 2

    async def test_two_invites_for_one_name_at_once_exactly_one_is_in(self, world: World, home: Host) -> None:
        guests = [world.host(name) for name in ("one", "two")]
        invites = [(await home.invite())["invite"] for _ in guests]
        ends = await asyncio.gather(
            *(guest.join(invite, name="twin") for guest, invite in zip(guests, invites, strict=True)),
            return_exceptions=True,
        )
        (error,) = [end for end in ends if isinstance(end, MeshkeepError)]
        assert error.code == "join_name_taken"
        assert len(home.mesh.view().members) == 2


class TestInvites:
    async def test_are_listed_with_what_became_of_them(self, world: World, home: Host) -> None:
        made = {state: await home.invite() for state in ("open", "used", "revoked")}
        made["expired"] = await home.invite(ttl=1)
        await world.host("new").join(made["used"]["invite"], name="new")
        await home.admissions.revoke(request(id=made["revoked"]["id"]))
        world.clock[0] += 1
        listed = {one["id"]: one for one in (await home.admissions.listing(request()))["invites"]}
        assert {state: listed[one["id"]]["state"] for state, one in made.items()} == {
            state: state for state in made
        }
        assert listed[made["used"]["id"]]["used_by"] == "new"

    async def test_never_say_their_secret_again(self, home: Host) -> None:
        invite = await home.invite()
        secret = Token.parse(invite["invite"]).secret
        shown = str(await home.admissions.listing(request()))
        assert secret.hex() not in shown
        assert invite["invite"] not in shown

    async def test_a_name_that_a_node_has(self, home: Host) -> None:
        error = await error_of(home.invite(name="home"))
        assert (error.code, error.exit) == ("name_taken", Exit.REFUSED)

    @pytest.mark.parametrize(
        ("args", "code", "exit"),
        [
            ({"role": "king"}, "bad_role", Exit.USAGE),
            ({"name": "No Name"}, "bad_name", Exit.USAGE),
            ({"succeeds": "nobody"}, "no_node", Exit.NOT_FOUND),
            ({"succeeds": "home"}, "self", Exit.REFUSED),
            ({"role": "member", "quota": 5}, "terms_without_vault", Exit.USAGE),
            ({"role": "vault", "under": "../x"}, "bad_name", Exit.USAGE),
        ],
    )
    async def test_what_cannot_be_invited(
        self, home: Host, args: dict[str, Any], code: str, exit: Exit
    ) -> None:
        before = home.files()
        error = await error_of(home.invite(**args))
        assert (error.code, error.exit) == (code, exit)
        assert home.files() == before

    @pytest.mark.parametrize("role", ["member", "vault", "client"])
    async def test_are_made_by_admins_only(self, world: World, home: Host, role: str) -> None:
        new = world.host("new")
        await new.join((await home.invite(role=role, name="new"))["invite"])
        error = await error_of(new.invite())
        assert (error.code, error.exit) == ("not_admin", Exit.NOT_PERMITTED)

    async def test_without_a_mesh_there_is_nothing_to_invite_to(self, world: World) -> None:
        error = await error_of(world.host("new").invite())
        assert (error.code, error.exit) == ("no_mesh", Exit.REFUSED)

    async def test_that_are_not_known_here(self, home: Host) -> None:
        for call in (home.admissions.revoke, home.admissions.dial):
            error = await error_of(call(request(id="deadbeef", address="203.0.113.9")))
            assert (error.code, error.exit) == ("no_invite", Exit.NOT_FOUND)

    async def test_the_door_is_open_while_one_lives_and_no_longer(self, world: World, home: Host) -> None:
        await home.admissions.keep()
        assert not home.door.guests
        await home.invite(ttl=60)
        await home.admissions.keep()
        assert len(home.door.guests) == 1
        world.clock[0] += 60
        await home.admissions.keep()
        assert not home.door.guests


class TestDial:
    async def test_to_nobody(self, home: Host) -> None:
        invite = await home.invite(role="vault")
        error = await error_of(
            home.admissions.dial(request(id=invite["id"], address="203.0.113.9", timeout=0.01))
        )
        assert (error.code, error.exit) == ("nobody_there", Exit.NO_PEER)
        assert "--wait" in error.hint

    @pytest.mark.parametrize(("address", "port"), [("", 1), ("203.0.113.9", 70000), ("no such host", 1)])
    async def test_to_no_address(self, home: Host, address: str, port: int) -> None:
        invite = await home.invite()
        error = await error_of(
            home.admissions.dial(request(id=invite["id"], address=address, port=port, timeout=0.01))
        )
        assert (error.code, error.exit) == ("bad_address", Exit.USAGE)

    @pytest.mark.parametrize("what", ["used", "revoked", "expired"])
    async def test_with_an_invite_that_is_no_good(self, world: World, home: Host, what: str) -> None:
        invite = await home.invite(ttl=60)
        if what == "used":
            await world.host("new").join(invite["invite"], name="new")
        elif what == "revoked":
            await home.admissions.revoke(request(id=invite["id"]))
        else:
            world.clock[0] += 60
        error = await error_of(home.admissions.dial(request(id=invite["id"], address="203.0.113.9")))
        assert (error.code, error.exit) == (f"invite_{what}", Exit.REFUSED)


class TestEvict:
    async def test_is_gone_here_before_the_answer(self, world: World, home: Host) -> None:
        await world.host("new").join((await home.invite(name="new"))["invite"])
        await home.admissions.evict(request(node="new"))
        assert home.expelled == ["new"]
        assert home.mesh.view().by_name("new") is None
        home.mesh.load()
        assert home.mesh.view().by_name("new") is None

    async def test_who_is_not_there(self, home: Host) -> None:
        error = await error_of(home.admissions.evict(request(node="nobody")))
        assert (error.code, error.exit) == ("no_node", Exit.NOT_FOUND)

    async def test_an_admin_does_not_evict_who_let_it_in(self, world: World, home: Host) -> None:
        new = world.host("new")
        await new.join((await home.invite(role="admin", name="new"))["invite"])
        error = await error_of(new.admissions.evict(request(node="home")))
        assert (error.code, error.exit) == ("above_us", Exit.NOT_PERMITTED)

    async def test_the_evicted_does_not_come_back_by_the_same_key(self, world: World, home: Host) -> None:
        new = world.host("new")
        await new.join((await home.invite(name="new"))["invite"])
        await home.admissions.evict(request(node="new"))
        new.mesh.trust = None
        (new.path / "mesh" / "mesh.id").unlink()
        error = await error_of(new.join((await home.invite())["invite"], name="new"))
        assert (error.code, error.exit) == ("join_node_evicted", Exit.REFUSED)


class TestSuccession:
    async def test_a_new_host_takes_name_and_roots_of_the_one_that_burned(
        self, world: World, home: Host
    ) -> None:
        old = world.host("old")
        await old.join((await home.invite(name="nas"))["invite"])
        invite = await home.invite(succeeds="nas")
        heir = world.host("heir")
        answer = await heir.join(invite["invite"])
        assert answer["node"] == "nas"
        assert home.mesh.owned_by(answer["id"]) == [answer["id"], old.mesh.identity.id]
        assert home.mesh.owned_by(old.mesh.identity.id) == [old.mesh.identity.id]
        assert [m.id for m in home.mesh.view().active() if m.name == "nas"] == [answer["id"]]

    async def test_of_a_successor_too(self, world: World, home: Host) -> None:
        ids = []
        for number in range(3):
            host = world.host(f"nas{number}")
            args = {"succeeds": "nas"} if number else {"name": "nas"}
            ids.append((await host.join((await home.invite(**args))["invite"]))["id"])
            world.clock[0] += 10
        assert home.mesh.owned_by(ids[2]) == [ids[2], ids[1], ids[0]]

    async def test_under_another_name_is_none(self, world: World, home: Host) -> None:
        await world.host("old").join((await home.invite(name="nas"))["invite"])
        error = await error_of(home.invite(succeeds="nas", name="other"))
        assert (error.code, error.exit) == ("bad_name", Exit.USAGE)

    async def test_twice_at_once_exactly_one_inherits(self, world: World, home: Host) -> None:
        await world.host("old").join((await home.invite(name="nas"))["invite"])
        invites = [(await home.invite(succeeds="nas"))["invite"] for _ in range(2)]
        ends = await asyncio.gather(
            *(world.host(f"heir{n}").join(text) for n, text in enumerate(invites)), return_exceptions=True
        )
        (error,) = [end for end in ends if isinstance(end, MeshkeepError)]
        assert error.code == "join_cannot_succeed"
