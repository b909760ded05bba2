"""Reading what the zfs and zpool commands print."""

import pytest

from zfs.listing import (
    BadListing,
    bookmarks,
    datasets,
    pools,
    properties,
    snapshot_property,
    snapshots,
    version,
)
from zfs.model import Bookmark, Dataset, Pool, Property, Snapshot


def test_pools_have_sizes_unless_faulted() -> None:
    text = "tank\tONLINE\t1000\t900\t10\toff\ncold\tONLINE\t5\t5\t0\ton\nbad\tFAULTED\t-\t-\t-\t-\n"
    assert pools(text) == [
        Pool("bad", "FAULTED", 0, 0, 0, False),
        Pool("cold", "ONLINE", 5, 5, 0, True),
        Pool("tank", "ONLINE", 1000, 900, 10, False),
    ]


def test_datasets_come_parents_first_whatever_sorts_between() -> None:
    row = "{}\tfilesystem\t1\t2\t3\t4\t5\t-\t-\tnone\tno\n"
    text = "".join(row.format(name) for name in ("t/a-b", "t/a/x", "t", "t/a"))
    assert [one.name for one in datasets(text)] == ["t", "t/a", "t/a/x", "t/a-b"]


def test_a_dataset_says_what_locks_it_and_where_it_is_mounted() -> None:
    text = (
        "t/enc a\tfilesystem\t1\t2\t3\t4\t5\tt/enc a\tunavailable\t/t/enc a\tno\n"
        "t/legacy\tfilesystem\t1\t2\t3\t4\t5\t\tnone\tlegacy\tyes\n"
        "t/vol\tvolume\t1\t2\t3\t-\t5\t-\t-\t-\t-\n"
    )
    assert datasets(text) == [
        Dataset("t/enc a", "filesystem", 1, 2, 3, 4, 5, "t/enc a", "unavailable", "/t/enc a", False),
        Dataset("t/legacy", "filesystem", 1, 2, 3, 4, 5, None, None, "legacy", True),
        Dataset("t/vol", "volume", 1, 2, 3, 0, 5, None, None, None, False),
    ]


def test_snapshots_are_ordered_by_transaction_then_creation_then_name() -> None:
    text = "t@d\t4\t9\t50\t0\t0\nt@c\t3\t7\t60\t0\t2\nt@b\t2\t7\t40\t1\t0\nt@a\t1\t7\t60\t0\t0\n"
    assert [one.name for one in snapshots(text)] == ["b", "a", "c", "d"]
    assert snapshots("t/a b@c:d\t1\t2\t3\t4\t5\n") == [Snapshot("t/a b", "c:d", 1, 2, 3, 4, 5)]
    assert snapshots("") == []


def test_bookmarks_are_read() -> None:
    assert bookmarks("t/a#m n\t1\t2\t3\n") == [Bookmark("t/a", "m n", 1, 2, 3)]


def test_a_property_may_hold_tabs_and_lines() -> None:
    text = "a:b\tone\ttwo\nthree\tlocal\nreadonly\ton\tinherited from t/x y\nc:d\t-\t-\nquota\t0\tdefault\n"
    assert properties(text) == {
        "a:b": Property("one\ttwo\nthree", "local"),
        "readonly": Property("on", "inherited from t/x y"),
        "c:d": Property("-", "-"),
        "quota": Property("0", "default"),
    }


def test_only_a_snapshots_own_property_counts() -> None:
    text = "t@a\t1\tlocal\nt@b\t-\t-\nt@c\t2\tinherited from t\nt@d e\t3\treceived\n"
    assert snapshot_property(text) == {"a": "1", "d e": "3"}


def test_versions_of_userland_and_module() -> None:
    assert version("zfs-2.3.9-1\nzfs-kmod-2.3.9-0+deb13u1\n") == ("2.3.9-1", "2.3.9-0+deb13u1")
    with pytest.raises(BadListing):
        version("zfs-2.3.9-1\n")


@pytest.mark.parametrize("text", ["t@a\t1\t2\n", "no datasets available\n", "t\tfilesystem\n"])
def test_other_columns_than_asked_for_are_refused(text: str) -> None:
    with pytest.raises(BadListing, match="columns"):
        snapshots(text)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(BadListing, match="type"):
        datasets("t\tobject\t1\t2\t3\t4\t5\t-\t-\t-\t-\n")
