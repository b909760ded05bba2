import errno
import os
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import hosts
from mesh.hosts import BEGIN, END, HostsError, rewrite, update

HOME = {"home.mesh": "fd00::1"}
BOTH = {"home.mesh": "fd00::1", "cloud.mesh": "fd00::2"}
BLOCK = f"{BEGIN}\nfd00::1 home.mesh\n{END}\n"


def test_the_block_is_appended_and_names_are_sorted():
    assert rewrite("127.0.0.1 localhost\n", BOTH) == (
        f"127.0.0.1 localhost\n{BEGIN}\nfd00::2 cloud.mesh\nfd00::1 home.mesh\n{END}\n"
    )


def test_a_block_is_replaced_where_it_stands():
    before = f"a\n{BEGIN}\nanything at all\n{END}\nb\n"
    assert rewrite(before, HOME) == f"a\n{BLOCK}b\n"


def test_no_entries_take_the_block_away():
    assert rewrite(f"a\n{BLOCK}b\n", {}) == "a\nb\n"
    assert rewrite("a\n", {}) == "a\n"


def test_a_missing_last_newline_is_added_before_the_block():
    assert rewrite("127.0.0.1 localhost", HOME) == f"127.0.0.1 localhost\n{BLOCK}"
    assert rewrite("127.0.0.1 localhost", {}) == "127.0.0.1 localhost"


def test_a_block_that_ends_without_a_newline_is_ours_all_the_same():
    assert rewrite(f"a\n{BLOCK}".rstrip("\n"), HOME) == f"a\n{BLOCK}"


def test_an_empty_file_gets_just_the_block():
    assert rewrite("", HOME) == BLOCK


def test_a_file_with_dos_line_ends_keeps_them_and_gets_such():
    after = rewrite("127.0.0.1 localhost\r\nx y\r\n", HOME)
    assert after == "127.0.0.1 localhost\r\nx y\r\n" + BLOCK.replace("\n", "\r\n")
    assert rewrite(after, HOME) == after
    assert rewrite(after, {}) == "127.0.0.1 localhost\r\nx y\r\n"


def test_of_two_blocks_one_is_left():
    assert rewrite(f"a\n{BLOCK}b\n{BLOCK}c\n", HOME) == f"a\n{BLOCK}b\nc\n"


def test_without_an_end_only_lines_of_our_form_are_ours():
    broken = f"a\n{BEGIN}\nfd00::1 home.mesh\n192.168.1.1 nas nas.lan\nb\n"
    assert rewrite(broken, BOTH) == rewrite(f"a\n{BLOCK}192.168.1.1 nas nas.lan\nb\n", BOTH)


def test_a_block_without_an_end_before_a_whole_one_does_not_swallow_what_is_between():
    broken = f"{BEGIN}\nfd00::1 home.mesh\n10.0.0.1\tprinter # mine\n{BLOCK}z\n"
    assert rewrite(broken, HOME) == f"{BLOCK}10.0.0.1\tprinter # mine\nz\n"


def test_an_end_without_a_begin_goes():
    assert rewrite(f"a\n{END}\nb\n", HOME) == f"a\nb\n{BLOCK}"


def test_other_line_separators_do_not_cut_lines():
    odd = "1.1.1.1 a\x0c\x85\u2028 b\rc\n"
    assert rewrite(odd, HOME) == odd + BLOCK
    assert rewrite(odd + BLOCK, {}) == odd


@pytest.mark.parametrize(
    "name",
    [
        "",
        "a\n1.2.3.4 bank.com",
        "home mesh",
        "home#",
        "Home.mesh",
        "-home",
        "home-",
        "home..mesh",
        "é",
        "a\n",
    ],
)
def test_no_hostile_name_gets_in(name):
    with pytest.raises(ValueError, match="no host name"):
        rewrite("", {name: "fd00::1"})


@pytest.mark.parametrize("address", ["", "fd00::1\n1.2.3.4", "fd00::1 bank.com", "home"])
def test_no_hostile_address_gets_in(address):
    with pytest.raises(ValueError, match="IP"):
        rewrite("", {"home.mesh": address})


lines = st.sampled_from(
    [
        "",
        "127.0.0.1 localhost",
        BEGIN,
        END,
        f" {BEGIN} ",
        "fd00::1 home.mesh",
        "x y z",
        "# note",
        "\ta",
    ]
)
texts = st.lists(lines).map("\n".join) | st.text()
entries = st.dictionaries(st.sampled_from(["a.mesh", "b.mesh", "c.mesh"]), st.ip_addresses(v=6).map(str))


@given(texts, entries, entries)
def test_rewriting_is_idempotent_and_forgets_what_was_there_before(text, first, second):
    once = rewrite(text, first)
    assert rewrite(once, first) == once
    assert rewrite(once, second).rstrip("\r\n") == rewrite(text, second).rstrip("\r\n")


@given(texts, entries)
def test_lines_that_are_not_ours_all_stay_in_their_order(text, wanted):
    foreign = [line for line in rewrite(text, {}).split("\n") if line]
    after = [line for line in rewrite(rewrite(text, wanted), {}).split("\n") if line]
    assert after == foreign


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "hosts"
    path.write_bytes(b"127.0.0.1 localhost\n\xff\xfe bytes\n")
    path.chmod(0o640)
    return path


def test_the_file_is_replaced_with_its_mode_and_other_bytes_kept(file):
    assert update(HOME, file)
    assert file.read_bytes() == b"127.0.0.1 localhost\n\xff\xfe bytes\n" + BLOCK.encode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["hosts"]


def test_what_is_right_is_not_written_again(file):
    update(HOME, file)
    inode = file.stat().st_ino
    assert not update(HOME, file)
    assert file.stat().st_ino == inode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(file):
    os.chown(file, 12345, 54321)
    update(HOME, file)
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)


def test_a_link_stays_a_link(file, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(file)
    update(HOME, link)
    assert link.is_symlink()
    assert BLOCK.encode() in file.read_bytes()


def test_what_a_power_cut_left_is_no_obstacle(file):
    (file.parent / ".hosts.meshkeep").write_text("half")
    assert update(HOME, file)
    assert os.listdir(file.parent) == ["hosts"]


def test_a_file_that_is_a_mount_is_written_in_place(file, monkeypatch):
    def refuse(self, target):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(hosts.Path, "rename", refuse)
    inode = file.stat().st_ino
    with pytest.raises(HostsError, match="busy"):
        update(HOME, file)
    assert BEGIN.encode() not in file.read_bytes()
    monkeypatch.setattr(hosts.os.path, "ismount", lambda path: True)
    assert update(HOME, file)
    assert file.stat().st_ino == inode
    assert file.read_bytes().endswith(BLOCK.encode())
    assert update({}, file)
    assert file.read_bytes() == b"127.0.0.1 localhost\n\xff\xfe bytes\n"
    assert os.listdir(file.parent) == ["hosts"]


def test_a_missing_file_is_made_readable_for_all(tmp_path):
    assert update(HOME, tmp_path / "hosts")
    assert stat.S_IMODE((tmp_path / "hosts").stat().st_mode) == 0o644


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(HostsError, match="No such file"):
        update(HOME, tmp_path / "nowhere" / "hosts")
