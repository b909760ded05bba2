"""A plaintext dataset is encrypted: copied, compared, exchanged; and whatever stops it, nothing is lost."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from node.encrypt import Encryptor, Wanted
from node.encrypt_rules import HOLD, MARK, PREFIX
from node.errors import Exit, MeshkeepError
from node.local_state import LocalState
from node.snapshot_view import SnapshotViews
from node.trees import compare
from tests.fakes.commands import Recording
from tests.fakes.pair import Clock, dump
from tests.fakes.workers import FakeWorkers
from tests.fakes.zfs import FakeZfs
from zfs import errors

PASSPHRASE = b"correct horse"
OLD = "tank/photos-plain-2023-11-14"
NEW = "tank/photos-encrypted/new"
CHANGING = (
    *("create", "snapshot", "hold", "change_key", "set", "rename", "mount", "release"),
    *("destroy_snapshots", "destroy_dataset", "unmount", "inherit"),
)


class Stage:
    """tank/photos has the snapshots a and b, is mounted, and has been written to since."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.zfs = FakeZfs(clock=self.clock, seed=3, pools={"tank": 1 << 20})
        self.workers = FakeWorkers(self.zfs)
        self.local = LocalState(path)
        self.path = path
        self.shared: list[str] = []
        self.spoilt: Callable[[str], bytes] = lambda snapshot: b""
        self.viewed: list[str] = []

    async def begin(self) -> None:
        await self.zfs.create("tank/photos", {"mountpoint": "/srv/photos", "com.example:x": "y"})
        for name in ("a", "b"):
            self.zfs.write("tank/photos", name.encode() * 1000)
            await self.zfs.snapshot([f"tank/photos@{name}"])
        self.zfs.write("tank/photos", b"later")
        await self.zfs.mount("tank/photos")

    @contextlib.asynccontextmanager
    async def view(self, snapshot: str) -> AsyncIterator[Path]:
        """The bytes of the fake's snapshot as a file."""
        self.viewed.append(snapshot)
        place = Path(tempfile.mkdtemp(dir=self.path))
        (place / "file").write_bytes(self.zfs.read(snapshot) + self.spoilt(snapshot))
        for one in (place / "file", place):
            os.utime(one, (1, 1))
        yield place

    def encryptor(self) -> Encryptor:
        """The agent; a new one is what comes after a crash."""
        workers: Any = self.workers
        return Encryptor(
            self.zfs,
            workers,
            self.local,
            self.view,
            shared=lambda _: self.shared,
            rules=lambda _: ["cloud"],
            now=self.clock,
        )

    async def run(self, passphrase: bytes = PASSPHRASE, **more: Any) -> dict[str, Any]:
        async def ignore(_: object) -> None:
            return None

        return await self.encryptor().run(Wanted("tank/photos", **more), passphrase, ignore)

    async def fails(self, passphrase: bytes = PASSPHRASE, **more: Any) -> MeshkeepError:
        with pytest.raises(MeshkeepError) as failed:
            await self.run(passphrase, **more)
        return failed.value

    @property
    def names(self) -> list[str]:
        return sorted(self.zfs.state.nodes)

    def snapshots(self, name: str) -> dict[str, int]:
        return {one.name: one.guid for one in self.zfs.state.nodes[name].snapshots.values()}

    async def assert_encrypted(self, history: dict[str, int]) -> None:
        """The end that every way must come to."""
        assert self.names == ["tank", "tank/photos", OLD]
        seen = await self.zfs.dataset("tank/photos")
        assert (seen.encryption_root, seen.mounted) == ("tank/photos", True)
        await self.zfs.check_key("tank/photos", PASSPHRASE)
        assert self.zfs.read("tank/photos") == self.zfs.read(OLD) == b"a" * 1000 + b"b" * 1000 + b"later"
        assert self.snapshots("tank/photos") == self.snapshots(OLD) == history
        properties = self.zfs.state.nodes["tank/photos"].properties
        assert {
            "mountpoint": "/srv/photos",
            "com.example:x": "y",
            "canmount": "on",
        }.items() <= properties.items()
        old = self.zfs.state.nodes[OLD]
        assert (old.mounted, old.properties["readonly"], old.properties["canmount"]) == (
            False,
            "on",
            "noauto",
        )
        assert (await self.zfs.get("tank/photos", ["readonly"]))["readonly"].value == "off"
        assert not any(
            snap.holds for node in self.zfs.state.nodes.values() for snap in node.snapshots.values()
        )
        assert self.local.restoring() == frozenset()


