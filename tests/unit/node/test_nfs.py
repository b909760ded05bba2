"""Sharing by NFS: the text of the exports, and the host's nfsd made to serve exactly that."""

import os
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import exports as pure
from node.commands import CommandMissing, Result
from node.errors import MeshkeepError
from node.exports import Client, Export, Skipped, desired, exports_text, fsid, granted
from node.nfs import Exports, Places, squash_identity
from node.settings import ShareRule
from node.settings_problems import Origin
from tests.fakes.commands import Recording
from zfs.model import Dataset

LAPTOP, DESK = "fd5a:1::4", "fd5a:1::7"
FSID = "0d8ee1ae-6bd5-5ab6-8d8e-000000000000"
OPTIONS = f"sync,no_subtree_check,secure,mountpoint,fsid={FSID},sec=sys"
HOME = Export(
    "tank/home", "/tank/home", FSID, (Client(LAPTOP, True, "all", 1000, 1000), Client(DESK, False, "root"))
)


def share(dataset: str = "tank/home", *to: str, **more: object) -> ShareRule:
    rule = ShareRule(dataset, to or ("laptop",), "ro", "all", None, Origin("a", 1))
    return replace(rule, **more)  # type: ignore[arg-type]


def dataset(name: str, **more: object) -> Dataset:
    made = Dataset(name, "filesystem", 77, 1, 0, 0, 0, mounted=True)
    return replace(made, **more)  # type: ignore[arg-type]


class TestText:
    def test_one_line_for_each_permitted_node(self) -> None:
        assert exports_text([HOME]) == (
            "# managed by meshkeep: edits are lost\n"
            f"/tank/home {LAPTOP}(rw,{OPTIONS},root_squash,all_squash,anonuid=1000,anongid=1000)\n"
            f"/tank/home {DESK}(ro,{OPTIONS},root_squash,anonuid=65534,anongid=65534)\n"
        )

    def test_no_squashing_at_all_names_nobody(self) -> None:
        line = exports_text([replace(HOME, clients=(Client(DESK, True, "none"),))]).splitlines()[1]
        assert line == f"/tank/home {DESK}(rw,{OPTIONS},no_root_squash)"

    def test_the_order_of_what_is_asked_for_does_not_matter(self) -> None:
        other = replace(HOME, path="/tank/a")
        turned = replace(HOME, clients=HOME.clients[::-1])
        assert exports_text([HOME, other]) == exports_text([other, turned])

    @pytest.mark.parametrize(
        ("path", "written"),
        [
            ("/tank/my files", r"/tank/my\040files"),
            ("/tank/a#b(c)", r"/tank/a\043b\050c\051"),
            ('/tank/"x"', r"/tank/\042x\042"),
            ("/tank/ü\n", r"/tank/\303\274\012"),
        ],
    )
    def test_odd_characters_of_a_path_are_escaped(self, path: str, written: str) -> None:
        assert exports_text([replace(HOME, path=path)]).splitlines()[1].split(" ")[0] == written

    @pytest.mark.parametrize("path", ["tank", "", "/tank/\\040"])
    def test_a_path_that_cannot_be_written_is_refused(self, path: str) -> None:
        with pytest.raises(ValueError, match="cannot be exported"):
            exports_text([replace(HOME, path=path)])

    @given(st.lists(st.tuples(st.text(min_size=1), st.integers(0, 2**64)), max_size=4))
    def test_whatever_the_paths_nobody_is_granted_more_than_asked(
        self, wanted: list[tuple[str, int]]
    ) -> None:
        exports = [
            Export(
                "d",
                "/" + path.replace("\\", "").encode(errors="replace").decode(),
                FSID,
                (Client(str(ip_address((0xFD << 120) + number)), False, "all"),),
            )
            for path, number in wanted
        ]
        text = exports_text(exports)
        assert len(text.splitlines()) == 1 + len(exports)
        assert {address for _, address in granted(text)} == {e.clients[0].address for e in exports}

    def test_the_fsid_is_the_datasets_own_for_good(self) -> None:
        assert fsid(77) == fsid(77) != fsid(78)

    def test_a_departing_client_is_found_by_its_address(self) -> None:
        info = (
            'clientid: 0x1\naddress: "[fd5a:1::4]:789"\nstatus: confirmed\nname: "address: \\"[::1]:1\\""\n'
        )
        assert pure.client_address(info) == LAPTOP
        assert pure.client_address('address: "10.0.0.1:1"') == "10.0.0.1"
        assert pure.client_address("status: unconfirmed") is None


