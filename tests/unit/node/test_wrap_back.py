"""A key that a thief changed, and somebody approved, is undone on what is restored. The copy stays as it is."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mesh.link_errors import PeerRefused
from node.errors import MeshkeepError
from node.key_archive import KeyArchive
from node.replica_places import KEY
from node.restore import Wanted
from node.wrap_back import Wrap, WrapBack
from node.wrap_verbs import WrapVerbs
from tests.fakes.pair import HOME, PASSPHRASE, ROOT, Pair, dump, served
from zfs import errors

STOLEN = b"the thief's own words"
COPY = f"{ROOT}/{HOME}/tank/home"
BACK = "tank/back"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """tank/home went to cloud under two wraps, and the second was approved; it is restored as tank/back."""
    async with served(Pair(tmp_path)) as found:
        await found.encrypted()
        await found.snap("a")
        await found.replicate()
        found.home.change_passphrase("tank/home", STOLEN)
        await found.snap("b")
        await found.refused()
        (pending,) = KeyArchive(tmp_path).pending()
        await found.cloud.set(COPY, {KEY: pending.fingerprint})
        found.serving()
        await found.replicate()

        async def ignore(_: object) -> None:
            return None

        await found.restorer.restore(Wanted("tank/home", "cloud", BACK, accept_unlisted=True), ignore)
        yield found


def back(pair: Pair, scratch: Path) -> WrapBack:
    workers: Any = pair.sending
    return WrapBack(pair.home, workers, pair, scratch)


async def older(pair: Pair, scratch: Path) -> Wrap:
    (one,) = [
        each for each in await back(pair, scratch).wraps("cloud", None, "tank/home") if not each.current
    ]
    return one


async def test_the_original_passphrase_opens_everything_again(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(errors.WrongKey):
        await pair.home.check_key(BACK, PASSPHRASE)
    before = dump(pair.cloud)
    done = await back(pair, tmp_path).put_back(BACK, await older(pair, tmp_path), PASSPHRASE)
    assert done["opens"]
    with pytest.raises(errors.WrongKey):
        await pair.home.check_key(BACK, STOLEN)
    await pair.home.load_key(BACK, PASSPHRASE)
    assert [pair.home.read(f"{BACK}@{name}") for name in ("a", "b")] == [b"more", b"moremore"]
    assert dump(pair.cloud) == before


async def test_what_does_not_open_is_not_kept(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(MeshkeepError) as caught:
        await back(pair, tmp_path).put_back(BACK, await older(pair, tmp_path), b"no key of mine")
    assert caught.value.code == "key_does_not_open"
    await pair.home.check_key(BACK, STOLEN)


async def test_without_a_passphrase_it_is_put_back_untried(pair: Pair, tmp_path: Path) -> None:
    done = await back(pair, tmp_path).put_back(BACK, await older(pair, tmp_path), None)
    assert done["opens"] is None
    await pair.home.check_key(BACK, PASSPHRASE)


async def test_the_wrap_of_another_dataset_is_refused_and_nothing_changes(pair: Pair, tmp_path: Path) -> None:
    await pair.encrypted("tank/other")
    await pair.snap("x", dataset="tank/other")
    await pair.replicate("tank/other")
    (other,) = await back(pair, tmp_path).wraps("cloud", None, "tank/other")
    before = dump(pair.home)
    with pytest.raises(MeshkeepError) as caught:
        await back(pair, tmp_path).put_back(BACK, other, None)
    assert "another key" in (caught.value.why or "")
    assert dump(pair.home) == before


@pytest.mark.parametrize("state", ["loaded", "gone", "inherits", "written"])
async def test_what_is_in_use_or_no_root_is_left_alone(pair: Pair, tmp_path: Path, state: str) -> None:
    wrap = await older(pair, tmp_path)
    to = BACK
    if state == "loaded":
        await pair.home.load_key(BACK, STOLEN)
    elif state == "gone":
        to = "tank/nothing"
    elif state == "inherits":
        pair.home.state.nodes[BACK].key_root = pair.home.state.nodes["tank/home"]
    else:
        pair.home.state.nodes[BACK].data += b"!"
    before = dump(pair.home)
    with pytest.raises(MeshkeepError):
        await back(pair, tmp_path).put_back(to, wrap, PASSPHRASE)
    assert dump(pair.home) == before


async def test_only_its_owner_is_given_the_archive(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(PeerRefused) as caught:
        await pair.link().call("::1", "replica.wraps", {"dataset": "tank/home", "owner": "nbornbornbornbor"})
    assert caught.value.code == "not_yours"
    with pytest.raises(MeshkeepError):
        await back(pair, tmp_path).wraps("cloud", "nbornbornbornbor", "tank/home")


async def test_the_verbs_want_a_fingerprint_that_names_one(pair: Pair, tmp_path: Path) -> None:
    mesh: Any = None
    verbs = WrapVerbs(mesh, back(pair, tmp_path))
    args: dict[str, Any] = {"from": "cloud", "dataset": "tank/home", "to": BACK}

    def asking(**more: Any) -> Any:
        return SimpleNamespace(args=args | more)

    listed = (await verbs.listing(asking()))["wraps"]
    assert sorted(one["current"] for one in listed) == [False, True]
    (wanted,) = [one["fingerprint"] for one in listed if not one["current"]]
    for wrong in ("", wanted[:15], "0" * 64):
        with pytest.raises(MeshkeepError) as caught:
            await verbs.put(asking(fingerprint=wrong))
        assert caught.value.code == "no_wrap"
    done = await verbs.put(asking(fingerprint=wanted[:16], key=PASSPHRASE.decode()))
    assert (done["wrap"], done["opens"]) == (wanted, True)