@pytest.fixture
async def stage(tmp_path: Path) -> Stage:
    stage = Stage(tmp_path)
    await stage.begin()
    return stage


async def test_it_takes_the_place_with_all_its_snapshots_and_properties(stage: Stage) -> None:
    history = stage.snapshots("tank/photos")
    done = await stage.run()
    await stage.assert_encrypted(history)
    assert done["old"] == OLD
    assert "all 1 files read and compared" in done["checked"][0]
    assert done["not_carried"] == []
    assert f"zfs rename {OLD} tank/photos" in done["undo"]


async def test_what_is_written_while_it_is_copied_comes_along(stage: Stage) -> None:
    copied = stage.view

    @contextlib.asynccontextmanager
    async def writing(snapshot: str) -> AsyncIterator[Path]:
        if not stage.viewed:
            stage.zfs.write("tank/photos", b"and more")
        async with copied(snapshot) as place:
            yield place

    stage.view = writing  # type: ignore[method-assign]
    await stage.run()
    assert stage.zfs.read("tank/photos").endswith(b"laterand more")


async def test_nobody_can_write_while_the_last_is_copied(stage: Stage) -> None:
    seen: list[tuple[bool, str]] = []
    copied = stage.view

    @contextlib.asynccontextmanager
    async def looking(snapshot: str) -> AsyncIterator[Path]:
        node = stage.zfs.state.nodes["tank/photos"]
        seen.append((node.mounted, node.properties.get("readonly", "off")))
        async with copied(snapshot) as place:
            yield place

    stage.view = looking  # type: ignore[method-assign]
    await stage.run()
    assert seen == [(True, "off"), (True, "off"), (False, "on"), (False, "on")]


async def test_a_dataset_without_snapshots_is_encrypted_too(stage: Stage) -> None:
    await stage.zfs.create("tank/new", {})
    stage.zfs.write("tank/new", b"fresh")

    async def ignore(_: object) -> None:
        return None

    await stage.encryptor().run(Wanted("tank/new"), PASSPHRASE, ignore)
    assert (stage.zfs.read("tank/new"), stage.snapshots("tank/new")) == (b"fresh", {})
    assert not (await stage.zfs.dataset("tank/new")).mounted


async def test_no_policy_and_no_rule_goes_into_the_copy(stage: Stage) -> None:
    stage.spoilt = lambda snapshot: b"!" if snapshot.startswith(NEW) else b""
    await stage.fails()
    assert stage.local.restoring() == {"tank/photos-encrypted"}


