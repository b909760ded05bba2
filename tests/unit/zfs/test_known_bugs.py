"""What is known against versions of OpenZFS: the lines that the research drew, and versions that are none."""

import pytest

from zfs.known_bugs import BUGS, parse, refusal, troubles


def codes(module: str, userland: str | None = None) -> set[str]:
    return {one.code for one in troubles(userland or module, module)}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("2.3.9-0+deb13u1", (2, 3, 9)),
        ("2.2.2-0ubuntu9.1", (2, 2, 2)),
        ("2.4.0-rc1", (2, 4, 0)),
        ("v2.3.99-123-gabcdef", (2, 3, 99)),
        ("2.10.1", (2, 10, 1)),
        ("2.3", None),
        ("", None),
        ("zfs", None),
        ("2.3.9999999", None),
    ],
)
def test_versions_are_read(text: str, version: tuple[int, int, int] | None) -> None:
    assert parse(text) == version


@pytest.mark.parametrize("module", ["2.3.9-1", "2.4.4-1", "2.5.0-1"])
def test_nothing_is_known_against_the_good_ones(module: str) -> None:
    assert codes(module) == set()


@pytest.mark.parametrize("module", ["2.0.3", "2.1.11-1", "2.2.7-1", "2.3.0-1", "2.3.2-2"])
def test_encrypted_data_is_not_sent_by_the_bad_ones(module: str) -> None:
    assert refusal(troubles(module, module), "send_raw") is not None


@pytest.mark.parametrize("module", ["2.2.8", "2.2.10", "2.3.3", "2.3.8", "2.4.0", "2.4.3"])
def test_a_hole_for_local_users_is_told_and_stops_nothing(module: str) -> None:
    found = troubles(module, module)
    assert "local_root" in {one.code for one in found}
    assert refusal(found, "send_raw") is None
    assert "user.max_user_namespaces=0" in next(one.advice for one in found if one.code == "local_root")


@pytest.mark.parametrize(("module", "refused"), [("2.1.5", True), ("2.1.6", False)])
def test_bookmarks_of_encrypted_datasets_were_mended_in_2_1_6(module: str, refused: bool) -> None:
    assert (refusal(troubles(module, module), "bookmark_base") is not None) is refused


@pytest.mark.parametrize(
    ("module", "refused"), [("2.3.1", True), ("2.3.2", False), ("2.2.10", True), ("2.4.0", False)]
)
def test_receiving_needs_what_can_only_add(module: str, refused: bool) -> None:
    assert ("no_append_only_receive" in codes(module)) is refused


@pytest.mark.parametrize(
    ("userland", "module", "severity"),
    [
        ("2.3.9", "2.3.9", None),
        ("2.3.9", "2.3.8", "warn"),
        ("2.3.2", "2.3.1", "refuse"),
        ("2.4.4", "2.3.9", "refuse"),
    ],
)
def test_programs_and_module_are_of_one_release(userland: str, module: str, severity: str | None) -> None:
    found = [one for one in troubles(userland, module) if one.code == "versions_apart"]
    assert [one.severity for one in found] == ([severity] if severity else [])
    if severity == "refuse":
        assert refusal(found, "receive_raw") == found[0]


def test_a_version_that_is_none_is_told_and_not_refused() -> None:
    found = troubles("unknown", "git-master")
    assert [one.code for one in found] == ["version_unknown"]
    assert refusal(found, "send_raw") is None


def test_every_bug_says_where_and_until_when_and_what_to_do() -> None:
    assert len({bug.code for bug in BUGS}) == len(BUGS)
    for bug in BUGS:
        for first, fixed in bug.ranges:
            assert bug.in_version(first)
            assert not bug.in_version(fixed)
            version = ".".join(map(str, first))
            told = next(one for one in troubles(version, version) if one.code == bug.code)
            assert bug.issue in told.text
            assert ".".join(map(str, fixed)) in told.text
            assert told.advice


def test_what_is_refused_comes_first() -> None:
    severities = [one.severity for one in troubles("2.1.5", "2.1.5")]
    assert severities == sorted(severities)
    assert set(severities) == {"refuse", "warn"}
