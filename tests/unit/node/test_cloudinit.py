"""The user-data: its form, what it never contains, and its script run for real against recording tools."""

import hashlib
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cloudinit import INVITE_FILE, SCRIPT_FILE, BadValue, Machine, script, user_data

INVITE = "mk1-abcdefghij-0123456789"
DEB = b"a package"
MACHINE = Machine(
    package="http://192.0.2.9:8000/meshkeep_0.1.0_all.deb?x=1&y=2",
    sha256=hashlib.sha256(DEB).hexdigest(),
    disk="/dev/vdb",
)
SYSTEM_PYTHON = "/usr/bin/python3"


def has_yaml() -> bool:
    asked = subprocess.run([SYSTEM_PYTHON, "-c", "import yaml"], capture_output=True, check=False)
    return asked.returncode == 0


def parsed(text: str) -> dict[str, object]:
    """Read by PyYAML, which is what cloud-init uses; it comes with the system's Python, not with ours."""
    program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(sys.stdin)))"
    done = subprocess.run(
        [SYSTEM_PYTHON, "-c", program], input=text, capture_output=True, text=True, check=True
    )
    value: dict[str, object] = json.loads(done.stdout)
    return value


class TestTheForm:
    def test_is_a_cloud_config_of_two_files_and_one_command(self) -> None:
        lines = user_data(MACHINE, invite=INVITE).splitlines()
        assert lines[0] == "#cloud-config"
        assert [line for line in lines if line and not line.startswith(" ")] == [
            "#cloud-config",
            "write_files:",
            "runcmd:",
        ]
        assert lines[-1] == f"  - [{SCRIPT_FILE}]"

    def test_the_block_is_the_script_line_by_line(self) -> None:
        text = user_data(MACHINE, invite=INVITE)
        block = text.partition("    content: |\n")[2].partition("runcmd:")[0]
        assert "".join(f"{line[6:]}\n" for line in block.splitlines()) == script(MACHINE)

    def test_is_ascii_without_tabs(self) -> None:
        text = user_data(MACHINE, invite=INVITE)
        assert text.isascii()
        assert "\t" not in text

    @pytest.mark.skipif(not has_yaml(), reason="no PyYAML on this host")
    @pytest.mark.parametrize("invite", [INVITE, "x", "'\"\\!&*%@`#:-{}[]|>", "null", "0123", "~", "%YAML"])
    def test_yaml_gives_back_what_was_put_in(self, invite: str) -> None:
        assert parsed(user_data(MACHINE, invite=invite)) == {
            "write_files": [
                {"path": INVITE_FILE, "permissions": "0600", "content": f"{invite}\n"},
                {"path": SCRIPT_FILE, "permissions": "0755", "content": script(MACHINE)},
            ],
            "runcmd": [[SCRIPT_FILE]],
        }


class TestTheSecret:
    def test_is_in_the_file_and_nowhere_else(self) -> None:
        text = user_data(MACHINE, invite=INVITE)
        assert text.count(INVITE) == 1
        assert INVITE not in script(MACHINE)

    def test_of_more_than_one_line_is_refused(self) -> None:
        for invite in ("", "two\nlines", "a b", "ä"):
            with pytest.raises(BadValue):
                user_data(MACHINE, invite=invite)


class TestAMachine:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"package": "ftp://x/m.deb", "sha256": "0" * 64},
            {"package": "http://x/m.deb'; reboot; '", "sha256": "0" * 64},
            {"package": "http://x/$(reboot) ", "sha256": "0" * 64},
            {"package": "http://x/m.deb\n", "sha256": "0" * 64},
            {"package": "http://x/m.deb", "sha256": "0" * 63},
            {"package": "http://x/m.deb", "sha256": "0" * 64 + "\n"},
            {"package": "http://x/m.deb"},
            {"sha256": "0" * 64},
            {"disk": "vdb"},
            {"disk": "/dev/vdb; reboot"},
            {"pool": "-f"},
            {"pool": ""},
            {"pool": "a b"},
        ],
    )
    def test_with_a_value_that_does_not_fit_is_refused(self, wrong: dict[str, str]) -> None:
        with pytest.raises(BadValue):
            Machine(**wrong)  # type: ignore[arg-type]

    @given(st.text(), st.text(), st.text())
    def test_that_is_accepted_makes_a_script_that_the_shell_reads(
        self, path: str, disk: str, pool: str
    ) -> None:
        try:
            machine = Machine(package=f"http://x/{path}", sha256="0" * 64, disk=f"/dev/{disk}", pool=pool)
        except BadValue:
            return
        assert subprocess.run(["sh", "-n"], input=script(machine), text=True, check=False).returncode == 0


@dataclass
class Vm:
    """A PATH in which every tool only writes down how it was called, unless a file says it fails."""

    root: Path

    def tool(self, name: str, body: str = "") -> None:
        file = self.root / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> {self.root}/called\n{body}\n')
        file.chmod(0o755)

    def run(self, machine: Machine) -> subprocess.CompletedProcess[str]:
        text = script(machine).replace("/etc/", f"{self.root}/etc/")
        return subprocess.run(
            ["/bin/sh", "-s"],
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": f"{self.root}/bin"},
        )

    @property
    def called(self) -> list[str]:
        return (self.root / "called").read_text().splitlines()

    def forget(self) -> None:
        (self.root / "called").unlink()