class TestStopped:
    async def test_a_copy_that_differs_never_takes_the_place(self, stage: Stage) -> None:
        stage.spoilt = lambda snapshot: b"!" if snapshot.startswith(NEW) else b""
        before = stage.zfs.read("tank/photos")
        failed = await stage.fails()
        assert (failed.code, "file:" in failed.why) == ("copy_differs", True)
        assert (await stage.zfs.dataset("tank/photos")).mounted
        assert stage.zfs.read("tank/photos") == before
        stage.zfs.write("tank/photos", b"as before")

    async def test_one_that_differs_at_the_last_look_gives_the_dataset_back(self, stage: Stage) -> None:
        def spoilt(snapshot: str) -> bytes:
            return b"!" if snapshot.startswith(NEW) and len(stage.viewed) > 2 else b""

        stage.spoilt = spoilt
        assert (await stage.fails()).code == "copy_differs"
        assert (await stage.zfs.dataset("tank/photos")).mounted
        stage.zfs.write("tank/photos", b"as before")

    async def test_one_in_use_stays_as_it_is_and_can_be_tried_again(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        history = stage.snapshots("tank/photos")
        unmount = stage.zfs.unmount

        async def busy(name: str) -> None:
            if name == "tank/photos":
                raise errors.Busy(name)

        monkeypatch.setattr(stage.zfs, "unmount", busy)
        failed = await stage.fails()
        assert (failed.code, failed.exit) == ("in_use", Exit.REFUSED)
        assert (await stage.zfs.dataset("tank/photos")).mounted
        stage.zfs.write("tank/photos", b"")
        monkeypatch.setattr(stage.zfs, "unmount", unmount)
        await stage.run()
        await stage.assert_encrypted(history)

    async def test_a_stream_that_was_cut_goes_on(self, stage: Stage) -> None:
        history = stage.snapshots("tank/photos")
        stage.workers.cut(2000)
        failed = await stage.fails()
        assert (failed.code, "--abort" in failed.hint) == ("interrupted", True)
        await stage.run()
        await stage.assert_encrypted(history)

    @pytest.mark.parametrize("method", CHANGING[:-1])
    async def test_a_crash_at_any_step_is_gone_on_from(
        self, tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Before and after each call of *method*: as if the host had lost its power there."""
        for number in range(40):
            for after in (False, True):
                stage = Stage(tmp_path / f"{number}-{after}")
                stage.path.mkdir()
                await stage.begin()
                history = stage.snapshots("tank/photos")
                with monkeypatch.context() as patch:
                    crashed = _crashing(stage.zfs, patch, method, number, after)
                    with contextlib.suppress(_Crash):
                        await stage.run()
                    gone_through = not crashed
                if gone_through:
                    assert number > 0, "it never did that"
                    return
                _power_cut(stage)
                await _again(stage)
                await stage.assert_encrypted(history)
        raise AssertionError("more steps than there can be")

    async def test_another_passphrase_does_not_go_on(self, stage: Stage) -> None:
        stage.workers.cut(2000)
        await stage.fails()
        assert (await stage.fails(b"wrong horse")).code == "wrong_key"
        assert (await stage.fails(b"short")).code == "wrong_key"


class TestNotTheDatasetAnyMore:
    """A name that is free, or taken by something else, is no sign that the old one was compared and has left it."""

    async def stopped(self, stage: Stage) -> None:
        stage.spoilt = lambda snapshot: b"!" if snapshot.startswith(NEW) else b""
        await stage.fails()
        stage.spoilt = lambda snapshot: b""

    async def refused(self, stage: Stage) -> None:
        """Neither that command nor --abort touches anything."""
        before = dump(stage.zfs)
        failed = await stage.fails()
        assert (failed.code, failed.exit) == ("not_the_dataset", Exit.REFUSED)
        with pytest.raises(MeshkeepError) as refused:
            await stage.encryptor().abort("tank/photos")
        assert refused.value.code == "not_the_dataset"
        after = dump(stage.zfs)
        assert after == before

    @pytest.mark.parametrize("name", ["tank/photos-keep", OLD])
    async def test_one_that_was_renamed_by_hand_is_not_replaced(self, stage: Stage, name: str) -> None:
        await self.stopped(stage)
        stage.zfs.write("tank/photos", b"new photographs")
        await stage.zfs.rename("tank/photos", name)
        if name == OLD:
            assert (await stage.fails()).code == "not_the_dataset"
            assert "tank/photos" not in stage.names
            await stage.encryptor().abort("tank/photos")
            assert stage.zfs.read("tank/photos").endswith(b"new photographs")
            return
        await self.refused(stage)
        await stage.zfs.rename(name, "tank/photos")
        await stage.run()
        assert stage.zfs.read("tank/photos").endswith(b"new photographs")

    @pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
    async def test_another_under_its_name_is_left_alone(self, stage: Stage, passphrase: bytes | None) -> None:
        await self.stopped(stage)
        await stage.zfs.rename("tank/photos", "tank/photos-keep")
        await stage.zfs.create("tank/photos", {}, passphrase=passphrase)
        await self.refused(stage)

    async def test_what_was_given_back_is_compared_again(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Compared, but the exchange failed: it is written to again."""

        async def busy(name: str, new_name: str) -> None:
            raise errors.Busy(name)

        with monkeypatch.context() as patch:
            patch.setattr(stage.zfs, "rename", busy)
            await stage.fails()
        stage.zfs.write("tank/photos", b"new photographs")
        await stage.zfs.rename("tank/photos", OLD)
        assert (await stage.fails()).code == "not_the_dataset"


class _Crash(BaseException):
    """The process is gone: nothing that would clean up runs any more."""


def _crashing(zfs: FakeZfs, patch: pytest.MonkeyPatch, method: str, number: int, after: bool) -> list[bool]:
    """From the call of that number on, nothing is done any more. Not empty once it came to that."""
    crashed: list[bool] = []
    count = 0

    def dying(name: str, real: Any) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            nonlocal count
            if crashed:
                raise _Crash
            mine = name == method
            count += mine
            if mine and count == number + 1:
                if after:
                    await real(*args, **more)
                crashed.append(True)
                raise _Crash
            return await real(*args, **more)

        return call

    for name in (*CHANGING, "load_key"):
        patch.setattr(zfs, name, dying(name, getattr(zfs, name)))
    return crashed


async def _again(stage: Stage) -> None:
    """The same command; after the very last step it finds that all is done."""
    try:
        await stage.run()
    except MeshkeepError as error:
        if error.code != "already_encrypted" or "tank/photos-encrypted" in stage.names:
            raise
        await stage.zfs.load_key("tank/photos", PASSPHRASE)
        await stage.zfs.mount("tank/photos")


def _power_cut(stage: Stage) -> None:
    """Keys are forgotten; what canmount lets is mounted again."""
    for node in stage.zfs.state.nodes.values():
        node.key_loaded = False
        can = stage.zfs.state.prop(node, "canmount")[0] == "on"
        node.mounted = can and node.key_available and node.name == "tank/photos"


class TestAborted:
    async def test_nothing_is_left_of_it(self, stage: Stage) -> None:
        before = dump(stage.zfs)
        stage.spoilt = lambda snapshot: b"!" if snapshot.startswith(NEW) else b""
        await stage.fails()
        await stage.encryptor().abort("tank/photos")
        after = dump(stage.zfs)
        after["tank/photos"]["properties"].pop("canmount", None)
        assert after == before
        assert stage.local.restoring() == frozenset()

    async def test_the_old_one_gets_its_name_back(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            _crashing(stage.zfs, patch, "rename", 0, after=True)
            with contextlib.suppress(_Crash):
                await stage.run()
        assert "tank/photos" not in stage.names
        await stage.encryptor().abort("tank/photos")
        assert stage.names == ["tank", "tank/photos"]
        assert (await stage.zfs.dataset("tank/photos")).mounted
        stage.zfs.write("tank/photos", b"as before")

    async def test_not_once_the_names_are_exchanged(
        self, stage: Stage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            _crashing(stage.zfs, patch, "rename", 1, after=True)
            with contextlib.suppress(_Crash):
                await stage.run()
        with pytest.raises(MeshkeepError) as refused:
            await stage.encryptor().abort("tank/photos")
        assert refused.value.code == "too_late"
        assert OLD in stage.names

    async def test_what_it_did_not_make_is_never_destroyed(self, stage: Stage) -> None:
        await stage.zfs.create("tank/photos-encrypted", {})
        await stage.zfs.create(NEW, {})
        with pytest.raises(MeshkeepError) as refused:
            await stage.encryptor().abort("tank/photos")
        assert refused.value.code == "nothing_to_abort"
        assert NEW in stage.names


class TestRefused:
    async def refused(self, stage: Stage, dataset: str = "tank/photos", **more: Any) -> MeshkeepError:
        async def ignore(_: object) -> None:
            return None

        before = dump(stage.zfs)
        with pytest.raises(MeshkeepError) as planned:
            await stage.encryptor().plan(Wanted(dataset, **more))
        with pytest.raises(MeshkeepError) as done:
            await stage.encryptor().run(Wanted(dataset, **more), PASSPHRASE, ignore)
        assert planned.value.code == done.value.code
        assert dump(stage.zfs) == before
        return done.value

    async def test_what_is_encrypted(self, stage: Stage) -> None:
        await stage.zfs.create("tank/secret", {}, passphrase=PASSPHRASE)
        assert (await self.refused(stage, "tank/secret")).code == "already_encrypted"

    async def test_a_pool_and_what_is_not_there(self, stage: Stage) -> None:
        assert (await self.refused(stage, "tank")).code == "a_pool"
        assert (await self.refused(stage, "tank/none")).code == "no_dataset"

    async def test_with_children(self, stage: Stage) -> None:
        await stage.zfs.create("tank/photos/raw", {})
        assert (await self.refused(stage)).code == "has_children"

    @pytest.mark.parametrize("name", [OLD, "tank/photos-encrypted"])
    async def test_where_a_name_is_taken(self, stage: Stage, name: str) -> None:
        await stage.zfs.create(name, {})
        assert (await self.refused(stage)).code == "place_taken"

    async def test_while_it_is_shared_unless_told(self, stage: Stage) -> None:
        stage.shared = ["laptop"]
        refusal = await self.refused(stage)
        assert (refusal.code, "laptop" in refusal.what) == ("shared", True)
        await stage.run(though_shared=True)

    async def test_without_room(self, stage: Stage) -> None:
        stage.zfs.write("tank/photos", b"x" * 600_000)
        assert (await self.refused(stage)).code == "no_room"

    async def test_a_name_that_gets_too_long(self, stage: Stage) -> None:
        name = "tank/" + "n" * 225
        await stage.zfs.create(name, {})
        assert (await self.refused(stage, name)).code == "bad_name"


async def test_the_plan_changes_nothing(stage: Stage) -> None:
    before = dump(stage.zfs)
    planned = await stage.encryptor().plan(Wanted("tank/photos"))
    assert dump(stage.zfs) == before
    assert (planned["old"], planned["snapshots"], planned["under_way"]) == (OLD, 2, False)
    assert planned["rules"] == ["cloud"]
    stage.workers.cut(2000)
    await stage.fails()
    assert (await stage.encryptor().plan(Wanted("tank/photos")))["under_way"]
    assert stage.zfs.state.nodes["tank/photos-encrypted"].properties[MARK]
    held = stage.zfs.state.nodes["tank/photos"].snapshots.values()
    assert all(HOLD in one.holds for one in held)
    assert [one.name for one in held if one.name.startswith(PREFIX)] == [f"{PREFIX}1700000000_0"]


class TestTrees:
    def test_all_that_can_differ_is_seen(self, tmp_path: Path) -> None:
        one, other = tmp_path / "one", tmp_path / "other"
        for root in (one, other):
            (root / "folder").mkdir(parents=True)
            (root / "folder/same").write_bytes(b"same")
            (root / "altered").write_bytes(b"x" if root == one else b"y")
            (root / "mode").write_bytes(b"m")
            (root / "mode").chmod(0o600 if root == one else 0o644)
            (root / "link").symlink_to("here" if root == one else "there")
        (one / "gone").write_bytes(b"")
        (other / "more").write_bytes(b"")
        for path in [*one.rglob("*"), *other.rglob("*")]:
            os.utime(path, (1, 1), follow_symlinks=False)
        found = compare(one, other, None)
        assert {line.partition(":")[0] for line in found.differ} == {
            "gone",
            "more",
            "link",
            "mode",
            "altered",
        }
        assert (found.files, found.read, found.entries) == (3, 3, 6)

    def test_a_sample_says_that_it_is_one(self, tmp_path: Path) -> None:
        for number in range(5):
            (tmp_path / str(number)).write_bytes(b"x")
        found = compare(tmp_path, tmp_path, 2)
        assert (found.read, found.bytes, found.differ) == (2, 2, ())
        assert found.how.startswith("2 of 5 files, chosen at random")
        assert compare(tmp_path, tmp_path, None).how == "all 5 files read and compared"


class TestViews:
    async def test_a_snapshot_is_mounted_apart_and_let_go(self, tmp_path: Path) -> None:
        runner = Recording()
        async with SnapshotViews(runner, tmp_path / "views")("tank/a@b") as place:
            assert place.stat().st_mode & 0o777 == 0o700
        assert not place.exists()
        options = "ro,nosuid,nodev,noexec"
        assert runner.ran == [
            f"mount -t zfs -o {options} tank/a@b {place}",
            f"umount {place}",
        ]
