"""The wrapped keys that replicas arrived under, kept while a snapshot received under them may be wanted.

A raw incremental overwrites the replica's wrapped key (openzfs#12614), so each accepted BEGIN payload is kept: with it
an old wrap can be put back at restore. What is kept is ciphertext; the file says nothing without the passphrase.
"""

import json
from pathlib import Path

from mesh.store import write_durably
from zfs.names import check_dataset


class KeyArchive:
    """One small file a key and dataset, below *root*."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, owner: str, source: str, fingerprint: str) -> Path:
        """Where the wrap of that fingerprint is kept."""
        return self._root / owner / check_dataset(source).replace("/", "%") / f"{fingerprint[:32]}.json"

    def keep(self, owner: str, source: str, fingerprint: str, payload: str) -> None:
        """*payload* is base64. Durable when this returns; the same wrap again changes nothing."""
        path = self.path(owner, source, fingerprint)
        if path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_durably(
            path, json.dumps({"fingerprint": fingerprint, "begin_payload": payload}).encode(), 0o600
        )