class TestDesired:
    ADDRESSES = {"laptop": LAPTOP, "desk": DESK}  # noqa: RUF012

    def wanted(
        self, *shares: ShareRule, there: Dataset | None = None, place: str | None = "/tank/home"
    ) -> tuple[list[Export], list[Skipped]]:
        one = there or dataset("tank/home")
        return desired(
            shares, {one.name: one}, {one.name: place}, self.ADDRESSES, lambda share, path: (1000, 100)
        )

    def test_shares_of_one_dataset_become_one_export(self) -> None:
        exports, skipped = self.wanted(share(), share("tank/home", "desk", access="rw", squash="root"))
        assert skipped == []
        (export,) = exports
        assert (export.path, export.fsid) == ("/tank/home", fsid(77))
        assert export.clients == (
            Client(LAPTOP, False, "all", 1000, 100),
            Client(DESK, True, "root", 1000, 100),
        )

    @pytest.mark.parametrize(
        ("there", "reason"),
        [
            (dataset("tank/other"), "there is no dataset tank/home"),
            (dataset("tank/home", kind="volume"), "tank/home is a volume: only filesystems can be shared"),
            (dataset("tank/home", mounted=False), "tank/home is not mounted"),
            (
                dataset("tank/home", mounted=False, keystatus="unavailable"),
                "tank/home is not mounted (its key is not loaded)",
            ),
        ],
    )
    def test_what_cannot_be_served_is_left_out_and_says_why(self, there: Dataset, reason: str) -> None:
        assert self.wanted(share(), there=there) == ([], [Skipped("tank/home", reason)])

    @pytest.mark.parametrize("place", ["legacy", None])
    def test_one_that_is_mounted_nowhere_of_its_own_is_left_out(self, place: str | None) -> None:
        skipped = [Skipped("tank/home", "tank/home has no mountpoint")]
        assert self.wanted(share(), place=place) == ([], skipped)

    def test_a_node_that_is_not_in_the_mesh_is_left_out_alone(self) -> None:
        (export,), skipped = self.wanted(share("tank/home", "gone", "desk"))
        assert [client.address for client in export.clients] == [DESK]
        assert skipped == [Skipped("tank/home", "gone is not in the mesh")]

    def test_a_share_mapped_to_nobody_known_is_left_out(self) -> None:
        exports, skipped = desired(
            [share(map_to="no-such-user-here")],
            {"tank/home": dataset("tank/home")},
            {"tank/home": "/tank/home"},
            self.ADDRESSES,
            squash_identity,
        )
        assert exports == []
        assert skipped == [Skipped("tank/home", 'there is no user "no-such-user-here" on this host')]


class TestIdentity:
    def test_accesses_act_as_the_owner_of_the_directory(self, tmp_path: Path) -> None:
        if os.getuid() == 0:
            os.chown(tmp_path, 1234, 567)
        status = tmp_path.stat()
        assert squash_identity(share(), str(tmp_path)) == (status.st_uid, status.st_gid)

    def test_a_directory_of_root_is_served_as_nobody(self) -> None:
        assert squash_identity(share(), "/") == (65534, 65534)

    def test_where_only_root_is_squashed_it_is_to_nobody(self, tmp_path: Path) -> None:
        assert squash_identity(share(squash="root"), str(tmp_path)) == (65534, 65534)

    def test_a_user_can_be_named_or_numbered(self, tmp_path: Path) -> None:
        assert squash_identity(share(map_to="nobody"), str(tmp_path))[0] == 65534
        assert squash_identity(share(map_to=4_000_000), str(tmp_path)) == (4_000_000, 4_000_000)

    def test_never_to_root(self, tmp_path: Path) -> None:
        with pytest.raises(MeshkeepError, match="cannot be mapped to root"):
            squash_identity(share(map_to="root"), str(tmp_path))