@pytest.fixture
def vm(tmp_path: Path) -> Vm:
    vm = Vm(tmp_path)
    for name in ("modprobe", "zpool", "debconf-set-selections", "sleep", "systemctl"):
        vm.tool(name)
    for name in ("mktemp", "chmod", "sha256sum", "sed", "uname", "cat"):
        (tmp_path / "bin" / name).symlink_to(shutil.which(name) or name)
    (tmp_path / "served").write_bytes(DEB)
    vm.tool("python3", f'cat {tmp_path}/served > "$4"')
    vm.tool(
        "apt-get", f'case "$*" in *install*meshkeep*) cp {tmp_path}/installed {tmp_path}/bin/meshkeep;; esac'
    )
    (tmp_path / "bin/cp").symlink_to("/bin/cp")
    installed = tmp_path / "installed"
    installed.write_text(f'#!/bin/sh\necho "meshkeep $*" >> {tmp_path}/called\n')
    installed.chmod(0o755)
    (tmp_path / "etc/meshkeep").mkdir(parents=True)
    (tmp_path / "etc/meshkeep/invite").write_text(INVITE)
    return vm


class TestTheScript:
    def test_installs_prepares_and_starts_to_join(self, vm: Vm) -> None:
        done = vm.run(MACHINE)
        assert done.returncode == 0, done.stderr
        assert [line.partition(" /tmp")[0] for line in vm.called if not line.startswith("python3")] == [
            "modprobe zfs",
            "apt-get -q -y -o Dpkg::Options::=--force-confold install --no-install-recommends",
            "meshkeep vault prepare --disk /dev/vdb --pool tank --if-needed",
            "systemctl start --no-block meshkeep-join.service",
        ]

    def test_asks_no_mirror_when_everything_is_there(self, vm: Vm) -> None:
        vm.run(MACHINE)
        assert not any("update" in line for line in vm.called)

    def test_fetches_the_package_lists_when_it_does_not_work_without(self, vm: Vm) -> None:
        vm.tool(
            "apt-get",
            f'[ "$2" = update ] && : > {vm.root}/updated; [ -e {vm.root}/updated ] || exit 100\n'
            f"cp {vm.root}/installed {vm.root}/bin/meshkeep",
        )
        assert vm.run(MACHINE).returncode == 0
        assert [line.split()[2] for line in vm.called if line.startswith("apt-get")] == ["-y", "update", "-y"]

    def test_run_again_only_does_what_is_missing(self, vm: Vm) -> None:
        vm.run(MACHINE)
        vm.forget()
        (vm.root / "etc/meshkeep/invite").unlink()
        assert vm.run(MACHINE).returncode == 0
        assert vm.called == [
            "modprobe zfs",
            "meshkeep vault prepare --disk /dev/vdb --pool tank --if-needed",
        ]

    def test_installs_nothing_with_another_checksum(self, vm: Vm) -> None:
        (vm.root / "served").write_bytes(b"another package")
        assert vm.run(MACHINE).returncode != 0
        assert not any(line.startswith("apt-get") for line in vm.called)

    def test_tries_the_download_five_times(self, vm: Vm) -> None:
        vm.tool("python3", "exit 1")
        assert vm.run(MACHINE).returncode != 0
        assert [line.split()[0] for line in vm.called].count("python3") == 5

    def test_does_not_join_without_a_pool(self, vm: Vm) -> None:
        (vm.root / "installed").write_text("#!/bin/sh\nexit 7\n")
        assert vm.run(MACHINE).returncode == 7
        assert not any(line.startswith("systemctl") for line in vm.called)

    def test_builds_zfs_where_there_is_none(self, vm: Vm) -> None:
        vm.tool("modprobe", f"[ -e {vm.root}/bin/zpool ]")
        (vm.root / "bin/zpool").unlink()
        vm.tool(
            "apt-get",
            f'case "$*" in *zfs-dkms*) cp {vm.root}/installed {vm.root}/bin/zpool;; '
            f"*install*meshkeep*) cp {vm.root}/installed {vm.root}/bin/meshkeep;; esac",
        )
        (vm.root / "etc/apt/sources.list.d").mkdir(parents=True)
        sources = vm.root / "etc/apt/sources.list.d/debian.sources"
        sources.write_text("Types: deb\nSuites: trixie\nComponents: main\n")
        old = vm.root / "etc/apt/sources.list"
        old.write_text("# mine\ndeb http://mirror.example/debian trixie main\n")
        assert vm.run(MACHINE).returncode == 0
        assert sources.read_text() == "Types: deb\nSuites: trixie\nComponents: main contrib\n"
        assert old.read_text() == "# mine\ndeb http://mirror.example/debian trixie main contrib\n"
        assert vm.called.index("apt-get -q update") < next(
            number for number, line in enumerate(vm.called) if "zfs-dkms zfsutils-linux" in line
        )

    def test_of_a_member_takes_the_recommended_packages_too(self) -> None:
        assert "--no-install-recommends meshkeep" in script(Machine())
        assert "install meshkeep" in script(Machine(stores_only=False))

    def test_without_a_disk_makes_no_pool(self) -> None:
        assert "vault prepare" not in script(Machine())
