"""The lists of what this node sent, one file a dataset below `folder`. What a target shows is entered, not what it says
of it: every fact comes from the snapshot that is still here, and the key from the record that went out.

A file is JSON lines: the head of what was dropped, then the entries. A line that a power cut left half is cut off; a
file that is otherwise damaged is put aside, and a new list begun. What it had is entered again where it is still here.
"""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mesh.store import sync_directory, write_durably
from node.status import Problem
from replication.ledger import BadLedger, Entry, Head, Ledger, begin, droppable, entry_of, read_head
from zfs import errors
from zfs.door import Zfs
from zfs.model import Snapshot
from zfs.stream import BadStreamHeader, crypt_payload

log = logging.getLogger(__name__)

COMPACT_AT = 1000
"""Entries of one list from which those go that no target holds; half as many stay in any case."""

MOST = 5000
"""Entries of one list. Of more the oldest go, whoever still holds their snapshots: those are unlisted then."""


@dataclass(frozen=True, slots=True)
class _Out:
    """How a snapshot went out; `key` and `bytes` as in `Entry`."""

    name: str
    key: str | None
    bytes: int | None
    raw: bool


class Sent:
    """`changed` is called when a list has grown."""

    def __init__(self, zfs: Zfs, folder: Path, now: Callable[[], float]) -> None:
        self._zfs = zfs
        self._folder = folder
        self._now = now
        self._lists: dict[str, Ledger] = {}
        self._held: dict[tuple[str, str], frozenset[int]] = {}
        self._out: dict[str, dict[int, _Out]] = {}
        self._damaged: dict[str, str] = {}
        self._failed: dict[str, str] = {}
        self._torn: set[str] = set()
        self._all_read = False
        self.changed: Callable[[], None] = lambda: None

    # -- entering ----------------------------------------------------------------------------------------------

    async def went_out(
        self, dataset: str, streams: Mapping[int, str], begin_payload: str, size: int | None
    ) -> None:
        """Streams of the snapshots with these guids were sent under these names, one after the other: how the first of
        them began (base64), and how many bytes they had together (None: it broke off). It outlives the agent.
        """
        key = None
        with contextlib.suppress(BadStreamHeader, ValueError):
            material = crypt_payload(b64decode(begin_payload, validate=True))
            key = material.fingerprint() if material is not None else None
        bytes_of_each = size if len(streams) == 1 else None
        out = self._out_of(dataset)
        out.update(
            {guid: _Out(name, key, bytes_of_each, raw=key is not None) for guid, name in streams.items()}
        )
        try:
            await asyncio.to_thread(self._write_out, dataset, dict(out))
        except OSError as error:
            log.warning("what went out of %s is not noted: %s", dataset, error)
            self._failed[dataset] = str(error)

    async def shown(
        self,
        dataset: str,
        target: str,
        here: Sequence[Snapshot],
        there: Iterable[tuple[int, str]],
        *,
        encrypted: bool,
        claimed: bool,
    ) -> None:
        """*target* (a node id) shows these (guid, name): what is also *here*, or was when it went out, is entered once.

        A name is the one that it was sent under, or has here; what is shown under another is not entered. What cannot
        be entered is told and tried at the next look: it never holds replication up. What nobody saw go out is entered
        only where what is here is *encrypted* as the target *claimed* that what it has is.
        """
        shown = dict(there)
        self._held[dataset, target] = frozenset(shown)
        try:
            await self._enter(
                dataset, target, [one for one in here if one.guid in shown], shown, encrypted, claimed
            )
        except (errors.ZfsError, OSError) as error:
            log.warning("what was sent of %s is not listed: %s", dataset, error)
            self._failed[dataset] = str(error)
        else:
            self._failed.pop(dataset, None)

    async def _enter(
        self,
        dataset: str,
        target: str,
        both: Sequence[Snapshot],
        shown: Mapping[int, str],
        encrypted: bool,
        claimed: bool,
    ) -> None:
        out = self._out_of(dataset)
        known = self.ledger(dataset) or begin(dataset)
        found = [(one, out.get(one.guid, _Out(one.name, None, None, raw=encrypted))) for one in both]
        new = [
            (one, went)
            for one, went in sorted(found, key=lambda pair: pair[0].createtxg)
            if went.name == shown[one.guid]
            and (one.guid in out or (encrypted == claimed and not known.lists(one.guid, went.name, went.raw)))
        ]
        if not new:
            return
        ivsets = await self._zfs.ivset_guids(dataset) if encrypted else {}
        now, entries = int(self._now()), []
        for one, went in new:
            ivset = ivsets.get(one.name) if went.raw else None
            if went.raw and ivset is None:
                continue  # older than the property, or gone: it cannot be vouched for
            entries.append(Entry(one.guid, went.name, one.creation, ivset, went.key, went.bytes, target, now))
        known = self.ledger(dataset) or begin(dataset)  # another target may have shown it meanwhile
        told = _telling(known, entries)
        if told:
            self._append(known, told)
        gone = [one.guid for one, went in new if out.get(one.guid) is went]
        if gone:
            for guid in gone:
                del out[guid]
            await asyncio.to_thread(self._write_out, dataset, dict(out))

    def _out_of(self, dataset: str) -> dict[int, _Out]:
        """What went out and was not shown yet, also by an agent before this one."""
        if dataset not in self._out:
            try:
                raw = json.loads(self._out_path(dataset).read_bytes())
                self._out[dataset] = {int(guid): _Out(**fields) for guid, fields in raw.items()}
            except FileNotFoundError:
                self._out[dataset] = {}
            except (ValueError, TypeError, AttributeError) as error:
                log.warning("what went out of %s was noted and cannot be read: %s", dataset, error)
                self._out[dataset] = {}
        return self._out[dataset]

    def _write_out(self, dataset: str, out: Mapping[int, _Out]) -> None:
        path = self._out_path(dataset)
        if not out:
            path.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, _line({str(guid): asdict(one) for guid, one in out.items()}))

    def _out_path(self, dataset: str) -> Path:
        return self._path(dataset).with_suffix(".out")

    def _append(self, known: Ledger, entries: Sequence[Entry]) -> None:
        grown = known.added(entries)
        kept = self._compacted(grown)
        path = self._path(known.dataset)
        if kept is not grown or not path.exists() or known.dataset in self._torn:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_durably(path, _whole(kept))
        else:
            self._torn.add(known.dataset)  # a disk that is full takes half a line
            with path.open("ab") as file:
                file.write(b"".join(_line(asdict(entry)) for entry in entries))
                file.flush()
                os.fsync(file.fileno())
        self._torn.discard(known.dataset)
        self._lists[known.dataset] = kept
        self.changed()

    def _compacted(self, ledger: Ledger) -> Ledger:
        if len(ledger.entries) <= COMPACT_AT:
            return ledger
        targets = {entry.target for entry in ledger.entries}
        held = [guids for (dataset, _), guids in self._held.items() if dataset == ledger.dataset]
        seen = {target for dataset, target in self._held if dataset == ledger.dataset}
        gone = droppable(ledger, frozenset().union(*held), keep=COMPACT_AT // 2) if targets <= seen else 0
        gone = max(gone, len(ledger.entries) - MOST)
        return ledger.without(gone) if gone > 0 else ledger

    # -- reading -----------------------------------------------------------------------------------------------

    def ledger(self, dataset: str) -> Ledger | None:
        """The list of *dataset*, or None where nothing of it was ever sent."""
        if dataset not in self._lists:
            found = self._read(self._path(dataset))
            if found is not None:
                self._lists[dataset] = found
        return self._lists.get(dataset)

    def ledgers(self) -> Mapping[str, Ledger]:
        """All lists by dataset."""
        if not self._all_read:
            for path in sorted(self._folder.glob("*.jsonl")):
                found = self._read(path)
                if found is not None:
                    self._lists.setdefault(found.dataset, found)
            self._all_read = True
        return dict(self._lists)

    def heads(self) -> dict[str, Head]:
        """What names each list as it is now."""
        return {dataset: ledger.head for dataset, ledger in self.ledgers().items()}

    def problems(self) -> list[Problem]:
        """Lists that had to be begun anew, and that do not grow."""
        found = [
            Problem("sent_damaged", f"{path} was damaged, and the list begun anew: {why}")
            for path, why in sorted(self._damaged.items())
        ]
        return found + [
            Problem("sent_not_listed", f"what was sent of {dataset} could not be listed: {why}")
            for dataset, why in sorted(self._failed.items())
        ]

    def _path(self, dataset: str) -> Path:
        name = hashlib.blake2b(dataset.encode(), digest_size=16, person=b"mk-sent-file").hexdigest()
        return self._folder / f"{name}.jsonl"

    def _read(self, path: Path) -> Ledger | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        whole, _, half = data.rpartition(b"\n")
        try:
            ledger = _parsed(whole)
        except BadLedger as error:
            aside = path.with_suffix(".damaged")
            log.error("%s is damaged and was put aside as %s: %s", path, aside.name, error)
            path.replace(aside)
            sync_directory(path.parent)
            self._damaged[str(aside)] = str(error)
            return None
        if half:
            write_durably(path, whole + b"\n")
        return ledger


def _telling(known: Ledger, entries: Sequence[Entry]) -> list[Entry]:
    """Those of *entries* that the list does not have in that form, and of every key that is new the last."""
    told = [one for one in entries if not known.has(one)]
    keys = known.keys | {one.key for one in told}
    again = {one.key: one for one in entries if one.key is not None and one.key not in keys}
    return told + list(again.values())


def _parsed(data: bytes) -> Ledger:
    """Raises BadLedger."""
    try:
        lines: list[Any] = [json.loads(line) for line in data.splitlines()]
        first = dict(lines[0])
        dataset = str(first.pop("dataset"))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise BadLedger(f"it is no list: {error}") from error
    return Ledger(dataset, read_head(first)).added(entry_of(line, dataset) for line in lines[1:])


def _whole(ledger: Ledger) -> bytes:
    head = _line({"dataset": ledger.dataset, **asdict(ledger.dropped)})
    return head + b"".join(_line(asdict(entry)) for entry in ledger.entries)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