class Host:
    """A host whose files are in a directory and whose commands are recorded."""

    def __init__(self, root: Path) -> None:
        self.places = Places(
            root / "exports.d" / "meshkeep.exports",
            root / "exports",
            root / "nfs.conf.d" / "meshkeep.conf",
            root / "clients",
            root / "mountinfo",
        )
        self.commands = Recording()
        self.is_running(False)
        self.mounted("tank/home")
        self.nfs = Exports(self.commands, self.places)

    def is_running(self, running: bool) -> None:
        self.commands.on("systemctl is-active", Result(0 if running else 3))

    def mounted(self, *datasets: str) -> None:
        lines = [f"40 1 0:40 / /{name} rw shared:1 - zfs {name} rw" for name in datasets]
        self.places.mountinfo.write_text("1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + "\n".join(lines))

    def client(self, number: int, address: str) -> Path:
        directory = self.places.clients / str(number)
        directory.mkdir(parents=True)
        (directory / "info").write_text(f'clientid: 0x1\naddress: "[{address}]:800"\n')
        (directory / "ctl").write_text("")
        return directory / "ctl"

    def ran(self) -> list[str]:
        """The commands since the last look."""
        commands, self.commands.ran[:] = list(self.commands.ran), []
        return commands

    def restarted(self) -> Exports:
        return Exports(self.commands, self.places)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


class TestServing:
    async def test_without_shares_the_host_is_not_touched(self, host: Host) -> None:
        await host.nfs.apply([])
        assert host.ran() == []
        assert not host.places.exports.exists()
        assert not host.places.conf.exists()

    async def test_the_first_share_starts_nfsd_with_version_4_only(self, host: Host) -> None:
        applied = await host.nfs.apply([HOME])
        assert host.ran() == [
            "systemctl is-active --quiet nfs-server.service",
            "systemctl start nfs-server.service",
            "exportfs -ra",
        ]
        assert host.places.exports.read_text() == exports_text([HOME])
        assert "vers3=n" in host.places.conf.read_text()
        assert (applied.exported, applied.skipped, applied.notes) == ((HOME,), (), ())

    async def test_an_nfsd_that_serves_nothing_else_is_restarted_to_drop_version_3(self, host: Host) -> None:
        host.is_running(True)
        host.places.others.write_text("# nothing\n\n")
        await host.nfs.apply([HOME])
        assert "systemctl restart nfs-server.service" in host.ran()

    async def test_an_nfsd_with_exports_of_others_goes_on_and_that_is_told(self, host: Host) -> None:
        host.is_running(True)
        host.places.others.write_text("/srv 192.0.2.0/24(ro)\n")
        applied = await host.nfs.apply([HOME])
        assert [line for line in host.ran() if "restart" in line or " start" in line] == []
        assert "NFSv3" in applied.notes[0]

    async def test_the_same_again_runs_nothing(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        host.ran()
        await host.nfs.apply([HOME])
        assert host.ran() == []

    async def test_after_a_restart_of_the_agent_the_exports_are_put_in_force_once(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        host.is_running(True)
        host.ran()
        await host.restarted().apply([HOME])
        assert host.ran() == ["systemctl is-active --quiet nfs-server.service", "exportfs -ra"]

    async def test_a_dataset_that_is_not_mounted_is_never_exported(self, host: Host) -> None:
        host.mounted("tank/other")
        applied = await host.nfs.apply([HOME])
        assert applied.exported == ()
        assert applied.skipped == (Skipped("tank/home", "tank/home is not mounted at /tank/home"),)
        assert not host.places.exports.exists()

    async def test_nor_what_is_mounted_over_it(self, host: Host) -> None:
        over = "50 1 0:50 / /tank/home rw - tmpfs tmpfs rw\n"
        host.places.mountinfo.write_text(host.places.mountinfo.read_text() + "\n" + over)
        assert (await host.nfs.apply([HOME])).exported == ()

    async def test_without_the_nfs_server_it_says_what_to_install(self, host: Host) -> None:
        host.is_running(True)
        host.commands.on("exportfs", CommandMissing("exportfs"))
        with pytest.raises(MeshkeepError) as caught:
            await host.nfs.apply([HOME])
        assert (caught.value.code, caught.value.hint) == (
            "nfs_server_missing",
            "apt install nfs-kernel-server",
        )

    async def test_a_failed_attempt_is_made_again(self, host: Host) -> None:
        host.commands.on("exportfs -ra", Result(1, err="exportfs: no"))
        with pytest.raises(MeshkeepError) as caught:
            await host.nfs.apply([HOME])
        assert caught.value.why == "exportfs: no"
        host.commands.on("exportfs -ra", Result(0))
        host.ran()
        await host.nfs.apply([HOME])
        assert "exportfs -ra" in host.ran()


class TestWithdrawing:
    async def test_a_node_taken_out_is_unexported_flushed_and_expired_in_that_order(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        host.ran()
        gone, stays = host.client(1, LAPTOP), host.client(2, DESK)
        host.commands.on("exportfs -f", lambda: Result(1 if gone.read_text() else 0))
        await host.nfs.apply([replace(HOME, clients=HOME.clients[1:])])
        assert host.ran()[:2] == ["exportfs -ra", "exportfs -f"]
        assert (gone.read_text(), stays.read_text()) == ("expire\n", "")
        assert {address for _, address in granted(host.places.exports.read_text())} == {DESK}

    async def test_the_last_share_taken_away_leaves_no_file(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        control = host.client(1, LAPTOP)
        await host.nfs.apply([])
        assert not host.places.exports.exists()
        assert control.read_text() == "expire\n"
        host.ran()
        await host.nfs.apply([])
        assert host.ran() == []

    async def test_from_rw_to_ro_throws_nobody_out(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        control = host.client(1, LAPTOP)
        await host.nfs.apply([replace(HOME, clients=(replace(HOME.clients[0], rw=False), HOME.clients[1]))])
        assert control.read_text() == ""

    async def test_a_dataset_that_is_unmounted_later_is_withdrawn(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        host.mounted()
        await host.nfs.apply([HOME])
        assert not host.places.exports.exists()

    async def test_an_evicted_node_loses_everything_even_after_a_restart_of_the_agent(
        self, host: Host
    ) -> None:
        other = replace(HOME, dataset="tank/x", path="/tank/x")
        host.mounted("tank/home", "tank/x")
        await host.nfs.apply([HOME, other])
        gone, stays = host.client(1, LAPTOP), host.client(2, DESK)
        await host.restarted().revoke(LAPTOP)
        left = granted(host.places.exports.read_text())
        assert left == {("/tank/home", DESK), ("/tank/x", DESK)}
        assert (gone.read_text(), stays.read_text()) == ("expire\n", "")

    async def test_revoking_a_node_that_has_nothing_runs_nothing(self, host: Host) -> None:
        await host.nfs.revoke(LAPTOP)
        assert host.ran() == []

    async def test_a_crash_in_the_middle_forgets_nobody(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        control = host.client(1, LAPTOP)
        host.commands.on("exportfs -f", RuntimeError("power cut"))
        with pytest.raises(RuntimeError):
            await host.nfs.apply([])
        assert control.read_text() == ""
        assert granted(host.places.exports.read_text()) == set()
        host.commands.on("exportfs -f", Result(0))
        host.ran()
        await host.restarted().apply([])
        assert host.ran() == ["exportfs -ra", "exportfs -f"]
        assert control.read_text() == "expire\n"
        assert not host.places.exports.exists()

    async def test_somebody_elses_broken_line_does_not_save_the_one_who_leaves(self, host: Host) -> None:
        await host.nfs.apply([HOME])
        control = host.client(1, LAPTOP)
        host.commands.on("exportfs -ra", Result(1, err="exportfs: /etc/exports:1: syntax error"))
        with pytest.raises(MeshkeepError):
            await host.nfs.revoke(LAPTOP)
        assert control.read_text() == "expire\n"
