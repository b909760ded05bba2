"""The wrapped keys that replicas arrived under, kept while a snapshot received under them may be wanted, and those that
were offered instead and wait for a person at this console.

A raw incremental overwrites the replica's wrapped key (openzfs#12614), so each accepted BEGIN payload is kept: with it
an old wrap can be put back at restore. What is kept is ciphertext; the file says nothing without the passphrase.
"""

import asyncio
import base64
import binascii
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mesh.store import write_durably
from zfs.names import check_dataset
from zfs.stream import BadStreamHeader, crypt_payload

log = logging.getLogger(__name__)

PENDING_OF_ONE_OWNER = 256
"""Datasets of one node that may have a key waiting; of more, the one that has waited longest is forgotten."""

MAX_OFFERED = 1 << 14
"""Characters of payload that are kept of what was only offered; a genuine one has about two thousand."""

SHORT = 16
"""Letters of a fingerprint that people compare."""

_PENDING = "pending.json"


@dataclass(frozen=True, slots=True)
class Pending:
    """Another wrapped key that was offered for a replica. `by` is the node that sent it, which may have succeeded the
    `owner`; `pinned` the fingerprint it would replace; `payload` base64; `since` when it first came (epoch seconds).
    """

    owner: str
    dataset: str
    by: str
    pinned: str
    fingerprint: str
    payload: str
    since: int

    @property
    def passphrase(self) -> tuple[int, int] | None:
        """(salt, iterations): the same for an encryption root and those that inherit its key, each of which has a wrap
        of its own. None for a key that is no passphrase: nothing in those wraps says what belongs together.
        """
        try:
            key = crypt_payload(base64.b64decode(self.payload, validate=True))
        except (BadStreamHeader, binascii.Error):
            return None
        return (key.pbkdf2_salt, key.pbkdf2_iterations) if key is not None and key.pbkdf2_salt else None


class KeyArchive:
    """One small file a key and dataset, below *root*, and one for what is pending of a dataset. Whoever pins a key or
    drops wraps holds `turn`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.turn = asyncio.Lock()

    def _folder(self, owner: str, source: str) -> Path:
        return self._root / owner / check_dataset(source).replace("/", "%")

    def path(self, owner: str, source: str, fingerprint: str) -> Path:
        """Where the wrap of that fingerprint is kept."""
        return self._folder(owner, source) / f"{fingerprint[:32]}.json"

    def keep(self, owner: str, source: str, fingerprint: str, payload: str) -> None:
        """*payload* is base64. Durable when this returns; the same wrap again changes nothing."""
        path = self.path(owner, source, fingerprint)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(
            path, json.dumps({"fingerprint": fingerprint, "begin_payload": payload}).encode(), 0o600
        )

    def has(self, owner: str, source: str, fingerprint: str) -> bool:
        """Whether that wrap could be put back."""
        return self.path(owner, source, fingerprint).exists()

    def replicas(self) -> list[tuple[str, str]]:
        """(owner, dataset) of everything that a wrap is archived of."""
        found = (path.relative_to(self._root).parts for path in self._root.glob("*/*") if path.is_dir())
        return sorted((owner, folder.replace("%", "/")) for owner, folder in found)

    def wraps(self, owner: str, source: str) -> list[str]:
        """The fingerprints of the wraps that are kept. A damaged file is left out, and so never dropped."""
        found = []
        for path in self._folder(owner, source).glob("*.json"):
            if path.name != _PENDING and (fingerprint := _fingerprint_in(path)):
                found.append(fingerprint)
        return sorted(found)

    def payload(self, owner: str, source: str, fingerprint: str) -> str | None:
        """The BEGIN payload of that wrap, in base64; None where it is not kept, or damaged."""
        try:
            found = json.loads(self.path(owner, source, fingerprint).read_text())["begin_payload"]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return found if isinstance(found, str) else None

    def drop(self, owner: str, source: str, fingerprint: str) -> None:
        """Nothing that is stored was received under that wrap. It cannot be had again."""
        self.path(owner, source, fingerprint).unlink(missing_ok=True)

    # -- what waits for a person -------------------------------------------------------------------------------

    def offer(self, offered: Pending) -> None:
        """Note it; durable when this returns. The same again changes nothing, another takes its place."""
        if len(offered.payload) > MAX_OFFERED:
            log.warning("the key offered for %s is too large to be one", offered.dataset)
            return
        path = self._folder(offered.owner, offered.dataset) / _PENDING
        known = _read(path)
        if known is not None and (known.fingerprint, known.pinned) == (offered.fingerprint, offered.pinned):
            return
        if not path.exists():
            self._make_room(offered.owner)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(path, json.dumps(asdict(offered)).encode(), 0o600)

    def pending(self) -> list[Pending]:
        """All that waits, by owner and dataset."""
        return sorted(self._pending("*"), key=lambda one: (one.owner, one.dataset))

    def forget(self, owner: str, source: str) -> None:
        """Nothing waits for that dataset any more."""
        (self._folder(owner, source) / _PENDING).unlink(missing_ok=True)

    def _pending(self, owner: str) -> Iterator[Pending]:
        for path in self._root.glob(f"{owner}/*/{_PENDING}"):
            if (found := _read(path)) is not None:
                yield found

    def _make_room(self, owner: str) -> None:
        others = sorted(self._pending(owner), key=lambda one: one.since)
        for one in others[: max(0, len(others) - PENDING_OF_ONE_OWNER + 1)]:
            log.warning("no more room for keys that wait: that of %s is forgotten", one.dataset)
            self.forget(one.owner, one.dataset)


def short(fingerprint: str) -> str:
    """As people see it, and as much of it as they have to type."""
    return fingerprint[:SHORT]


def _fingerprint_in(path: Path) -> str:
    try:
        found = str(json.loads(path.read_text())["fingerprint"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s is damaged, and left as it is: %s", path, error)
        return ""
    return found if path.name == f"{found[:32]}.json" else ""


def _read(path: Path) -> Pending | None:
    try:
        return Pending(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        log.warning("%s is damaged and counts for nothing: %s", path, error)
        return None
