"""What a target tells of a replica: its snapshots with their receipts, and by which word that list is known again."""

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from mesh.link_errors import Refusal
from replication.errors import of_zfs
from zfs.errors import ZfsError
from zfs.model import Look, ResumeState, Snapshot


def with_receipts(look: Look) -> list[dict[str, Any]]:
    """All of it, oldest first."""
    return [
        {
            "name": one.name,
            "guid": one.guid,
            "createtxg": one.createtxg,
            "creation": one.creation,
            "received": int(look.notes.get(one.name, "0")),
        }
        for one in look.snapshots
    ]


def resume_as_json(resume: ResumeState | None) -> dict[str, Any] | None:
    """What a source may know of a partial stream: guids and position, never the token."""
    if resume is None:
        return None
    return {
        "to_guid": resume.to_guid,
        "from_guid": resume.from_guid,
        "to_name": resume.to_name.partition("@")[2],
        "object": resume.object,
        "offset": resume.offset,
        "bytes": resume.bytes,
        "raw": resume.raw,
    }


class Versions:
    """A short word for each list of snapshots, made once for a look that is remembered. Another list has another."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[Snapshot, ...], Mapping[str, str], str]] = {}

    def of(self, look: Look) -> str:
        known = self._known.get(look.dataset.name)
        if known is not None and known[0] is look.snapshots and known[1] is look.notes:
            return known[2]
        version = blake2b(json.dumps(with_receipts(look)).encode(), digest_size=12).hexdigest()
        self._known[look.dataset.name] = (look.snapshots, look.notes, version)
        return version


def error_as_json(error: Refusal | ZfsError) -> dict[str, Any]:
    """As a frame has it."""
    if isinstance(error, ZfsError):
        return {"code": of_zfs(error).code, "text": str(error), "try": "", "exit": 1}
    return {"code": error.code, "text": error.text, "try": error.hint, "exit": error.exit}


def too_long(source: str) -> Refusal:
    """For a replica whose list would not fit into an answer."""
    return Refusal(
        "too_many_snapshots",
        f"more snapshots are stored of {source} than can be told of in one answer",
        "keep fewer: meshkeep vault keep",
    )
