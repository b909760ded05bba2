"""What the streams do not carry: properties set on datasets, encryption roots, the configuration's files, and the lists
of what was sent, by which what comes back is checked.

A manifest is a value and one canonical encoding of it (compressed JSON, keys and lists in order): `decode` takes what
`encode` would write and nothing else. Every table is bounded, since what is decoded lay with nodes that may do
anything to it. Signing and sealing is done elsewhere.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from replication import ledger
from replication.ledger import BadLedger, Ledger
from zfs.names import InvalidName, check_dataset

VERSION = 2
_WITHOUT_LISTS = 1
MAX_ENCODED = 160 * 1024
MAX_PLAIN = 4 * 1024 * 1024
MAX_DATASETS = 2000
MAX_PROPERTIES = 200
MAX_VALUE = 8191
MAX_FILES = 64
MAX_TEXT = 256 * 1024
_PROPERTY = re.compile(r"[a-z0-9][a-z0-9:+._-]{0,254}")
_FILE = re.compile(r"meshkeep\.toml|conf\.d/[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.toml")
_ID = re.compile(r"[a-z2-7]{16}")
_NAME = re.compile(r"[A-Za-z0-9._-]{0,255}")


class BadManifest(ValueError):
    """These bytes or values are no manifest; the text says why. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """One replicated dataset as it was at home. `properties` are those set on it itself, by name."""

    name: str
    kind: str
    encryption_root: str | None
    mountpoint: str | None
    properties: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What one node says of itself. `owner` is its id, `made` in epoch seconds, `files` texts by their path.

    `sent` are the lists of what it sent. One without them is as it was before there were any, and read by whoever
    knows none.
    """

    owner: str
    node: str
    hostname: str
    made: int
    datasets: tuple[DatasetFacts, ...]
    files: Mapping[str, str]
    sent: tuple[Ledger, ...] = ()

    def facts(self, dataset: str) -> DatasetFacts | None:
        """What it says of *dataset*."""
        return next((one for one in self.datasets if one.name == dataset), None)


def encode(manifest: Manifest) -> bytes:
    """The one form of *manifest*. Raises BadManifest for one that does not fit its bounds."""
    _check(manifest)
    plain = _plain(manifest)
    if len(plain) > MAX_PLAIN:
        raise BadManifest(f"it has {len(plain)} bytes where at most {MAX_PLAIN} belong")
    data = zlib.compress(plain, 9)
    if len(data) > MAX_ENCODED:
        raise BadManifest(f"it has {len(data)} bytes where at most {MAX_ENCODED} belong")
    return data


def fitted(manifest: Manifest) -> Manifest:
    """Itself with as much of its lists as there is room for: of each the newest entries. Raises BadManifest."""
    most = max((len(one.entries) for one in manifest.sent), default=0)
    while True:
        tried = replace(manifest, sent=ledger.trimmed(manifest.sent, most))
        try:
            encode(tried)
            return tried
        except BadManifest:
            if most == 0:
                return replace(manifest, sent=())
            most //= 2


def decode(data: bytes) -> Manifest:
    """The inverse of `encode`. Raises BadManifest for everything else."""
    plain = _inflated(data)
    try:
        raw = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise BadManifest("it is not JSON") from error
    if not isinstance(raw, dict) or type(raw.get("version")) is not int:
        raise BadManifest("it has no version")
    if raw["version"] not in (VERSION, _WITHOUT_LISTS):
        raise BadManifest(f"version {raw['version']} is not known here")
    manifest = _read(raw)
    _check(manifest)
    if _plain(manifest) != plain:
        raise BadManifest("it is not in its one form")
    return manifest


def digest(manifest: Manifest) -> str:
    """The same for two that say the same, whenever they were made."""
    return hashlib.blake2b(_plain(replace(manifest, made=0)), digest_size=16).hexdigest()


def _plain(manifest: Manifest) -> bytes:
    raw: dict[str, Any] = {
        "version": VERSION if manifest.sent else _WITHOUT_LISTS,
        "owner": manifest.owner,
        "node": manifest.node,
        "hostname": manifest.hostname,
        "made": manifest.made,
        "datasets": [
            {
                "name": one.name,
                "kind": one.kind,
                "encryption_root": one.encryption_root,
                "mountpoint": one.mountpoint,
                "properties": dict(one.properties),
            }
            for one in sorted(manifest.datasets, key=lambda one: one.name)
        ],
        "files": dict(manifest.files),
    }
    if manifest.sent:
        raw["sent"] = [ledger.as_json(one) for one in sorted(manifest.sent, key=lambda one: one.dataset)]
    return json.dumps(raw, sort_keys=True, separators=(",", ":")).encode("ascii")


def _inflated(data: bytes) -> bytes:
    if len(data) > MAX_ENCODED:
        raise BadManifest(f"it has {len(data)} bytes where at most {MAX_ENCODED} belong")
    machine = zlib.decompressobj()
    try:
        plain = machine.decompress(data, MAX_PLAIN + 1)
    except zlib.error as error:
        raise BadManifest("it is not compressed as it should be") from error
    if len(plain) > MAX_PLAIN or not machine.eof or machine.unused_data:
        raise BadManifest("it is too long, cut, or something follows it")
    return plain


def _read(raw: Mapping[str, Any]) -> Manifest:
    return Manifest(
        owner=_text(raw, "owner"),
        node=_text(raw, "node"),
        hostname=_text(raw, "hostname"),
        made=_number(raw, "made"),
        datasets=tuple(_facts(one) for one in _list(raw, "datasets")),
        files=_texts(raw, "files"),
        sent=tuple(_ledger(one) for one in _list(raw, "sent")) if "sent" in raw else (),
    )


def _ledger(raw: Any) -> Ledger:
    try:
        return ledger.read(raw)
    except BadLedger as error:
        raise BadManifest(str(error)) from error


def _facts(raw: Any) -> DatasetFacts:
    if not isinstance(raw, dict):
        raise BadManifest("a dataset is no object")
    return DatasetFacts(
        name=_text(raw, "name"),
        kind=_text(raw, "kind"),
        encryption_root=_text(raw, "encryption_root") if raw.get("encryption_root") is not None else None,
        mountpoint=_text(raw, "mountpoint") if raw.get("mountpoint") is not None else None,
        properties=_texts(raw, "properties"),
    )


def _check(manifest: Manifest) -> None:
    """The bounds, for what is written and what is read alike."""
    if not _ID.fullmatch(manifest.owner):
        raise BadManifest(f"{manifest.owner!r} is no node id")
    for name in (manifest.node, manifest.hostname):
        if not _NAME.fullmatch(name):
            raise BadManifest(f"{name!r} is no name")
    if not 0 <= manifest.made < 1 << 40:
        raise BadManifest(f"{manifest.made} is no time")
    if len(manifest.datasets) > MAX_DATASETS or len(manifest.files) > MAX_FILES:
        raise BadManifest(f"{len(manifest.datasets)} datasets, {len(manifest.files)} files")
    if len({one.name for one in manifest.datasets}) != len(manifest.datasets):
        raise BadManifest("one dataset is there twice")
    if len({one.dataset for one in manifest.sent}) != len(manifest.sent) or len(manifest.sent) > MAX_DATASETS:
        raise BadManifest("lists of what was sent: one twice, or too many")
    for one in manifest.datasets:
        _check_facts(one)
    for path, text in manifest.files.items():
        if not _FILE.fullmatch(path) or len(text) > MAX_TEXT or "\0" in text:
            raise BadManifest(f"{path!r} is no file of the configuration, or too long")


def _check_facts(facts: DatasetFacts) -> None:
    try:
        for name in (facts.name, facts.encryption_root):
            if name is not None:
                check_dataset(name)
    except InvalidName as error:
        raise BadManifest(str(error)) from error
    if facts.kind not in ("filesystem", "volume"):
        raise BadManifest(f"{facts.name} is of no kind")
    if len(facts.properties) > MAX_PROPERTIES:
        raise BadManifest(f"{facts.name} has {len(facts.properties)} properties")
    for name, value in facts.properties.items():
        if not _PROPERTY.fullmatch(name) or len(value) > MAX_VALUE or "\0" in value:
            raise BadManifest(f"{facts.name}: {name!r} is no property, or its value is too long")
    if facts.mountpoint is not None and (len(facts.mountpoint) > MAX_VALUE or "\0" in facts.mountpoint):
        raise BadManifest(f"{facts.name}: its mountpoint is none")


def _list(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key)
    if not isinstance(value, list):
        raise BadManifest(f"{key!r} is no list")
    return value


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw.get(key)
    if not isinstance(value, str):
        raise BadManifest(f"{key!r} is no text")
    return value


def _texts(raw: Mapping[str, Any], key: str) -> dict[str, str]:
    value = raw.get(key)
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise BadManifest(f"{key!r} is no table of texts")
    return value


def _number(raw: Mapping[str, Any], key: str) -> int:
    value = raw.get(key)
    if type(value) is not int:
        raise BadManifest(f"{key!r} is no number")
    return value
