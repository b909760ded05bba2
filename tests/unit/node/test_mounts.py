"""Mounting what peers share: unit texts and names, and systemd made to mount, or nothing left behind."""

import configparser
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import mountinfo
from node.commands import CommandTimeout, Result
from node.errors import Exit, MeshkeepError
from node.mount_units import Wanted, automount_unit, escape_path, mount_unit, read_unit
from node.mounts import Mounts
from tests.fakes.commands import Recording

ADDRESS = "fd5a:1::4"
HOME = Wanted("home", ADDRESS, "/tank/home", "/mnt/home", rw=True)


def sections(text: str) -> dict[str, dict[str, str]]:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return {name: dict(parser[name]) for name in parser.sections()}


class TestNames:
    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/mnt/home", "mnt-home"),
            ("/mnt/my-home", r"mnt-my\x2dhome"),
            ("/mnt/a b", r"mnt-a\x20b"),
            ("/.hidden/x.y", r"\x2ehidden-x.y"),
            ("//a///b/", "a-b"),
            ("/é", r"\xc3\xa9"),
            ("/", "-"),
        ],
    )
    def test_a_path_is_escaped_as_systemd_does(self, path: str, name: str) -> None:
        assert escape_path(path) == name

    @pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="no systemd-escape to compare with")
    def test_systemd_agrees(self) -> None:
        paths = ["/mnt/home", "/mnt/my-home", "/.a/.b", "//x//y/", "/é ü/%", "/", "/a:b_c.d", "/~/(x)\\"]
        told = subprocess.run(
            ["systemd-escape", "--path", "--", *paths], capture_output=True, text=True, check=True
        ).stdout
        assert " ".join(escape_path(path) for path in paths) == told.strip()


