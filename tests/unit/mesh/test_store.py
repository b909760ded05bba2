"""The mesh directory: what is there after a crash, who may read it, and versions that never come twice."""

import os
import stat
from dataclasses import replace

import pytest

from mesh.identity import Identity, mesh_id
from mesh.invite import Accept, Invite, Refuse, VaultTerms
from mesh.objects import Admission, Genesis, sign
from mesh.store import (
    VERSION_BLOCK,
    AlreadyThere,
    InsecureFile,
    MeshStore,
    StoreDamaged,
    create_durably,
    public_of,
    write_durably,
)
from mesh.trust import Trust

GENESIS = Identity.from_seed(b"g" * 32)
HOME = Identity.from_seed(b"h" * 32)
ALICE = Identity.from_seed(b"a" * 32).id
BOB = Identity.from_seed(b"b" * 32).id
MESH = mesh_id(GENESIS.public)
INVITE = Invite(b"s" * 16, "vault", 1000, 4600, vault=VaultTerms("tank"))


class PowerCut(BaseException):
    """What a test raises where the power fails."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mesh"


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


class TestWriting:
    @pytest.mark.parametrize("step", ["fsync", "replace", "fchmod"])
    def test_a_power_cut_leaves_the_old_file(self, tmp_path, monkeypatch, step):
        target = tmp_path / "file"
        write_durably(target, b"old", 0o600)

        def fail(*_):
            raise PowerCut

        monkeypatch.setattr(os, step, fail)
        with pytest.raises(PowerCut):
            write_durably(target, b"new", 0o600)
        assert target.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["file"]

    def test_content_then_name_then_directory_become_durable(self, tmp_path, monkeypatch):
        steps, fsync, rename = [], os.fsync, os.replace

        def note_fsync(descriptor):
            steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "content")
            fsync(descriptor)

        def note_rename(old, new):
            steps.append("name")
            rename(old, new)

        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "replace", note_rename)
        write_durably(tmp_path / "file", b"data", 0o640)
        assert steps == ["content", "name", "directory"]
        assert mode(tmp_path / "file") == 0o640

    def test_what_exists_is_not_created_again(self, tmp_path):
        create_durably(tmp_path / "key", b"first")
        with pytest.raises(FileExistsError):
            create_durably(tmp_path / "key", b"second")
        assert (tmp_path / "key").read_bytes() == b"first"
        assert os.listdir(tmp_path) == ["key"]

    def test_leftovers_of_a_power_cut_are_swept(self, path):
        MeshStore(path)
        (path / ".identity.key.0123456789ab").write_bytes(b"half")
        MeshStore(path)
        assert os.listdir(path) == []


class TestKeys:
    def test_they_are_made_once_and_only_for_root(self, path):
        store, again = MeshStore(path), MeshStore(path)
        assert store.identity().public == again.identity().public
        assert store.wireguard_key() == again.wireguard_key()
        assert store.door_key() == again.door_key()
        assert len({store.wireguard_key(), store.door_key()}) == 2
        assert len(public_of(store.door_key())) == 32
        assert mode(path) == 0o700
        assert {mode(path / name) for name in ("identity.key", "wireguard.key", "door.key")} == {0o600}

    def test_one_that_others_can_read_is_not_used(self, path):
        MeshStore(path).identity()
        (path / "identity.key").chmod(0o640)
        with pytest.raises(InsecureFile, match="chmod 600"):
            MeshStore(path).identity()

    @pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"AAAA\n", b"not a key"])
    def test_a_damaged_one_is_neither_used_nor_replaced(self, path, content):
        store = MeshStore(path)
        write_durably(path / "identity.key", content, 0o600)
        with pytest.raises(StoreDamaged, match="is no key"):
            store.identity()
        assert (path / "identity.key").read_bytes() == content


class TestMesh:
    def test_a_host_is_in_one_mesh(self, path):
        store = MeshStore(path)
        assert store.mesh_id() is None
        assert store.load_trust() is None
        store.set_mesh_id(MESH)
        store.set_mesh_id(MESH)
        assert MeshStore(path).mesh_id() == MESH
        with pytest.raises(AlreadyThere):
            store.set_mesh_id(bytes(32))

    def trust(self):
        trust = Trust(MESH)
        trust.add(sign(GENESIS, MESH, Genesis(GENESIS.public, "fog", 1)).data)
        admission = Admission(GENESIS.public, HOME.public, "admin", 1, bytes(8), "home")
        trust.add(sign(GENESIS, MESH, admission).data)
        return trust

    def test_the_mesh_comes_back_from_disk(self, path):
        store = MeshStore(path)
        store.set_mesh_id(MESH)
        store.save_trust(self.trust())
        assert MeshStore(path).load_trust().view() == self.trust().view()

    def test_a_damaged_list_of_objects_is_named_not_half_read(self, path):
        store = MeshStore(path)
        store.set_mesh_id(MESH)
        store.save_trust(self.trust())
        data = (path / "objects.bin").read_bytes()
        for damaged in (
            data[:-1],
            data[:3],
            b"X" + data[1:],
            data + b"\0",
            data[:-1] + bytes([data[-1] ^ 1]),
        ):
            write_durably(path / "objects.bin", damaged)
            with pytest.raises(StoreDamaged, match=r"objects\.bin"):
                store.load_trust()


class TestInvites:
    def test_they_come_back_in_order(self, path):
        store = MeshStore(path)
        other = replace(INVITE, secret=b"t" * 16)
        store.add_invite(INVITE)
        store.add_invite(other)
        assert MeshStore(path).invites() == [INVITE, other]
        assert mode(path / "invites.json") == 0o600

    def test_who_used_it_is_on_disk_before_the_answer(self, path):
        store = MeshStore(path)
        store.add_invite(INVITE)
        verdict = store.redeem(INVITE.id, ALICE, 2000)
        assert isinstance(verdict, Accept)
        assert MeshStore(path).invite(INVITE.id).used_by == ALICE

    def test_if_it_cannot_be_written_there_is_no_answer(self, path, monkeypatch):
        store = MeshStore(path)
        store.add_invite(INVITE)

        def fail(*_):
            raise OSError("no space left")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="no space"):
            store.redeem(INVITE.id, ALICE, 2000)
        monkeypatch.undo()
        assert store.invite(INVITE.id).used_by is None

    def test_of_two_that_redeem_it_one_wins_and_may_again(self, path):
        store = MeshStore(path)
        store.add_invite(INVITE)
        first, second = store.redeem(INVITE.id, ALICE, 2000), store.redeem(INVITE.id, BOB, 2000)
        assert isinstance(first, Accept)
        assert isinstance(second, Refuse)
        assert second.code == "used"
        assert store.redeem(INVITE.id, ALICE, 2001) == first

    def test_a_revoked_or_unknown_one_is_refused(self, path):
        store = MeshStore(path)
        store.add_invite(INVITE)
        assert store.revoke_invite("ffffffff") is None
        store.revoke_invite(INVITE.id)
        assert store.redeem(INVITE.id, ALICE, 2000).code == "revoked"
        assert store.redeem("ffffffff", ALICE, 2000).code == "unknown"

    def test_a_damaged_file_is_named(self, path):
        store = MeshStore(path)
        for content in (b"{", b"[]", b'{"invites": [{}]}'):
            write_durably(path / "invites.json", content)
            with pytest.raises(StoreDamaged, match=r"invites\.json"):
                store.invites()


class TestVersions:
    def test_they_rise_and_none_comes_twice_over_crashes(self, path):
        given = []
        for _ in range(5):
            store = MeshStore(path)
            given += [store.next_version() for _ in range(VERSION_BLOCK + 7)]
        assert given == sorted(set(given))

    def test_most_cost_no_write(self, path, monkeypatch):
        store = MeshStore(path)
        store.next_version()
        monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("a write"))
        for _ in range(VERSION_BLOCK):
            store.next_version()

    def test_they_pass_what_the_mesh_has_seen_of_us(self, path):
        store = MeshStore(path)
        assert store.next_version(above=123456) == 123457
        assert MeshStore(path).next_version() > 123457

    def test_a_damaged_counter_is_named(self, path):
        MeshStore(path)
        write_durably(path / "record.version", b"many")
        with pytest.raises(StoreDamaged, match=r"record\.version"):
            MeshStore(path).next_version()
