"""The mesh directory on disk: keys, signed objects, invites, the record version. One owner: the agent.

Everything is written by `write_durably`: after a crash there is the old file or the new one, never a half.
"""

import contextlib
import json
import os
import secrets
import stat
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import nacl.utils

from mesh.codec import Malformed, from_base64, to_base64
from mesh.identity import Identity, Random, wireguard_private, wireguard_public
from mesh.invite import Accept, Invite, Refuse, judge
from mesh.trust import Rejected, Trust

DEFAULT = Path("/var/lib/meshkeep/mesh")
VERSION_BLOCK = 1000
_MAGIC = b"MKOBJ1\n\0"


class StoreError(Exception):
    """The mesh directory cannot be used as it is; the text says which file and why. Nothing was changed."""


class StoreDamaged(StoreError):
    """A file of the mesh directory does not hold what it should. It was left as it is."""


class InsecureFile(StoreError):
    """A secret file can be read or written by others. It was not used."""


class AlreadyThere(StoreError):
    """This host is in a mesh already. Nothing was changed."""


def write_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace *path* atomically; durable when this returns. Raises OSError; then the old file stays."""
    temporary = _write_beside(path, data, mode)
    try:
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def create_durably(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Like `write_durably`, but raises FileExistsError if there is anything at *path*, and leaves it."""
    temporary = _write_beside(path, data, mode)
    try:
        os.link(temporary, path)  # unlike rename, refuses to replace
    finally:
        temporary.unlink(missing_ok=True)
    sync_directory(path.parent)


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    descriptor = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class MeshStore:
    """The directory, made 0700 if it is missing. Methods block: run them in a thread where that matters."""

    def __init__(self, path: Path = DEFAULT, random: Random = nacl.utils.random) -> None:
        self.path = path
        self._random = random
        self._next_version: int | None = None
        self._reserved = 0
        if not path.exists():
            path.mkdir(mode=0o700, parents=True)
            sync_directory(path.parent)
        for leftover in path.glob(".*.????????????"):  # of a write that a crash cut short
            leftover.unlink()

    def mesh_id(self) -> bytes | None:
        """The mesh that this host is in, or None."""
        data = self._read("mesh.id")
        if data is None:
            return None
        with contextlib.suppress(ValueError):
            if len(mesh := bytes.fromhex(data.decode().strip())) == 32:
                return mesh
        raise StoreDamaged(f"{self.path / 'mesh.id'} is no mesh id")

    def set_mesh_id(self, mesh: bytes) -> None:
        """Enter a mesh, once. Raises AlreadyThere if this host is in another one."""
        try:
            create_durably(self.path / "mesh.id", mesh.hex().encode() + b"\n")
        except FileExistsError:
            if self.mesh_id() != mesh:
                raise AlreadyThere(f"{self.path} belongs to another mesh") from None

    def identity(self) -> Identity:
        """The node's identity; made at the first call. Raises InsecureFile or StoreDamaged."""
        seed = self._key("identity.key", lambda: to_base64(self._random(32)))
        return Identity.from_seed(from_base64(seed))

    def wireguard_key(self) -> str:
        """The private key of the mesh's device, base64; made at the first call. Raises as `identity`."""
        return self._key("wireguard.key", lambda: wireguard_private(self._random))

    def door_key(self) -> str:
        """The private key of the door, base64; made at the first call. Raises as `identity`."""
        return self._key("door.key", lambda: wireguard_private(self._random))

    def save_objects(self, objects: Iterable[bytes]) -> None:
        """Replace all stored objects."""
        frames = (len(data).to_bytes(4, "big") + data for data in objects)
        write_durably(self.path / "objects.bin", _MAGIC + b"".join(frames))

    def load_objects(self) -> list[bytes]:
        """The stored objects, unverified. Raises StoreDamaged."""
        data = self._read("objects.bin")
        if data is None:
            return []
        objects, at = [], len(_MAGIC)
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            objects.append(data[at + 4 : at + 4 + size])
            at += 4 + size
        if data[: len(_MAGIC)] != _MAGIC or at != len(data):
            raise StoreDamaged(f"{self.path / 'objects.bin'} is cut short or no list of objects")
        return objects

    def save_trust(self, trust: Trust) -> None:
        """Replace all stored objects by those of *trust*."""
        self.save_objects(item.data for item in trust.all_signed())

    def load_trust(self) -> Trust | None:
        """The mesh as it was last known, each object verified again; None if this host is in no mesh."""
        mesh = self.mesh_id()
        if mesh is None:
            return None
        trust = Trust(mesh)
        for data in self.load_objects():
            if isinstance(outcome := trust.add(data), Rejected):
                raise StoreDamaged(f"{self.path / 'objects.bin'}: {outcome.reason}")
        return trust

    def invites(self) -> list[Invite]:
        """All invites, oldest first. Raises StoreDamaged."""
        data = self._read("invites.json", secret=True)
        if data is None:
            return []
        try:
            return [Invite.from_json(raw) for raw in json.loads(data)["invites"]]
        except (ValueError, KeyError, TypeError, Malformed) as error:
            raise StoreDamaged(f"{self.path / 'invites.json'}: {error}") from error

    def invite(self, id: str) -> Invite | None:
        """The invite of that id."""
        return next((invite for invite in self.invites() if invite.id == id), None)

    def save_invites(self, invites: Iterable[Invite]) -> None:
        """Replace all invites."""
        raw = {"invites": [invite.to_json() for invite in invites]}
        write_durably(self.path / "invites.json", json.dumps(raw, indent=1).encode())

    def add_invite(self, invite: Invite) -> None:
        """Store a new invite, or a changed one in the place of the old."""
        invites = {old.id: old for old in self.invites()}
        self.save_invites({**invites, invite.id: invite}.values())

    def revoke_invite(self, id: str) -> Invite | None:
        """Mark it revoked; None if there is no such invite."""
        invite = self.invite(id)
        if invite is None:
            return None
        revoked = replace(invite, revoked=True)
        self.add_invite(revoked)
        return revoked

    def redeem(self, id: str, node: str, now: int) -> Accept | Refuse:
        """Judge, and if accepted have `used_by` on disk before this returns. Not to be run twice at once."""
        before = self.invite(id)
        verdict = judge(before, node, now)
        if isinstance(verdict, Accept) and verdict.invite != before:
            self.add_invite(verdict.invite)
        return verdict

    def next_version(self, above: int = 0) -> int:
        """A record version higher than any given out before, over crashes too, and than *above*.

        Versions are reserved on disk in blocks, so after a crash some are skipped and none comes twice.
        """
        if self._next_version is None:
            self._next_version = self._reserved = self._stored_version()
        self._next_version = max(self._next_version, above) + 1
        if self._next_version > self._reserved:
            self._reserved = self._next_version + VERSION_BLOCK
            write_durably(self.path / "record.version", f"{self._reserved}\n".encode())
        return self._next_version

    def _stored_version(self) -> int:
        data = self._read("record.version")
        try:
            return int(data or b"0")
        except ValueError as error:
            raise StoreDamaged(f"{self.path / 'record.version'} is no number") from error

    def _key(self, name: str, make: Callable[[], str]) -> str:
        if not (self.path / name).exists():
            create_durably(self.path / name, make().encode() + b"\n")
        data = self._read(name, secret=True) or b""
        try:
            text = data.decode().strip()
            if len(from_base64(text)) == 32:
                return text
        except ValueError:
            pass  # told below, without a word of what is in the file
        raise StoreDamaged(f"{self.path / name} is no key")

    def _read(self, name: str, *, secret: bool = False) -> bytes | None:
        path = self.path / name
        try:
            with path.open("rb") as file:
                if secret and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                    raise InsecureFile(f"{path} is open to others; chmod 600 {path}")
                return file.read()
        except FileNotFoundError:
            return None


def public_of(private: str) -> bytes:
    """The 32-byte public key of a stored WireGuard key."""
    return from_base64(wireguard_public(private))
