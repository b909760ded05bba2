"""What every door to ZFS keeps, the real one and its double. Needs nothing but the standard library:

    python3 -m tests.contracts.zfs_contract POOL [WORD…]     (root, in a guest; works below POOL/contract)

Each `contract_*` gets an `Env` with an empty dataset of its own.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.contracts import zfs_streams_contract
from tests.contracts.zfs_env import PASSPHRASE, Env, equal, move, raises
from zfs import errors
from zfs.model import Look

# --- listing


async def contract_version_and_pools_are_told(env: Env) -> None:
    userland, module = await env.zfs.version()
    assert userland[0].isdigit()
    assert module[0].isdigit()
    pool = env.root.split("/")[0]
    found = {one.name: one for one in await env.zfs.pools()}
    assert found[pool].size >= found[pool].free > 0
    equal(found[pool].readonly, False)


async def contract_a_pool_has_a_status(env: Env) -> None:
    pool = env.root.split("/")[0]
    listed = next(one for one in await env.zfs.pools() if one.name == pool)
    found = await env.zfs.pool_status(pool)
    equal((found.name, found.state, found.size), (pool, listed.health, listed.size))
    equal((found.vdevs[0].name, found.vdevs[0].state), (pool, found.state))
    assert len(found.vdevs) > 1
    equal({(one.state, one.read, one.write, one.checksum) for one in found.vdevs}, {("ONLINE", 0, 0, 0)})
    assert found.size >= found.free > 0
    assert listed.freeing >= 0
    await raises(errors.NotFound, env.zfs.pool_status("nopool12345"))
    await raises(errors.NotFound, env.zfs.pool_status(env.root))


async def contract_a_dataset_says_when_its_snapshots_changed(env: Env) -> None:
    name, child = await env.make("changed"), await env.make("changed", "child")
    equal((await env.zfs.dataset(name)).snapshots_changed, None)
    await env.zfs.snapshot([name + "@a"])
    made = (await env.zfs.snapshots(name))[0].creation
    changed = (await env.zfs.dataset(name)).snapshots_changed
    assert changed is not None
    assert made <= changed + 1, "a clock of coarse ticks may be behind"
    equal((await env.zfs.dataset(child)).snapshots_changed, None)
    await env.zfs.hold("t", [name + "@a"])
    await env.zfs.bookmark(name + "@a", name + "#a")
    await env.zfs.set(name, {"test:a": "b"})
    for seen in (await env.zfs.dataset(name), (await env.zfs.look(name)).dataset):
        equal(seen.snapshots_changed, changed)
    await env.zfs.release("t", [name + "@a"])
    await env.zfs.destroy_snapshots([name + "@a"])
    after = (await env.zfs.dataset(name)).snapshots_changed
    assert after is not None
    assert after >= changed


async def contract_the_snapshots_of_many_datasets_come_at_once(env: Env) -> None:
    one, two, child = await env.make("one"), await env.make("two w"), await env.make("one", "child")
    await env.zfs.snapshot([one + "@a", child + "@a"])
    await env.zfs.snapshot([one + "@b"])
    gone = env.name("gone")
    found = await env.zfs.histories([one, gone, two, one])
    equal(found[one], await env.zfs.snapshots(one))
    equal(found[two], [])
    assert isinstance(found[gone], errors.NotFound)
    equal(list(found), [one, gone, two])
    equal(await env.zfs.histories([]), {})


async def contract_datasets_come_parents_first(env: Env) -> None:
    for parts in (["b"], ["a"], ["a", "x"], ["a-b"]):
        await env.make(*parts)
    found = [one.name for one in await env.zfs.datasets(env.root)]
    equal(found, [env.root, env.name("a"), env.name("a", "x"), env.name("a-b"), env.name("b")])
    everything = [one.name for one in await env.zfs.datasets()]
    assert set(found) <= set(everything)


async def contract_a_dataset_is_described(env: Env) -> None:
    name = await env.make("plain")
    one = await env.zfs.dataset(name)
    equal(
        (one.name, one.kind, one.encrypted, one.keystatus, one.mounted),
        (name, "filesystem", False, None, False),
    )
    assert one.guid > 0
    assert one.createtxg > 0
    assert one.available > 0


async def contract_what_is_missing_is_not_found(env: Env) -> None:
    gone = env.name("gone")
    await raises(errors.NotFound, env.zfs.dataset(gone))
    await raises(errors.NotFound, env.zfs.datasets(gone))
    await raises(errors.NotFound, env.zfs.snapshots(gone))
    await raises(errors.NotFound, env.zfs.bookmarks(gone))
    await raises(errors.NotFound, env.zfs.holds(gone + "@a"))
    await raises(errors.NotFound, env.zfs.get(gone, ["used"]))
    await raises(errors.NotFound, env.zfs.resume_state(gone))
    await raises(errors.NotFound, env.zfs.set(gone, {"test:a": "1"}))
    await raises(errors.NotFound, env.zfs.rename(gone, env.name("there")))
    await raises(errors.NotFound, env.zfs.destroy_dataset(gone))
    await raises(errors.NotFound, env.zfs.snapshot([gone + "@a"]))
    await raises(errors.NotFound, env.zfs.bookmark(gone + "@a", gone + "#a"))
    await raises(errors.NotFound, env.zfs.hold("tag", [gone + "@a"]))
    await raises(errors.NotFound, env.zfs.create(env.name("gone", "child"), {}))
    await raises(errors.NotFound, env.zfs.dataset("nopool12345/x"))


async def contract_names_with_spaces_and_colons_work(env: Env) -> None:
    name = await env.make("a name: with.all-of_it")
    await env.zfs.snapshot([name + "@snap shot:1"])
    await env.zfs.bookmark(name + "@snap shot:1", name + "#mark 1:2")
    await env.zfs.hold("a tag: too", [name + "@snap shot:1"])
    equal([one.full_name for one in await env.zfs.snapshots(name)], [name + "@snap shot:1"])
    equal([one.full_name for one in await env.zfs.bookmarks(name)], [name + "#mark 1:2"])
    equal(await env.zfs.holds(name + "@snap shot:1"), ["a tag: too"])
    equal((await env.zfs.dataset(name)).name, name)
    await env.zfs.set(name, {"test:words": "two words\tand a tab"})
    equal((await env.zfs.get(name, ["test:words"]))["test:words"].value, "two words\tand a tab")
    await env.zfs.release("a tag: too", [name + "@snap shot:1"])


# --- properties


async def contract_properties_know_where_they_come_from(env: Env) -> None:
    name = await env.make("props")
    await env.zfs.set(env.root, {"test:a": "above"})
    found = await env.zfs.get(name, ["test:a", "test:none", "readonly"])
    equal((found["test:a"].value, found["test:a"].source), ("above", f"inherited from {env.root}"))
    equal((found["test:none"].value, found["test:none"].source), ("-", "-"))
    equal((found["readonly"].value, found["readonly"].source), ("off", "default"))
    await env.zfs.set(name, {"test:a": "own", "readonly": "on"})
    found = await env.zfs.get(name, ["test:a", "readonly"])
    equal([(one.value, one.source) for one in found.values()], [("own", "local"), ("on", "local")])
    await env.zfs.inherit(name, "test:a")
    equal((await env.zfs.get(name, ["test:a"]))["test:a"].value, "above")


async def contract_own_properties_are_all_that_is_set_there_and_nothing_inherited(env: Env) -> None:
    name, bare = await env.make("own"), await env.make("own/bare")
    await env.zfs.set(env.root, {"test:above": "above"})
    await env.zfs.set(name, {"test:a": "two\tparts\nand lines", "readonly": "on", "quota": "1073741824"})
    found = await env.zfs.own_properties([name, bare])
    equal(
        {key: found[name].get(key) for key in ("readonly", "quota")},
        {"readonly": "on", "quota": "1073741824"},
    )
    equal(found[name]["test:a"], "two\tparts\nand lines")
    equal({"test:above", "compression"} & found[name].keys(), set())
    equal({"test:a", "readonly", "quota"} & found[bare].keys(), set())
    equal(await env.zfs.own_properties([]), {})
    await raises(errors.NotFound, env.zfs.own_properties([env.name("gone")]))


async def contract_properties_given_at_creation_are_local(env: Env) -> None:
    name = env.name("made")
    await env.zfs.create(name, {"canmount": "noauto", "mountpoint": "none", "test:x": "y"})
    found = await env.zfs.get(name, ["canmount", "mountpoint", "test:x"])
    equal(
        {(one.value, one.source) for one in found.values()},
        {("noauto", "local"), ("none", "local"), ("y", "local")},
    )
    equal(await env.zfs.mountpoints([name]), {name: None})
    await raises(errors.AlreadyExists, env.zfs.create(name, {}))


async def contract_whatever_a_mountpoint_is_it_is_told_and_breaks_no_listing(env: Env) -> None:
    row = f"{env.root}/ghost\tfilesystem\t9\t9\t0\t0\t0\t-\t-\tno\t-"
    odd = [
        "/a\tb",
        "/a\nb",
        "/a\n",
        "/a\x0cb",
        "/a\u2028\u0085b",
        f"/x\tno\t-\n{row}",
        "/x\nmountpoint\t/y\tlocal",
    ]
    names = [await env.make(f"odd {number}") for number in range(len(odd))]
    child, none, legacy = await env.make("odd 0", "child"), await env.make("none"), await env.make("legacy")
    for name, place in zip(names, odd, strict=True):
        await env.zfs.set(name, {"mountpoint": place})
    await env.zfs.set(none, {"mountpoint": "none"})
    await env.zfs.set(legacy, {"mountpoint": "legacy"})
    wanted = {**dict(zip(names, odd, strict=True)), child: odd[0] + "/child", none: None, legacy: "legacy"}
    equal(await env.zfs.mountpoints(list(wanted)), wanted)
    equal(
        await env.zfs.mountpoints([names[0], none, legacy]),
        {name: wanted[name] for name in (names[0], none, legacy)},
    )
    equal({one.name for one in await env.zfs.datasets(env.root)}, {env.root, *wanted})
    equal((await env.zfs.look(names[1])).dataset, await env.zfs.dataset(names[1]))
    equal(await env.zfs.mountpoints([]), {})
    await raises(errors.NotFound, env.zfs.mountpoints([none, env.name("gone")]))


async def contract_a_look_shows_all_that_one_dataset_has(env: Env) -> None:
    name = await env.make("looked")
    child = await env.make("looked", "child")
    await env.zfs.snapshot([name + "@a", child + "@other"], {"test:note": "17"})
    await env.zfs.snapshot([name + "@b"])
    await env.zfs.bookmark(name + "@a", name + "#mark")
    await env.zfs.set(name, {"canmount": "noauto", "test:of": "the dataset"})
    look = await env.zfs.look(name, ("canmount", "test:of", "test:absent"), "test:note")
    equal(look.dataset, await env.zfs.dataset(name))
    equal(list(look.snapshots), await env.zfs.snapshots(name))
    equal(list(look.bookmarks), await env.zfs.bookmarks(name))
    equal((look.resume, dict(look.notes)), (None, {"a": "17"}))
    equal(dict(look.properties), {"canmount": "noauto", "test:of": "the dataset"})
    equal((await env.zfs.look(child)).bookmarks, ())
    await raises(errors.NotFound, env.zfs.look(env.name("gone")))


async def contract_many_are_looked_at_at_once(env: Env) -> None:
    one, two, empty = await env.make("one"), await env.make("two w"), await env.make("one", "empty")
    await env.zfs.snapshot([one + "@a", two + "@a"], {"test:note": "17"})
    await env.zfs.snapshot([one + "@b"])
    await env.zfs.bookmark(one + "@a", one + "#mark")
    await env.zfs.set(two, {"canmount": "noauto"})
    gone, away = env.name("gone"), env.name("gone", "further")
    asked = [gone, one, away, two, empty, one]
    found = await env.zfs.looks(asked, ("canmount",), "test:note")
    for name in (one, two, empty):
        equal(found[name], await env.zfs.look(name, ("canmount",), "test:note"))
    for name in (gone, away):
        assert isinstance(found[name], errors.NotFound)
    equal(set(found), set(asked))
    equal(await env.zfs.looks([]), {})
    only = (await env.zfs.looks([gone]))[gone]
    assert isinstance(only, errors.NotFound)


async def contract_what_is_known_of_unchanged_snapshots_is_taken_from_there(env: Env) -> None:
    same, more, never = await env.make("same"), await env.make("more"), await env.make("never")
    await env.zfs.snapshot([same + "@a", more + "@a"])
    seen = await env.zfs.looks([same, more, never])
    known = {name: look for name, look in seen.items() if isinstance(look, Look)}
    await env.zfs.bookmark(same + "@a", same + "#late")
    await env.write(same, 300_000)
    await env.zfs.snapshot([more + "@b"])
    # The property has whole seconds, so the two changes may be one to it.
    earlier = replace(known[more].dataset, snapshots_changed=1_000_000_000)
    known[more] = replace(known[more], dataset=earlier)
    found = await env.zfs.looks([same, more, never], known=known)
    looks = {name: look for name, look in found.items() if isinstance(look, Look)}
    equal(looks[same].bookmarks, ())
    equal(looks[same].snapshots, known[same].snapshots)
    equal(looks[same].dataset, await env.zfs.dataset(same))
    equal(looks[more], await env.zfs.look(more))
    equal(looks[never], await env.zfs.look(never))


async def contract_many_are_given_a_property_at_once(env: Env) -> None:
    name = await env.make("setall")
    other = await env.make("setall", "other", passphrase=PASSPHRASE)
    await env.zfs.snapshot([name + "@a", other + "@a"])
    await env.zfs.snapshot([name + "@b"])
    await env.zfs.set_all(
        [name + "@a", name + "@gone", other + "@a", other], {"test:at": "17", "test:by": "x"}
    )
    equal(await env.zfs.snapshot_property(name, "test:at"), {"a": "17"})
    equal(await env.zfs.snapshot_property(other, "test:by"), {"a": "x"})
    equal((await env.zfs.get(other, ["test:at"]))["test:at"].value, "17")
    await env.zfs.set_all([name + "@a", name + "@b"], {"test:at": "18"})
    equal(await env.zfs.snapshot_property(name, "test:at"), {"a": "18", "b": "18"})
    await env.zfs.set_all([], {"test:at": "19"})


async def contract_many_bookmarks_are_made_at_once(env: Env) -> None:
    name = await env.make("marks")
    for short in "abc":
        await env.zfs.snapshot([f"{name}@{short}"])
    marks = {f"{name}#{short}": f"{name}@{short}" for short in "abc"}
    await env.zfs.bookmark(f"{name}@b", f"{name}#b")
    await env.zfs.bookmark_all(marks)
    guids = await env.guids(name)
    equal(
        [(one.name, one.guid) for one in await env.zfs.bookmarks(name)], list(zip("abc", guids, strict=True))
    )
    await env.zfs.bookmark_all(marks)
    await env.zfs.bookmark_all({})
    await raises(errors.AlreadyExists, env.zfs.bookmark_all({f"{name}#a": f"{name}@b"}))
    missing = {f"{name}#x": f"{name}@a", f"{name}#y": f"{name}@gone"}
    await raises(errors.NotFound, env.zfs.bookmark_all(missing))
    equal([one.name for one in await env.zfs.bookmarks(name)], ["a", "b", "c"])


async def contract_snapshots_carry_properties_of_their_own(env: Env) -> None:
    name = await env.make("snapprops")
    child = await env.make("snapprops", "child")
    await env.zfs.snapshot([name + "@a", child + "@a"], {"test:made": "together"})
    await env.zfs.snapshot([name + "@b"])
    await env.zfs.set(name, {"test:late": "inherited is not own"})
    await env.zfs.set(name + "@b", {"test:late": "17"})
    equal(await env.zfs.snapshot_property(name, "test:made"), {"a": "together"})
    equal(await env.zfs.snapshot_property(name, "test:late"), {"b": "17"})
    equal((await env.zfs.get(name + "@b", ["test:late"]))["test:late"].source, "local")
    await raises(errors.NotFound, env.zfs.snapshot_property(env.name("gone"), "test:late"))


# --- snapshots, bookmarks, holds


async def contract_snapshots_of_several_datasets_are_one_transaction(env: Env) -> None:
    names = [await env.make(part) for part in ("one", "two", "three")]
    await env.zfs.snapshot([name + "@together" for name in names])
    found = await env.zfs.snapshots(env.root, recursive=True)
    equal(sorted(one.dataset for one in found), sorted(names))
    equal(len({one.createtxg for one in found}), 1)
    equal(len({one.guid for one in found}), 3)


async def contract_one_that_exists_stops_all(env: Env) -> None:
    one, two = await env.make("one"), await env.make("two")
    await env.zfs.snapshot([two + "@a"])
    error = await raises(errors.AlreadyExists, env.zfs.snapshot([one + "@a", two + "@a"]))
    equal(error.name, two + "@a")
    equal(await env.zfs.snapshots(one), [])


async def contract_one_dataset_that_is_missing_stops_all(env: Env) -> None:
    one = await env.make("one")
    await raises(errors.NotFound, env.zfs.snapshot([one + "@a", env.name("gone") + "@a"]))
    equal(await env.zfs.snapshots(one), [])


async def contract_snapshots_are_listed_in_the_order_made(env: Env) -> None:
    name = await env.make("order")
    for short in ("z", "a", "m"):
        await env.zfs.snapshot([f"{name}@{short}"])
    found = await env.zfs.snapshots(name)
    equal([one.name for one in found], ["z", "a", "m"])
    equal([one.createtxg for one in found], sorted(one.createtxg for one in found))
    assert all(one.creation > 0 for one in found)


async def contract_a_held_snapshot_stays_and_the_others_go(env: Env) -> None:
    name = await env.make("held")
    for short in "abc":
        await env.zfs.snapshot([f"{name}@{short}"])
    await env.zfs.hold("keep", [name + "@b"])
    failed = await env.zfs.destroy_snapshots([f"{name}@{short}" for short in ("a", "b", "c", "never")])
    equal(list(failed), [name + "@b"])
    assert isinstance(failed[name + "@b"], errors.Held)
    equal([(one.name, one.holds) for one in await env.zfs.snapshots(name)], [("b", 1)])
    await env.zfs.release("keep", [name + "@b"])
    equal(await env.zfs.destroy_snapshots([name + "@b"]), {})
    equal(await env.zfs.snapshots(name), [])


async def contract_destroying_what_is_gone_is_done(env: Env) -> None:
    name = await env.make("gone")
    equal(await env.zfs.destroy_snapshots([name + "@a", env.name("no such") + "@a"]), {})
    equal(await env.zfs.destroy_snapshots([]), {})
    await env.zfs.destroy_bookmarks([name + "#a", env.name("no such") + "#a"])


async def contract_a_bookmark_twice_is_one(env: Env) -> None:
    name = await env.make("marks")
    await env.zfs.snapshot([name + "@a"])
    await env.zfs.bookmark(name + "@a", name + "#x")
    await env.zfs.bookmark(name + "@a", name + "#x")
    marks, snaps = await env.zfs.bookmarks(name), await env.zfs.snapshots(name)
    equal([(one.name, one.guid, one.createtxg) for one in marks], [("x", snaps[0].guid, snaps[0].createtxg)])
    await env.zfs.snapshot([name + "@b"])
    await raises(errors.AlreadyExists, env.zfs.bookmark(name + "@b", name + "#x"))
    equal(await env.zfs.destroy_snapshots([name + "@a"]), {})
    equal([one.guid for one in await env.zfs.bookmarks(name)], [snaps[0].guid])
    await env.zfs.destroy_bookmarks([name + "#x"])
    equal(await env.zfs.bookmarks(name), [])


async def contract_hold_and_release_may_be_repeated(env: Env) -> None:
    name = await env.make("holds")
    await env.zfs.snapshot([name + "@a"])
    await env.zfs.hold("t", [name + "@a"])
    await env.zfs.snapshot([name + "@b"])
    await env.zfs.hold("t", [name + "@a", name + "@b"])
    await env.zfs.snapshot([name + "@c"])
    await env.zfs.hold("t", [name + "@a", name + "@b", name + "@c"])
    equal(await env.zfs.holds(name + "@c"), ["t"])
    await env.zfs.hold("u", [name + "@b"])
    equal([await env.zfs.holds(f"{name}@{short}") for short in "ab"], [["t"], ["t", "u"]])
    await raises(errors.NotFound, env.zfs.hold("v", [name + "@a", name + "@gone"]))
    await env.zfs.release("v", [name + "@a"])
    for _ in range(2):
        await env.zfs.release("t", [f"{name}@{short}" for short in ("a", "b", "c", "gone")])
    equal([await env.zfs.holds(f"{name}@{short}") for short in "ab"], [[], ["u"]])
    await env.zfs.release("u", [name + "@b"])


# --- datasets


async def contract_rename_moves_all_below(env: Env) -> None:
    name = await env.make("old")
    await env.make("old", "child")
    await env.zfs.snapshot([name + "@a"])
    await env.make("taken")
    await raises(errors.AlreadyExists, env.zfs.rename(name, env.name("taken")))
    await env.zfs.rename(name, env.name("new"))
    equal(
        [one.name for one in await env.zfs.datasets(env.root)],
        [env.root, env.name("new"), env.name("new", "child"), env.name("taken")],
    )
    equal([one.full_name for one in await env.zfs.snapshots(env.name("new"))], [env.name("new") + "@a"])


async def contract_only_an_empty_dataset_is_destroyed(env: Env) -> None:
    name, child = await env.make("parent"), await env.make("parent", "child")
    await env.zfs.snapshot([child + "@a"])
    await raises(errors.Busy, env.zfs.destroy_dataset(name))
    await raises(errors.Busy, env.zfs.destroy_dataset(child))
    await env.zfs.destroy_snapshots([child + "@a"])
    await env.zfs.mount(child)
    await raises(errors.Busy, env.zfs.destroy_dataset(child))
    await env.zfs.unmount(child)
    await env.zfs.destroy_dataset(child)
    await env.zfs.destroy_dataset(name)
    equal([one.name for one in await env.zfs.datasets(env.root)], [env.root])


async def contract_a_passphrase_makes_an_encryption_root(env: Env) -> None:
    name = await env.make("secret", passphrase=PASSPHRASE)
    child = await env.make("secret", "child")
    for one in (await env.zfs.dataset(name), await env.zfs.dataset(child)):
        equal((one.encryption_root, one.keystatus, one.encrypted), (name, "available", True))
    await env.zfs.load_key(name, PASSPHRASE)
    await raises(errors.WrongKey, env.zfs.load_key(name, b"something else"))
    await env.zfs.check_key(name, PASSPHRASE)
    await raises(errors.WrongKey, env.zfs.check_key(name, b"something else"))
    await raises(errors.WrongKey, env.zfs.create(env.name("short"), {}, passphrase=b"short"))


async def contract_a_root_says_where_its_key_lies(env: Env) -> None:
    name = await env.make("filed", passphrase=PASSPHRASE)
    equal((await env.zfs.get(name, ["keylocation"]))["keylocation"].value, "prompt")
    await env.zfs.set(name, {"keylocation": "file:///root/filed.key"})
    equal((await env.zfs.get(name, ["keylocation"]))["keylocation"].value, "file:///root/filed.key")


async def contract_a_dataset_leaves_its_encryption_root_by_a_key_of_its_own(env: Env) -> None:
    name = await env.make("vessel", passphrase=PASSPHRASE)
    moved, below = await env.make("vessel", "moved"), await env.make("vessel", "moved", "below")
    await env.zfs.change_key(moved, b"another passphrase")
    for one in (moved, below):
        equal((await env.zfs.dataset(one)).encryption_root, moved)
    await env.zfs.check_key(moved, b"another passphrase")
    await raises(errors.WrongKey, env.zfs.check_key(moved, PASSPHRASE))
    equal((await env.zfs.dataset(name)).encryption_root, name)
    await env.zfs.check_key(name, PASSPHRASE)
    await env.zfs.rename(moved, env.name("free"))
    equal((await env.zfs.dataset(env.name("free", "below"))).encryption_root, env.name("free"))
    plain = await env.make("plain")
    await raises(errors.ZfsError, env.zfs.change_key(plain, PASSPHRASE))


async def contract_what_was_received_one_by_one_inherits_its_key_again(env: Env) -> None:
    """Two replicas of a tree that has one key: a root each, with one salt. Inherited again, one key opens both."""
    home, below = await env.make("tree", passphrase=PASSPHRASE), await env.make("tree", "below")
    await env.zfs.snapshot([home + "@a", below + "@a"])
    back, child = env.name("back"), env.name("back", "below")
    await move(env, (home + "@a", None), back + "@a")
    await move(env, (below + "@a", None), child + "@a")
    wanted = ["pbkdf2salt", "pbkdf2iters", "keyformat"]
    facts = [
        {name: one.value for name, one in (await env.zfs.get(where, wanted)).items()}
        for where in (home, back, child)
    ]
    equal(facts[1:], [facts[0], facts[0]])
    assert int(facts[0]["pbkdf2salt"]) > 0
    equal((await env.zfs.dataset(child)).encryption_root, child)
    await env.zfs.load_key(child, PASSPHRASE)
    await raises(errors.Busy, env.zfs.inherit_key(child))
    again = env.name("again")
    await move(env, (home + "@a", None), again + "@a")
    await move(env, (below + "@a", None), again + "/below@a")
    await env.zfs.inherit_key(again + "/below")
    equal((await env.zfs.dataset(again + "/below")).encryption_root, again)
    await env.zfs.load_key(again, PASSPHRASE)
    equal((await env.zfs.dataset(again + "/below")).keystatus, "available")
    await raises(errors.ZfsError, env.zfs.inherit_key(again + "/below"))
    await raises(errors.ZfsError, env.zfs.inherit_key(env.root))
    await raises(errors.NotFound, env.zfs.inherit_key(env.name("gone")))


async def contract_what_has_no_clones_is_left_out(env: Env) -> None:
    name = await env.make("original")
    equal(await env.zfs.clones(name), {})
    await env.zfs.snapshot([name + "@a"])
    equal(await env.zfs.clones(name), {})
    await raises(errors.NotFound, env.zfs.clones(env.name("gone")))


async def contract_mounting_may_be_repeated(env: Env) -> None:
    name = await env.make("mounted")
    for expected, change in ((True, env.zfs.mount), (False, env.zfs.unmount)):
        await change(name)
        await change(name)
        equal((await env.zfs.dataset(name)).mounted, expected)


# --- running it bare

Contract = Callable[[Env], Awaitable[None]]


def contracts() -> list[tuple[str, Contract]]:
    """All of them, in the order written."""
    found = {**globals(), **vars(zfs_streams_contract)}
    return [(name, value) for name, value in found.items() if name.startswith("contract_")]


@asynccontextmanager
async def _real(pool: str, index: int) -> AsyncIterator[Env]:
    from zfs.libzfs import LibZfs, LibZfsStreams

    zfs = LibZfs()
    root = f"{pool}/contract/{index:02}"
    await zfs.create(root, {})

    async def write(dataset: str, size: int) -> None:
        await zfs.mount(dataset)
        path = f"/{dataset}/{os.urandom(4).hex()}"
        await asyncio.to_thread(_fill, path, size)

    try:
        yield Env(zfs, LibZfsStreams(), root, write)
    finally:
        await _shell("zfs", "destroy", "-r", root)


def _fill(path: str, size: int) -> None:
    with open(path, "wb") as file:
        file.write(os.urandom(size))
        file.flush()
        os.fsync(file.fileno())


async def _shell(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    await process.wait()


async def _run(pool: str, wanted: list[str]) -> int:
    await _shell("zfs", "create", f"{pool}/contract")
    passed = failed = 0
    for index, (name, contract) in enumerate(contracts()):
        if wanted and not any(word in name for word in wanted):
            continue
        try:
            async with _real(pool, index) as env:
                await contract(env)
        except Exception:  # noqa: BLE001 - whatever it is, it is told, and the others run
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"passed {name}", flush=True)
    await _shell("zfs", "destroy", "-r", f"{pool}/contract")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(_run(sys.argv[1], sys.argv[2:])))
