"""Earlier versions of a file, over a directory that looks like a mounted dataset with its .zfs."""

import os
from pathlib import Path

import pytest

from node.errors import MeshkeepError
from node.file_versions import choose, is_current, place_of, put_back, versions
from node.mountinfo import Mounted

HOUR = 3600


class Dataset:
    """Snapshots are hard links, as ZFS keeps the inode of a file that did not change."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.taken: dict[str, int] = {}
        self.file = root / "docs" / "thesis.tex"
        self.file.parent.mkdir()

    def write(self, text: str) -> None:
        self.file.unlink(missing_ok=True)
        self.file.write_text(text)

    def snapshot(self, name: str, at: int) -> None:
        self.taken[name] = at
        directory = self.root / ".zfs" / "snapshot" / name / "docs"
        directory.mkdir(parents=True)
        if self.file.exists():
            os.link(self.file, directory / self.file.name)

    def mounts(self) -> list[Mounted]:
        return [Mounted("/", "ext4", "/dev/vda"), Mounted(str(self.root), "zfs", "tank/home")]


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    root = tmp_path / "home"
    root.mkdir()
    made = Dataset(root)
    made.write("first")
    made.snapshot("a", 1 * HOUR)
    made.snapshot("b", 2 * HOUR)
    made.write("second, longer")
    made.snapshot("c", 3 * HOUR)
    made.file.unlink()
    made.snapshot("d", 4 * HOUR)
    made.write("first")
    made.snapshot("e", 5 * HOUR)
    return made


def found(dataset: Dataset) -> list[tuple[str, int, int]]:
    place = place_of(dataset.file, dataset.mounts())
    return [(one.snapshot, one.since, one.taken) for one in versions(place, dataset.taken)]


def test_equal_neighbours_are_one_version_and_a_gap_parts_them(dataset: Dataset) -> None:
    assert found(dataset) == [("e", 5 * HOUR, 5 * HOUR), ("c", 3 * HOUR, 3 * HOUR), ("b", 1 * HOUR, 2 * HOUR)]


def test_a_file_that_is_gone_has_versions_and_comes_back(dataset: Dataset) -> None:
    dataset.file.unlink()
    place = place_of(dataset.file, dataset.mounts())
    assert (place.dataset, place.relative) == ("tank/home", Path("docs/thesis.tex"))
    version = choose(versions(place, dataset.taken), number=2, at=None)
    assert put_back(version, dataset.file, "now") is None
    assert dataset.file.read_text() == "second, longer"


def test_what_was_there_is_kept_and_never_overwritten(dataset: Dataset) -> None:
    place = place_of(dataset.file, dataset.mounts())
    second, third = versions(place, dataset.taken)[1:]
    dataset.write("now")
    assert put_back(second, dataset.file, "T") == dataset.file.with_name("thesis.tex.before-T")
    assert put_back(third, dataset.file, "T") == dataset.file.with_name("thesis.tex.before-T-2")
    assert dataset.file.read_text() == "first"
    assert dataset.file.with_name("thesis.tex.before-T").read_text() == "now"
    assert dataset.file.with_name("thesis.tex.before-T-2").read_text() == "second, longer"
    assert sorted(one.name for one in dataset.file.parent.iterdir()) == [
        "thesis.tex",
        "thesis.tex.before-T",
        "thesis.tex.before-T-2",
    ]


def test_a_copy_that_fails_leaves_everything_as_it_was(dataset: Dataset) -> None:
    place = place_of(dataset.file, dataset.mounts())
    gone = versions(place, dataset.taken)[1]
    gone.path.unlink()
    before = dataset.file.read_text()
    with pytest.raises(MeshkeepError) as failed:
        put_back(gone, dataset.file, "T")
    assert failed.value.code == "copy_failed"
    assert dataset.file.read_text() == before
    assert [one.name for one in dataset.file.parent.iterdir()] == ["thesis.tex"]


def test_by_time_it_is_the_newest_seen_by_then(dataset: Dataset) -> None:
    all_versions = versions(place_of(dataset.file, dataset.mounts()), dataset.taken)
    by_time = {
        hour: choose(all_versions, number=None, at=hour * HOUR).snapshot for hour in (1, 2, 3, 4, 5, 9)
    }
    assert by_time == {1: "b", 2: "b", 3: "c", 4: "c", 5: "e", 9: "e"}
    with pytest.raises(MeshkeepError, match="no version is that old"):
        choose(all_versions, number=None, at=HOUR - 1)
    with pytest.raises(MeshkeepError, match="no version 4"):
        choose(all_versions, number=4, at=None)


def test_the_version_that_is_there_now_is_known(dataset: Dataset) -> None:
    all_versions = versions(place_of(dataset.file, dataset.mounts()), dataset.taken)
    assert [is_current(one, dataset.file) for one in all_versions] == [True, False, False]


def test_a_whole_directory_comes_back(dataset: Dataset) -> None:
    place = place_of(dataset.file.parent, dataset.mounts())
    version = choose(versions(place, dataset.taken), number=None, at=3 * HOUR)
    kept = put_back(version, dataset.file.parent, "T")
    assert kept is not None
    assert (kept / "thesis.tex").read_text() == "first"
    assert dataset.file.read_text() == "second, longer"


def test_a_nested_mount_wins_and_other_file_systems_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    nested = [*dataset.mounts(), Mounted(str(dataset.file.parent), "zfs", "tank/home/docs")]
    assert place_of(dataset.file, nested).dataset == "tank/home/docs"
    with pytest.raises(MeshkeepError, match=r"ext4 \(/dev/vda\)"):
        place_of(tmp_path / "x", dataset.mounts())
    with pytest.raises(MeshkeepError, match="nothing that is mounted"):
        place_of(tmp_path / "x", [])


def test_a_link_on_the_way_is_followed_and_the_last_one_is_not(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "short").symlink_to(dataset.file.parent)
    dataset.file.unlink()
    dataset.file.symlink_to("/etc/passwd")
    assert place_of(tmp_path / "short" / "thesis.tex", dataset.mounts()).relative == Path("docs/thesis.tex")
