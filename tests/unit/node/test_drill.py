"""A drill opens and reads a copy, says truly what that proved, and leaves nothing behind but that."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node import drill_reading, status
from node.cli.status import _dataset
from node.drill import Drill
from node.drill_reading import Seen, read_some
from node.errors import Exit, MeshkeepError
from node.scratch import FOLDER, MARK, Scratches
from tests.fakes.keepers import Keepers, listening
from tests.fakes.pair import PASSPHRASE, dump

KB = 1024
PARENT = f"tank/{FOLDER}"


class Stage:
    """tank/home on cloud, and a drill whose reading is that of a file system which the fake has not."""

    def __init__(self, path: Path) -> None:
        self.mesh = Keepers(path, cloud="vault")
        self.mounts = path / "mounts"
        self.looked: list[dict[str, Any]] = []
        self.seen = Seen(files=3, bytes=300, of=3)
        self.mount: Path | None = None
        self.scratches = Scratches(self.mesh.home, self.mesh.restorer, self.mesh.local, self.mounts)
        self.drill = self.another()

    def another(self) -> Drill:
        return Drill(
            self.mesh.home,
            self.mesh.restorer,
            self.mesh.local,
            self.scratches,
            now=self.mesh.clock,
            read=self.read,
            mounted=lambda _dataset: self.mount,
        )

    def read(self, place: Path, limit: int | None, seed: int, original: Path | None) -> Seen:
        """What the dataset is like while it is read."""
        (scratch,) = self.mesh.local.drills()
        node = self.mesh.home.state.nodes[scratch]
        self.looked.append(
            {
                "mounted": node.mounted,
                "properties": dict(node.properties),
                "mode": place.stat().st_mode & 0o777,
                "place": str(place),
                "limit": limit,
                "seed": seed,
                "original": original,
                "data": self.mesh.home.read(scratch),
                "left alone": self.mesh.local.restoring(),
            }
        )
        return self.seen

    async def run(
        self, key: bytes | None = PASSPHRASE, limit: int | None = 40, **more: Any
    ) -> dict[str, Any]:
        async def ignore(_: object) -> None:
            return None

        return await self.drill.run("tank/home", "cloud", key, limit, ignore, **more)

    def clean(self) -> bool:
        """Nothing of a drill is left, on the pool, in the state or on disk."""
        left = [name for name in self.mesh.here() if name.startswith(PARENT)]
        mounts = list(self.mounts.iterdir()) if self.mounts.exists() else []
        return not (left or mounts or self.mesh.local.drills() or self.mesh.local.restoring())


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    one = Stage(tmp_path)
    async with listening(one.mesh):
        await one.mesh.encrypted("tank/home")
        await one.mesh.snap("tank/home", "a", "b", data=b"x" * 10 * KB)
        await one.mesh.replicate("tank/home", "cloud")
        yield one


async def error_of(stage: Stage, **more: Any) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await stage.run(**more)
    return caught.value


class TestProving:
    async def test_the_newest_snapshot_is_opened_and_read(self, stage: Stage) -> None:
        report = await stage.run()
        assert (report["state"], report["snapshot"], report["files"]) == ("proven", "b", 3)
        assert len(stage.mesh.workers.receives) == 1
        (looked,) = stage.looked
        assert looked["data"] == b"x" * 20 * KB
        assert looked["limit"] == 40
        assert stage.clean()

    async def test_it_is_mounted_where_only_root_comes_and_nothing_can_be_done_to_it(
        self, stage: Stage
    ) -> None:
        await stage.run()
        (looked,) = stage.looked
        assert (looked["mounted"], looked["mode"]) == (True, 0o700)
        assert looked["properties"] == {
            "readonly": "on",
            "setuid": "off",
            "exec": "off",
            "devices": "off",
            "canmount": "noauto",
            "mountpoint": looked["place"],
        }
        assert PARENT in looked["left alone"]

    async def test_the_original_and_the_copy_are_as_they_were(self, stage: Stage) -> None:
        before = dump(stage.mesh.home), dump(stage.mesh.keepers["cloud"].zfs)
        await stage.run()
        assert (dump(stage.mesh.home), dump(stage.mesh.keepers["cloud"].zfs)) == before

    async def test_when_it_was_proven_is_remembered(self, stage: Stage) -> None:
        assert stage.mesh.local.proven("tank/home", "cloud") is None
        report = await stage.run()
        assert stage.mesh.local.proven("tank/home", "cloud") == report["at"] == int(stage.mesh.clock.now)
        assert stage.mesh.local.proven("tank/home", "nas") is None

    async def test_without_a_key_it_is_unproven_and_not_remembered(self, stage: Stage) -> None:
        report = await stage.run(key=None)
        assert (report["state"], report["files"]) == ("received, unproven", 0)
        assert stage.looked == []
        assert stage.mesh.local.proven("tank/home", "cloud") is None
        assert stage.clean()

    async def test_a_key_that_does_not_open_it_is_the_finding(self, stage: Stage) -> None:
        error = await error_of(stage, key=b"another one")
        assert (error.code, error.exit) == ("key_does_not_open", Exit.FAILED)
        assert stage.looked == []
        assert stage.mesh.local.proven("tank/home", "cloud") is None
        assert stage.clean()

    async def test_files_that_cannot_be_read_are_named(self, stage: Stage) -> None:
        stage.seen = Seen(2, 200, 3, ("photos/1.jpg: Input/output error",))
        error = await error_of(stage)
        assert error.code == "unreadable"
        assert "photos/1.jpg" in error.why
        assert stage.mesh.local.proven("tank/home", "cloud") is None
        assert stage.clean()


class TestTheOriginal:
    """What is compared with what: only the very same snapshot, as long as it is there."""

    @pytest.fixture
    def mounted(self, stage: Stage, tmp_path: Path) -> Path:
        stage.mount = tmp_path / "home"
        place = stage.mount / ".zfs" / "snapshot" / "b"
        place.mkdir(parents=True)
        return place

    async def test_the_same_snapshot_is_what_it_is_compared_with(self, stage: Stage, mounted: Path) -> None:
        stage.seen = Seen(files=3, bytes=300, of=3, compared=3)
        report = await stage.run()
        assert stage.looked[0]["original"] == mounted
        assert (report["state"], report["compared"]) == ("proven", 3)
        assert stage.mesh.local.proven_facts("tank/home", "cloud")["compared"] == 3

    async def test_one_of_the_same_name_is_not_the_same(self, stage: Stage, mounted: Path) -> None:
        await stage.mesh.home.release("meshkeep:cloudcloudcloudc", ["tank/home@b"])
        assert await stage.mesh.home.destroy_snapshots(["tank/home@b"]) == {}
        await stage.mesh.home.snapshot(["tank/home@b"])
        await stage.run()
        assert stage.looked[0]["original"] is None

    async def test_what_is_not_mounted_is_not_compared(self, stage: Stage) -> None:
        await stage.run()
        assert stage.looked[0]["original"] is None

    async def test_files_that_differ_are_the_finding(self, stage: Stage, mounted: Path) -> None:
        stage.seen = Seen(2, 200, 3, different=("photos/1.jpg: not what it is here",))
        error = await error_of(stage)
        assert error.code == "copy_differs"
        assert "photos/1.jpg" in error.why
        assert stage.mesh.local.proven("tank/home", "cloud") is None
        assert stage.mesh.local.drilled("tank/home", "cloud")["code"] == "copy_differs"
        assert stage.clean()

    async def test_pruned_while_it_is_compared_says_nothing_of_the_copy(
        self, stage: Stage, mounted: Path
    ) -> None:
        def pruned(place: Path, limit: int | None, seed: int, original: Path | None) -> Seen:
            seen = stage.read(place, limit, seed, original)
            if original is None:
                return seen
            del stage.mesh.home.state.nodes["tank/home"].snapshots["b"]
            return Seen(2, 200, 3, different=("photos/1.jpg: No such file or directory",))

        stage.drill = Drill(
            stage.mesh.home,
            stage.mesh.restorer,
            stage.mesh.local,
            stage.scratches,
            now=stage.mesh.clock,
            read=pruned,
            mounted=lambda _dataset: stage.mount,
        )
        report = await stage.run()
        assert (report["state"], report["compared"]) == ("proven", 0)
        assert [one["original"] for one in stage.looked] == [mounted, None]
        assert stage.looked[0]["seed"] == stage.looked[1]["seed"] == report["seed"]


class TestLimits:
    async def test_the_rate_of_the_rule_holds_for_the_way_back(self, stage: Stage) -> None:
        await stage.run(rate_limit=1 << 20)
        assert [one.limit for one in stage.mesh.workers.receives] == [1 << 20]

    async def test_one_at_a_time(self, stage: Stage) -> None:
        async with stage.scratches.alone():
            assert (await error_of(stage)).code == "drill_running"
        assert (await stage.run())["state"] == "proven"


class TestLeavingNothing:
    async def test_a_stream_that_never_comes_whole(self, stage: Stage) -> None:
        for _ in range(5):
            stage.mesh.keepers["cloud"].workers.cut(KB)
        await error_of(stage)
        assert stage.clean()

    async def test_what_a_crash_left_goes_with_the_next(self, stage: Stage) -> None:
        await stage.mesh.home.create(PARENT, {MARK: "yes"})
        stage.mesh.local.begin_drill(f"{PARENT}/dead")
        stage.mesh.local.begin_restore(PARENT)
        await stage.mesh.restore("tank/home", f"{PARENT}/dead")
        await stage.mesh.home.load_key(f"{PARENT}/dead", PASSPHRASE)
        await stage.mesh.home.mount(f"{PARENT}/dead")
        assert (await stage.run())["state"] == "proven"
        assert stage.clean()

    async def test_what_it_did_not_make_stays(self, stage: Stage) -> None:
        """Below its own folder, too."""
        await stage.mesh.home.create(PARENT, {MARK: "yes"})
        await stage.mesh.home.create(f"{PARENT}/mine", {})
        assert (await stage.run())["state"] == "proven"
        assert [one for one in stage.mesh.here() if one.startswith(PARENT)] == [PARENT, f"{PARENT}/mine"]
        assert stage.mesh.local.drills() == stage.mesh.local.restoring() == frozenset()

    async def test_a_folder_that_somebody_else_made_is_not_used(self, stage: Stage) -> None:
        await stage.mesh.home.create(PARENT, {})
        before = dump(stage.mesh.home)
        assert (await error_of(stage)).code == "destination_exists"
        assert dump(stage.mesh.home) == before
        assert stage.mesh.local.drills() == frozenset()

    async def test_a_note_that_names_another_dataset_destroys_nothing(self, stage: Stage) -> None:
        stage.mesh.local.begin_drill("tank/home")
        await stage.run()
        assert stage.mesh.snapshots("tank/home") == ["a", "b"]
        assert stage.clean()

    async def test_what_lies_on_a_pool_that_is_away_stays_noted(self, stage: Stage) -> None:
        stage.mesh.local.begin_drill(f"pond/{FOLDER}/dead")
        await stage.run(key=None)
        assert stage.mesh.local.drills() == {f"pond/{FOLDER}/dead"}

    async def test_it_takes_at_most_half_of_what_is_free(self, stage: Stage) -> None:
        stage.mesh.home.state.sizes["tank"] = 50 * KB
        error = await error_of(stage)
        assert (error.code, error.exit) == ("no_room", Exit.REFUSED)
        assert stage.mesh.workers.receives == []
        assert stage.clean()

    async def test_without_the_original_the_quota_says_so(self, stage: Stage) -> None:
        stage.mesh.burn()
        stage.mesh.home.state.sizes["tank"] = 30 * KB
        assert (await error_of(stage)).code == "target_full"
        assert stage.clean()

    async def test_where_nothing_is_kept_nothing_is_made(self, stage: Stage) -> None:
        before = dump(stage.mesh.home)
        stage.mesh.keepers["cloud"].owners = ["z" * 16]
        assert (await error_of(stage)).code == "no_replica"
        assert dump(stage.mesh.home) == before
        assert stage.clean()


class TestShowing:
    def test_status_says_when_and_others_read_it_of_a_report(self) -> None:
        replicas = [
            {"node": "cloud", "as_of": 5, "state": "ok", "proven": 4},
            {"node": "nas", "as_of": 5, "state": "ok"},
        ]
        line = status.dataset_line("tank/home", "home", 1, 5, replicas)
        (told,) = status.read_report(status.report_body([line], 4096), "home")
        assert [one.get("proven") for one in told["replicas"]] == [4, None]
        assert "proven" not in told["replicas"][1]
        assert "cloud 1m (proven 1h ago)" in _dataset(
            {**line, "replicas": [{**replicas[0], "as_of": 7140, "proven": 3600}]}, "home", 7200
        )


class TestReading:
    def tree(self, root: Path, files: int) -> None:
        for number in range(files):
            place = root / f"d{number % 3}"
            place.mkdir(exist_ok=True)
            (place / str(number)).write_bytes(b"x" * (1 + number))

    def test_all_of_it(self, tmp_path: Path) -> None:
        self.tree(tmp_path, 10)
        assert read_some(tmp_path, None, 0) == Seen(10, 55, 10)

    def test_as_many_as_wanted_and_not_always_the_same(self, tmp_path: Path) -> None:
        self.tree(tmp_path, 50)
        seen = [read_some(tmp_path, 5, seed) for seed in range(10)]
        assert seen == [read_some(tmp_path, 5, seed) for seed in range(10)]
        assert {(one.files, one.of) for one in seen} == {(5, 50)}
        assert len({one.bytes for one in seen}) > 1

    def test_no_link_is_followed_and_no_pipe_opened(self, tmp_path: Path) -> None:
        self.tree(tmp_path, 1)
        os.mkfifo(tmp_path / "pipe")
        (tmp_path / "link").symlink_to("/etc/passwd")
        (tmp_path / "loop").symlink_to(tmp_path)
        assert read_some(tmp_path, None, 0) == Seen(1, 1, 1)

    def test_what_cannot_be_read_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tree(tmp_path, 3)
        inner = os.open

        def failing(path: Any, *args: Any, **more: Any) -> int:
            if path == "1":
                raise OSError(5, "Input/output error")
            return inner(path, *args, **more)

        monkeypatch.setattr(os, "open", failing)
        seen = read_some(tmp_path, None, 0)
        assert (seen.files, seen.of, seen.bad) == (2, 3, ("d1/1: Input/output error",))

    def test_of_nothing_nothing(self, tmp_path: Path) -> None:
        assert read_some(tmp_path, 40, 0) == Seen(0, 0, 0)


class TestComparing:
    """The copy and the same snapshot of the original, as two directories."""

    @pytest.fixture
    def pair(self, tmp_path: Path) -> tuple[Path, Path]:
        copy, original = tmp_path / "copy", tmp_path / "original"
        for root in (copy, original):
            (root / "deep").mkdir(parents=True)
            for name in ("a", "deep/b", "deep/c"):
                (root / name).write_text(f"what {name} says")
        return copy, original

    def test_what_is_alike_is_counted(self, pair: tuple[Path, Path]) -> None:
        copy, original = pair
        seen = read_some(copy, None, 0, original)
        assert (seen.files, seen.compared, seen.of, seen.bad, seen.different) == (3, 3, 3, (), ())

    def test_a_byte_that_differs_is_found(self, pair: tuple[Path, Path]) -> None:
        copy, original = pair
        (copy / "deep" / "b").write_text("what deep/B says")
        seen = read_some(copy, None, 0, original)
        assert (seen.compared, seen.different) == (2, ("deep/b: not what it is here",))

    def test_a_file_that_the_copy_lacks_is_found(self, pair: tuple[Path, Path]) -> None:
        copy, original = pair
        (copy / "deep" / "c").unlink()
        seen = read_some(copy, None, 0, original)
        assert (seen.of, seen.compared, seen.bad) == (3, 2, ())
        assert seen.different == ("deep/c: No such file or directory",)

    def test_a_copy_with_links_to_the_original_is_not_like_it(self, pair: tuple[Path, Path]) -> None:
        """Who forges a copy must not have us compare the original with itself."""
        copy, original = pair
        (copy / "a").unlink()
        (copy / "a").symlink_to(original / "a")
        for name in ("b", "c"):
            (copy / "deep" / name).unlink()
        (copy / "deep").rmdir()
        (copy / "deep").symlink_to(original / "deep")
        seen = read_some(copy, None, 0, original)
        assert (seen.files, seen.compared) == (0, 0)
        assert len(seen.bad) + len(seen.different) == 3

    def test_an_original_that_cannot_be_read_says_nothing_of_the_copy(
        self, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        copy, original = pair
        inner = drill_reading.open_beneath

        def failing(root: Path, relative: Any) -> int:
            if root == original:
                raise OSError(5, "Input/output error")
            return inner(root, relative)

        monkeypatch.setattr(drill_reading, "open_beneath", failing)
        seen = read_some(copy, None, 0, original)
        assert (seen.files, seen.compared, seen.bad, seen.different) == (3, 0, (), ())
