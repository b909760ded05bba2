"""The signed list of what lies in a seed: which streams, of which snapshots, by whom. One encoding; pure but for keys.

INDEX     = body (one line of JSON) "\\n" signature (base64) "\\n"
signature = Ed25519 by the owner over "meshkeep-seed1\\0" | mesh id | body
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from mesh.identity import Identity, node_id, verify
from zfs.names import check_dataset, check_snapshot

FORMAT = "meshkeep-seed/1"
INDEX = "index.seed"
MAX_INDEX = 32 << 20
MAX_STREAMS = 50_000
_DOMAIN = b"meshkeep-seed1\0"
_FILE = re.compile(r"[0-9]{6}-[0-9a-f]{16}\.zfs")
_MAX_64 = (1 << 64) - 1


class BadIndex(ValueError):
    """It is no index, or nobody's whom it names; the text says why."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One stream, in a file of that name: bytes, digest in hex, and the fingerprint of the wrapped key or ""."""

    file: str
    name: str
    to_guid: int
    from_guid: int | None
    creation: int
    size: int
    sha256: str
    key: str


@dataclass(frozen=True, slots=True)
class Index:
    """`public` is the Ed25519 key of the owner, `made` in epoch seconds; `pieces` in the order to receive them.

    `whole` is false while the export goes on.
    """

    public: bytes
    dataset: str
    raw: bool
    made: int
    whole: bool
    pieces: tuple[Piece, ...] = ()

    @property
    def owner(self) -> str:
        """The node id."""
        return node_id(self.public)

    def with_piece(self, piece: Piece) -> "Index":
        return replace(self, pieces=(*self.pieces, piece))


def file_name(number: int, guid: int) -> str:
    """Of the stream with that place and guid."""
    return f"{number:06d}-{guid:016x}.zfs"


def dump(index: Index, owner: Identity, mesh: bytes) -> bytes:
    """Signed by *owner*, whose public key must stand in it."""
    values = asdict(index) | {"format": FORMAT, "public": index.public.hex()}
    body = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    return body + b"\n" + base64.b64encode(owner.sign(_DOMAIN + mesh + body)) + b"\n"


def load(data: bytes, mesh: bytes) -> Index:
    """Raises BadIndex. That it is signed by the key in it says nothing of whose key that is."""
    lines = data.split(b"\n")
    if len(data) > MAX_INDEX or len(lines) != 3 or lines[2]:
        raise BadIndex("it is no index of a seed")
    try:
        values, signature = json.loads(lines[0]), base64.b64decode(lines[1], validate=True)
    except (ValueError, binascii.Error) as error:
        raise BadIndex("it is no index of a seed") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise BadIndex(f"it is not of the form {FORMAT}")
    index = _index(values)
    if not verify(index.public, _DOMAIN + mesh + lines[0], signature):
        raise BadIndex("its signature is not right: it was altered, or made in another mesh")
    _check_chain(index)
    return index


def _index(values: Mapping[str, Any]) -> Index:
    try:
        public = bytes.fromhex(_text(values, "public"))
        dataset = check_dataset(_text(values, "dataset"))
        listed = values["pieces"]
        if not isinstance(listed, list) or len(listed) > MAX_STREAMS or len(public) != 32:
            raise BadIndex("it is not of its form")
        pieces = tuple(_piece(dataset, one) for one in listed)
        raw, whole = values["raw"], values["whole"]
        if type(raw) is not bool or type(whole) is not bool:
            raise BadIndex("it is not of its form")
        return Index(public, dataset, raw, _number(values, "made"), whole, pieces)
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, BadIndex) else BadIndex(f"it is not of its form: {error}") from error


def _piece(dataset: str, values: Any) -> Piece:
    if not isinstance(values, dict):
        raise BadIndex("a stream is no object")
    file, name, sums = _text(values, "file"), _text(values, "name"), _text(values, "sha256")
    check_snapshot(f"{dataset}@{name}")
    if not _FILE.fullmatch(file) or not re.fullmatch(r"[0-9a-f]{64}", sums):
        raise BadIndex(f"the stream of @{name} is not of its form")
    base = None if values["from_guid"] is None else _number(values, "from_guid")
    return Piece(
        file,
        name,
        _number(values, "to_guid"),
        base,
        _number(values, "creation"),
        _number(values, "size"),
        sums,
        _text(values, "key", empty=True),
    )


def _check_chain(index: Index) -> None:
    """Each stream but the first begins where the one before it ended."""
    for before, after in pairwise(index.pieces):
        if after.from_guid != before.to_guid:
            raise BadIndex(f"@{after.name} does not follow on @{before.name}")
    if len({one.file for one in index.pieces}) != len(index.pieces):
        raise BadIndex("one file is named twice")


def _text(values: Mapping[str, Any], key: str, *, empty: bool = False) -> str:
    value = values[key]
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not (value or empty):
        raise BadIndex(f"{key!r} is no text")
    return value


def _number(values: Mapping[str, Any], key: str) -> int:
    value = values[key]
    if type(value) is not int or not 0 <= value <= _MAX_64:
        raise BadIndex(f"{key!r} is no number")
    return value