class TestUnits:
    def test_the_mount(self) -> None:
        unit = sections(mount_unit(HOME))
        assert unit["Mount"]["What"] == "[fd5a:1::4]:/tank/home"
        assert unit["Mount"]["Where"] == "/mnt/home"
        assert unit["Mount"]["Type"] == "nfs"
        options = unit["Mount"]["Options"].split(",")
        for wanted in (
            "vers=4.2",
            "proto=tcp6",
            "softerr",
            "timeo=100",
            "retrans=3",
            "nosuid",
            "nodev",
            "rw",
            "_netdev",
        ):
            assert wanted in options
        assert "noresvport" not in options
        assert unit["Unit"]["After"] == "meshkeep-agent.service"

    def test_the_automount_lets_go_when_idle_and_comes_back_after_a_reboot(self) -> None:
        unit = sections(automount_unit(HOME))
        assert unit["Automount"] == {"Where": "/mnt/home", "TimeoutIdleSec": "10min"}
        assert unit["Install"]["WantedBy"] == "multi-user.target"

    @given(
        st.text(
            st.characters(
                min_codepoint=32,
                exclude_characters="\\\x85\u2028\u2029",
                exclude_categories=["Cs", "Zs", "Cc"],
            )
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_a_unit_says_what_it_was_made_for(self, name: str, rw: bool, made: bool) -> None:
        wanted = Wanted("home", ADDRESS, f"/t {name}.", f"/mnt/{name}%n", rw, made)
        assert read_unit(mount_unit(wanted)) == wanted

    @pytest.mark.parametrize("path", ["/a\nExecStart=/bin/sh", "/a ", "/a\\", "/a\x00"])
    def test_a_path_that_could_mean_something_else_to_systemd_is_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="cannot be written"):
            mount_unit(replace(HOME, path=path))

    def test_a_unit_of_somebody_else_is_not_ours(self) -> None:
        assert read_unit("[Mount]\nWhere=/mnt/home\nNode=home\n") is None
        assert read_unit("# managed by meshkeep\n[Mount]\nWhere=/mnt/home\n") is None


class TestMountinfo:
    TEXT = (
        "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
        "40 21 0:40 / /mnt/my\\040home rw shared:2 master:3 - autofs systemd-1 rw,fd=5\n"
        "41 40 0:41 / /mnt/my\\040home rw - nfs4 [fd5a:1::4]:/tank/a\\134b rw,vers=4.2\n"
        "broken\n"
    )

    def test_what_is_seen_at_a_point_is_what_was_mounted_last(self) -> None:
        seen = mountinfo.at(mountinfo.parse(self.TEXT), "/mnt/my home")
        assert seen == mountinfo.Mounted("/mnt/my home", "nfs4", "[fd5a:1::4]:/tank/a\\b")

    def test_a_directory_that_is_no_mount_point_has_nothing(self) -> None:
        assert mountinfo.at(mountinfo.parse(self.TEXT), "/mnt") is None

    def test_this_host_can_be_read(self) -> None:
        assert mountinfo.at(mountinfo.read(Path("/proc/self/mountinfo")), "/") is not None


class Host:
    """systemd as far as mounts are concerned: starting a unit makes it appear in mountinfo."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.units = root / "units"
        self.units.mkdir()
        self.info = root / "mountinfo"
        self.info.write_text("21 1 8:1 / / rw - ext4 /dev/sda1 rw\n")
        self.commands = Recording()
        self.commands.on("systemctl start", self._start)
        self.commands.on("systemctl stop", self._stop)
        self.commands.on("systemctl show", Result(0, "abc123\n"))
        self.mounts = Mounts(self.commands, self.units, self.info)
        self.home = replace(HOME, where=str(root / "home"))

    def _start(self) -> Result:
        for file in self.units.glob("*.mount"):
            wanted = read_unit(file.read_text())
            assert wanted is not None
            where = wanted.where.replace(" ", "\\040")
            with self.info.open("a") as info:
                info.write(f"41 40 0:41 / {where} rw - nfs4 {wanted.source} rw\n")
        return Result(0)

    def _stop(self) -> Result:
        self.info.write_text(self.info.read_text().splitlines()[0] + "\n")
        return Result(0)

    def fails_with(self, said: str) -> None:
        self.commands.on("systemctl start", Result(1, err="Job failed. See journalctl."))
        self.commands.on("journalctl --quiet", Result(0, said))

    def unit_files(self) -> list[str]:
        return sorted(path.suffix for path in self.units.iterdir())


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


async def refused(host: Host, wanted: Wanted) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await host.mounts.mount(wanted)
    return caught.value


class TestMounting:
    async def test_the_automount_is_enabled_first_then_the_mount_is_tried(self, host: Host) -> None:
        await host.mounts.mount(host.home)
        unit = escape_path(host.home.where)
        assert host.commands.ran == [
            "systemctl daemon-reload",
            f"systemctl enable --now {unit}.automount",
            f"systemctl start {unit}.mount",
        ]
        (state,) = await host.mounts.current()
        assert state.mounted
        assert (state.wanted.node, state.wanted.path, state.wanted.made) == ("home", "/tank/home", True)
        assert (host.root / "home").is_dir()

    async def test_an_empty_directory_will_do(self, host: Host) -> None:
        (host.root / "home").mkdir()
        await host.mounts.mount(host.home)
        assert not (await host.mounts.current())[0].wanted.made

    async def test_the_same_again_is_no_error(self, host: Host) -> None:
        await host.mounts.mount(host.home)
        await host.mounts.mount(host.home)
        assert len(await host.mounts.current()) == 1

    async def test_a_directory_behind_a_symlink_is_mounted_where_it_is(self, host: Host) -> None:
        (host.root / "real").mkdir()
        (host.root / "link").symlink_to("real")
        await host.mounts.mount(replace(host.home, where=str(host.root / "link" / "home") + "/"))
        (state,) = await host.mounts.current()
        assert state.wanted.where == str(host.root / "real" / "home")

    async def test_something_else_at_a_directory_of_ours_is_refused(self, host: Host) -> None:
        await host.mounts.mount(host.home)
        error = await refused(host, replace(host.home, path="/tank/other"))
        assert (error.code, error.hint) == ("already_mounted", f"meshkeep umount {host.home.where}")
        assert (await host.mounts.current())[0].mounted

    async def test_a_directory_that_is_not_empty_is_refused(self, host: Host) -> None:
        (host.root / "home").mkdir()
        (host.root / "home" / "file").touch()
        error = await refused(host, host.home)
        assert (error.code, error.exit) == ("directory_not_empty", Exit.REFUSED)
        assert host.commands.ran == []
        assert (host.root / "home" / "file").exists()

    async def test_a_mount_point_of_somebody_else_is_refused(self, host: Host) -> None:
        with host.info.open("a") as info:
            info.write(f"50 21 0:50 / {host.home.where} rw - tmpfs tmpfs rw\n")
        assert (await refused(host, host.home)).code == "already_mounted"

    async def test_a_unit_of_somebody_else_is_not_overwritten(self, host: Host) -> None:
        theirs = host.units / f"{escape_path(host.home.where)}.automount"
        theirs.write_text("theirs")
        assert (await refused(host, host.home)).code == "already_mounted"
        assert theirs.read_text() == "theirs"
        assert host.unit_files() == [".automount"]
        assert not (host.root / "home").exists()

    @pytest.mark.parametrize(
        ("where", "code"),
        [
            ("relative/dir", "not_a_directory"),
            ("{root}/a/b/c", "not_a_directory"),
            ("{root}/file", "not_a_directory"),
        ],
    )
    async def test_what_cannot_be_mounted_on(self, host: Host, where: str, code: str) -> None:
        (host.root / "file").touch()
        assert (await refused(host, replace(host.home, where=where.format(root=host.root)))).code == code
        assert host.commands.ran == []

    @pytest.mark.parametrize(
        ("said", "code", "exit_code"),
        [
            ("mount.nfs: access denied by server while mounting [fd::1]:/x", "mount_refused", Exit.REFUSED),
            ("mount.nfs: Operation not permitted for [fd::1]:/x", "mount_refused", Exit.REFUSED),
            (
                "mount.nfs: mounting [fd::1]:/x failed, reason given by server: No such file or directory",
                "mount_not_found",
                Exit.NOT_FOUND,
            ),
            ("mount.nfs: Connection timed out", "mount_timeout", Exit.NO_PEER),
            ("mount.nfs: Network is unreachable", "mount_timeout", Exit.NO_PEER),
            ("mount.nfs: Connection refused for [fd::1]:/x", "mount_timeout", Exit.NO_PEER),
            (
                "mount: bad option; you might need a /sbin/mount.<type> helper program.",
                "nfs_client_missing",
                Exit.FAILED,
            ),
            ("mount.nfs: something new", "mount_failed", Exit.FAILED),
        ],
    )
    async def test_a_failure_says_why_and_leaves_nothing(
        self, host: Host, said: str, code: str, exit_code: Exit
    ) -> None:
        host.fails_with(said)
        error = await refused(host, host.home)
        assert (error.code, error.exit, error.why) == (code, exit_code, said)
        assert error.what == f"cannot mount /tank/home of home at {host.home.where}"
        assert host.unit_files() == []
        assert not (host.root / "home").exists()
        assert "systemctl daemon-reload" in host.commands.ran[-2:]
        assert await host.mounts.current() == []

    async def test_a_silent_journal_leaves_what_systemctl_said(self, host: Host) -> None:
        host.fails_with("")
        assert (await refused(host, host.home)).why == "Job failed. See journalctl."

    async def test_a_mount_that_hangs_is_given_up(self, host: Host) -> None:
        host.commands.on("systemctl start", CommandTimeout(["systemctl"], 60))
        assert (await refused(host, host.home)).code == "mount_timeout"
        assert host.unit_files() == []

    async def test_success_is_believed_only_when_the_kernel_shows_it(self, host: Host) -> None:
        host.commands.on("systemctl start", Result(0))
        error = await refused(host, host.home)
        assert (error.code, error.why) == (
            "mount_failed",
            "systemd reports success, and yet it is not mounted",
        )
        assert host.unit_files() == []

    async def test_a_failure_leaves_a_directory_that_was_there(self, host: Host) -> None:
        (host.root / "home").mkdir()
        host.fails_with("mount.nfs: Connection timed out")
        await refused(host, host.home)
        assert (host.root / "home").is_dir()

    async def test_a_failing_remount_keeps_the_units(self, host: Host) -> None:
        await host.mounts.mount(host.home)
        host.fails_with("mount.nfs: Connection timed out")
        await refused(host, host.home)
        assert len(await host.mounts.current()) == 1

    async def test_a_path_that_a_unit_cannot_hold_leaves_nothing(self, host: Host) -> None:
        assert (await refused(host, replace(host.home, path="/a\nb"))).code == "bad_path"
        assert not (host.root / "home").exists()


class TestUnmounting:
    async def test_it_is_gone_for_good_with_the_directory_that_was_made_for_it(self, host: Host) -> None:
        await host.mounts.mount(host.home)
        await host.mounts.umount(host.home.where + "/")
        assert await host.mounts.current() == []
        assert host.unit_files() == []
        assert not os.path.lexists(host.home.where)
        assert f"systemctl disable --now {escape_path(host.home.where)}.automount" in host.commands.ran

    async def test_a_directory_that_was_there_stays(self, host: Host) -> None:
        (host.root / "home").mkdir()
        await host.mounts.mount(host.home)
        await host.mounts.umount(host.home.where)
        assert (host.root / "home").is_dir()

    async def test_what_is_not_ours_is_refused(self, host: Host) -> None:
        (host.units / "mnt-x.mount").write_text("[Mount]\nWhere=/mnt/x\n")
        with pytest.raises(MeshkeepError) as caught:
            await host.mounts.umount("/mnt/x")
        assert (caught.value.code, caught.value.exit) == ("not_mounted", Exit.NOT_FOUND)
        assert host.commands.ran == []

    async def test_while_files_are_open_everything_stays(self, host: Host) -> None:
        await host.mounts.mount(host.home)
        host.commands.on("systemctl stop", Result(1, err="umount: target is busy."))
        with pytest.raises(MeshkeepError) as caught:
            await host.mounts.umount(host.home.where)
        assert (caught.value.code, caught.value.why) == ("busy", "umount: target is busy.")
        (state,) = await host.mounts.current()
        assert state.mounted
