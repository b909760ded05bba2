"""The Debian package: what is in it, that it is reproducible, that its command runs where it is put."""

import gzip
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from node.cloudinit import INVITE_FILE

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = ("node", "mesh", "policy", "replication", "zfs")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DEPENDENCIES = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]

pytestmark = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb on this host")


def build(out: Path) -> Path:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy/build-deb", "--out", out],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"},
    )
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def deb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("deb"))


@pytest.fixture(scope="module")
def root(deb: Path) -> Path:
    """The package unpacked, with its control files in DEBIAN."""
    root = deb.parent / "root"
    subprocess.run(["dpkg-deb", "-R", deb, root], check=True)
    return root


def field(deb: Path, name: str) -> str:
    return subprocess.run(
        ["dpkg-deb", "-f", deb, name], capture_output=True, text=True, check=True
    ).stdout.strip()


def unit(root: Path, name: str) -> str:
    return (root / "usr/lib/systemd/system" / name).read_text()


class TestTheFile:
    def test_is_named_and_described_by_the_version_of_pyproject(self, deb: Path) -> None:
        assert deb.name == f"meshkeep_{VERSION}_all.deb"
        assert (field(deb, "Package"), field(deb, "Version")) == ("meshkeep", VERSION)
        assert field(deb, "Architecture") == "all"

    def test_is_the_same_bytes_when_built_again(self, deb: Path, tmp_path: Path) -> None:
        old = os.umask(0o077)
        try:
            again = build(tmp_path)
        finally:
            os.umask(old)
        assert again.read_bytes() == deb.read_bytes()

    def test_belongs_to_root_throughout(self, deb: Path) -> None:
        listing = subprocess.run(["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True).stdout
        assert {line.split()[1] for line in listing.splitlines()} == {"root/root"}

    def test_depends_on_a_package_for_each_dependency_of_the_code(self, deb: Path) -> None:
        depends = field(deb, "Depends")
        for requirement in DEPENDENCIES:
            name = requirement.partition(">")[0].replace("pynacl", "nacl")
            assert f"python3-{name}" in depends
        for name in ("python3-pyzfs", "zfsutils-linux", "nftables", "iproute2"):
            assert name in depends


class TestWhatIsInstalled:
    def test_is_every_module_of_the_tree_in_a_private_place(self, root: Path) -> None:
        for package in PACKAGES:
            shipped = {
                p.relative_to(root / "usr/lib/meshkeep") for p in (root / "usr/lib/meshkeep").rglob("*.py")
            }
            assert {p.relative_to(ROOT) for p in (ROOT / package).rglob("*.py")} <= shipped
        assert not list(root.rglob("*.pyc"))
        assert not (root / "usr/lib/python3").exists()

    def test_is_the_command_that_knows_its_version(self, root: Path) -> None:
        """The shipped wrapper, pointed at the unpacked tree instead of /usr/lib, from a hostile directory."""
        library = root / "usr/lib/meshkeep"
        wrapper = (root / "usr/bin/meshkeep").read_text()
        assert wrapper.startswith("#!/usr/bin/python3 -I\n")
        trap = root.parent / "trap"
        trap.mkdir()
        (trap / "node.py").write_text("raise SystemExit('the wrong node')")
        done = subprocess.run(
            [sys.executable, "-I", "-c", wrapper.replace("/usr/lib/meshkeep", str(library)), "version"],
            cwd=trap,
            env={"PYTHONPATH": str(trap), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.stdout, done.stderr) == (f"meshkeep {VERSION}\n", "")

    def test_is_documented_as_debian_wants_it(self, root: Path) -> None:
        doc = root / "usr/share/doc/meshkeep"
        assert f"meshkeep ({VERSION})" in gzip.decompress((doc / "changelog.gz").read_bytes()).decode()
        licence = (doc / "copyright").read_text()
        assert "Permission is hereby granted" in licence
        assert "@" not in licence

    def test_keeps_the_administrators_configuration(self, root: Path) -> None:
        assert (root / "DEBIAN/conffiles").read_text() == "/etc/meshkeep/meshkeep.toml\n"
        assert tomllib.loads((root / "etc/meshkeep/meshkeep.toml").read_text()) == {}
        assert (root / "etc/meshkeep/conf.d").is_dir()

    def test_is_executable_where_it_must_be_and_writable_for_root_only(self, root: Path) -> None:
        assert (root / "usr/bin/meshkeep").stat().st_mode & 0o777 == 0o755
        for path in root.rglob("*"):
            assert path.stat().st_mode & 0o022 == 0, path


class TestTheUnits:
    NAMESPACING = (
        *("ProtectSystem", "ProtectHome", "PrivateTmp", "PrivateDevices", "PrivateMounts", "ReadOnlyPaths"),
        *("ReadWritePaths", "InaccessiblePaths", "BindPaths", "TemporaryFileSystem", "ProtectKernel"),
        *("ProtectControlGroups", "MountFlags", "RootDirectory", "ProtectProc", "ProcSubset", "DynamicUser"),
    )

    def test_the_agent_has_no_mount_namespace(self, root: Path) -> None:
        settings = [line for line in unit(root, "meshkeep-agent.service").splitlines() if line[:1] != "#"]
        assert not [line for line in settings if line.startswith(self.NAMESPACING)]

    def test_the_agent_notifies_and_is_watched(self, root: Path) -> None:
        text = unit(root, "meshkeep-agent.service")
        for line in (
            "Type=notify",
            "NotifyAccess=main",
            "WatchdogSec=60",
            "ExecStart=/usr/bin/meshkeep agent",
            "KillMode=mixed",
            "StateDirectoryMode=0700",
            "RuntimeDirectoryMode=0755",
            "LimitCORE=0",
        ):
            assert f"\n{line}\n" in text

    def test_the_join_waits_without_a_secret_in_sight_and_survives(self, root: Path) -> None:
        text = unit(root, "meshkeep-join.service")
        assert f"ConditionPathExists={INVITE_FILE}\n" in text
        assert f"--invite-file {INVITE_FILE} --wait --if-needed --shred\n" in text
        assert "\nType=exec\n" in text
        assert "\nRestart=on-failure\n" in text
        assert "\nWantedBy=multi-user.target\n" in text

    @pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this host")
    def test_systemd_finds_nothing_wrong(self, root: Path) -> None:
        units = [root / "usr/lib/systemd/system" / f"meshkeep-{name}.service" for name in ("agent", "join")]
        done = subprocess.run(
            ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
        )
        said = [line for line in done.stderr.splitlines() if "meshkeep" in line]
        assert [line for line in said if "is not executable" not in line] == []


@pytest.mark.parametrize("name", ["postinst", "prerm", "postrm"])
def test_the_maintainer_scripts_are_shell_and_stop_at_errors(root: Path, name: str) -> None:
    script = root / "DEBIAN" / name
    assert script.read_text().startswith("#!/bin/sh\nset -e\n")
    assert subprocess.run(["sh", "-n", script], check=False).returncode == 0


def test_a_purge_keeps_the_identity_of_the_node(root: Path) -> None:
    script = (root / "DEBIAN/postrm").read_text()
    removals = [line for line in script.splitlines() if "rm " in line and "echo" not in line]
    assert not [line for line in removals if "/var/lib/meshkeep" in line]
