"""A file out of a copy on another node: put where it was wanted, nothing overwritten, and never led out of the copy."""

import os
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from node.beneath import directory_beneath, open_beneath
from node.errors import Exit, MeshkeepError
from node.file_fetch import FileFetcher, WantedFile
from node.scratch import Scratches
from tests.fakes.keepers import Keepers, listening
from tests.fakes.pair import PASSPHRASE, dump


class Filled(Scratches):
    """The fake has no files: what is mounted gets those of `tree` while it is mounted."""

    tree: Any = None

    def mounted(self, scratch: str) -> Any:
        inner = super().mounted(scratch)
        return _With(inner, self.tree)


class _With:
    def __init__(self, inner: Any, fill: Any) -> None:
        self._inner, self._fill = inner, fill

    async def __aenter__(self) -> Path:
        self._place: Path = await self._inner.__aenter__()
        self._fill(self._place)
        return self._place

    async def __aexit__(self, *error: Any) -> Any:
        for folder, folders, files in os.walk(self._place, topdown=False):
            for name in files:
                Path(folder, name).unlink()
            for name in folders:
                path = Path(folder, name)
                path.unlink() if path.is_symlink() else path.rmdir()
        return await self._inner.__aexit__(*error)


class Stage:
    def __init__(self, path: Path) -> None:
        self.mesh = Keepers(path / "state", cloud="vault")
        self.scratches = Filled(self.mesh.home, self.mesh.restorer, self.mesh.local, path / "mounts")
        self.scratches.tree = self.fill
        self.fetcher = FileFetcher(self.mesh.restorer, self.scratches)
        self.home = path / "home"
        self.home.mkdir()
        self.secret = path / "secret"
        self.secret.mkdir()
        (self.secret / "shadow").write_text("root:secret")

    def fill(self, place: Path) -> None:
        (place / "docs").mkdir()
        (place / "docs" / "thesis.tex").write_text("as it was")
        (place / "out").symlink_to(self.secret)

    async def fetch(self, path: str = "docs/thesis.tex", **more: Any) -> dict[str, Any]:
        async def ignore(_: object) -> None:
            return None

        wanted = {"to": self.home / "thesis.tex", "key": PASSPHRASE, "node": "cloud"} | more
        return await self.fetcher.fetch(WantedFile("tank/home", PurePosixPath(path), **wanted), ignore)

    async def refused(self, path: str = "docs/thesis.tex", **more: Any) -> MeshkeepError:
        with pytest.raises(MeshkeepError) as caught:
            await self.fetch(path, **more)
        return caught.value


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    (tmp_path / "state").mkdir()
    one = Stage(tmp_path)
    async with listening(one.mesh):
        await one.mesh.encrypted("tank/home")
        await one.mesh.snap("tank/home", "a", "b", data=b"x" * 1024)
        await one.mesh.replicate("tank/home", "cloud")
        yield one


class TestFetching:
    async def test_the_file_comes_and_nothing_else_stays(self, stage: Stage) -> None:
        before = dump(stage.mesh.home)
        found = await stage.fetch()
        assert (stage.home / "thesis.tex").read_text() == "as it was"
        assert (found["node"], found["from"], found["kept"], found["kind"]) == ("cloud", "b", None, "file")
        assert dump(stage.mesh.home) == before

    async def test_what_is_there_now_is_kept_beside_it(self, stage: Stage) -> None:
        (stage.home / "thesis.tex").write_text("as it is now")
        found = await stage.fetch()
        assert Path(found["kept"]).read_text() == "as it is now"
        assert (stage.home / "thesis.tex").read_text() == "as it was"

    async def test_of_an_earlier_time(self, stage: Stage) -> None:
        moment = stage.mesh.home.state.snap("tank/home@a").creation
        assert (await stage.fetch(before=moment, at="then"))["from"] == "a"

    async def test_a_directory_comes_whole(self, stage: Stage) -> None:
        await stage.fetch("docs", to=stage.home / "docs")
        assert (stage.home / "docs" / "thesis.tex").read_text() == "as it was"


class TestRefusing:
    async def test_without_a_key_nothing_is_even_received(self, stage: Stage) -> None:
        assert (await stage.refused(key=None)).code == "no_key"
        assert stage.mesh.workers.receives == []

    async def test_a_wrong_key(self, stage: Stage) -> None:
        assert (await stage.refused(key=b"another one")).code == "key_does_not_open"
        assert list(stage.home.iterdir()) == []

    @pytest.mark.parametrize("path", ["out/shadow", "docs/gone.tex", "docs/thesis.tex/deeper"])
    async def test_what_is_not_in_the_copy_and_what_a_link_leads_out_to(
        self, stage: Stage, path: str
    ) -> None:
        error = await stage.refused(path)
        assert (error.code, error.exit) == ("no_version", Exit.NOT_FOUND)
        assert list(stage.home.iterdir()) == []

    async def test_a_link_itself_comes_as_a_link(self, stage: Stage) -> None:
        assert (await stage.fetch("out", to=stage.home / "out"))["kind"] == "link"
        assert (stage.home / "out").is_symlink()

    @pytest.mark.parametrize("path", ["../secret/shadow", "/etc/shadow", "docs/../../secret/shadow", ""])
    async def test_paths_that_are_none_inside(self, stage: Stage, path: str) -> None:
        assert (await stage.refused(path)).code == "bad_path"
        assert stage.mesh.workers.receives == []

    async def test_a_place_that_is_not_there_is_told_before_anything_is_moved(self, stage: Stage) -> None:
        assert (await stage.refused(to=stage.home / "none" / "x")).code == "no_directory"
        assert stage.mesh.workers.receives == []


class TestBeneath:
    def test_opens_what_lies_below(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_text("yes")
        with open(open_beneath(tmp_path, PurePosixPath("a/b"))) as file:
            assert file.read() == "yes"

    @pytest.mark.parametrize("path", ["link/b", "file", "a/../a/b", "/etc/passwd"])
    def test_and_nothing_else(self, tmp_path: Path, path: str) -> None:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "b").write_text("no")
        (tmp_path / "link").symlink_to(tmp_path / "a")
        (tmp_path / "file").symlink_to(tmp_path / "a" / "b")
        with pytest.raises((OSError, ValueError)):
            open_beneath(tmp_path, PurePosixPath(path))

    def test_leaves_no_descriptor_open(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        before = len(os.listdir("/proc/self/fd"))
        with directory_beneath(tmp_path, PurePosixPath("a")):
            pass
        with pytest.raises(OSError, match="No such file"), directory_beneath(tmp_path, PurePosixPath("a/b")):
            pass
        assert len(os.listdir("/proc/self/fd")) == before
