"""What a transfer worker is told and what it answers. All of it crosses a process border as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from replication.errors import BadJob
from zfs.names import InvalidName, check_snapshot


@dataclass(frozen=True, slots=True)
class SendJob:
    """One stream to make. Full names; `base` is a snapshot or bookmark; `limit` in bytes per second.

    `object` and `offset` go together: where an interrupted stream goes on.
    """

    snapshot: str
    base: str | None
    raw: bool
    object: int | None = None
    offset: int | None = None
    limit: int | None = None

    @property
    def resume(self) -> tuple[int, int] | None:
        """As the door takes it."""
        return None if self.object is None or self.offset is None else (self.object, self.offset)


@dataclass(frozen=True, slots=True)
class ReceiveJob:
    """One stream to take as `snapshot` (full name), and what was announced of it.

    `key_fingerprint` is what the replica is pinned to, None at the first time. `limit` in bytes per second.
    """

    snapshot: str
    raw: bool
    to_guid: int
    from_guid: int | None
    resuming: bool
    key_fingerprint: str | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """`code` is that of a class in `replication.errors`, empty when all of the stream went out."""

    bytes: int
    code: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class ReceiveOutcome:
    """`code` is that of a class in `replication.errors`, empty when the snapshot exists now.

    `begin` is the payload of the BEGIN record in base64 (empty if there is none), `key_fingerprint` that of
    the key material in it; both are given for a refused key too, so that a person can look at what was
    offered.
    """

    bytes: int
    begin: str = ""
    key_fingerprint: str | None = None
    code: str = ""
    text: str = ""


Job = SendJob | ReceiveJob
Outcome = SendOutcome | ReceiveOutcome

_SEND_TYPES: Mapping[str, tuple[type, ...]] = {
    "snapshot": (str,),
    "base": (str, type(None)),
    "raw": (bool,),
    "object": (int, type(None)),
    "offset": (int, type(None)),
    "limit": (int, type(None)),
}
_RECEIVE_TYPES: Mapping[str, tuple[type, ...]] = {
    "snapshot": (str,),
    "raw": (bool,),
    "to_guid": (int,),
    "from_guid": (int, type(None)),
    "resuming": (bool,),
    "key_fingerprint": (str, type(None)),
    "limit": (int, type(None)),
}
_SEND_OUTCOME_TYPES: Mapping[str, tuple[type, ...]] = {"bytes": (int,), "code": (str,), "text": (str,)}
_RECEIVE_OUTCOME_TYPES: Mapping[str, tuple[type, ...]] = {
    **_SEND_OUTCOME_TYPES,
    "begin": (str,),
    "key_fingerprint": (str, type(None)),
}


def send_job(fields: Mapping[str, object]) -> SendJob:
    """Check and build. Raises BadJob."""
    job = SendJob(**_checked(fields, _SEND_TYPES, required=("snapshot", "base", "raw")))
    if (job.object is None) != (job.offset is None):
        raise BadJob("object and offset go together")
    return job


def receive_job(fields: Mapping[str, object]) -> ReceiveJob:
    """Check and build. Raises BadJob."""
    return ReceiveJob(
        **_checked(fields, _RECEIVE_TYPES, required=("snapshot", "raw", "to_guid", "from_guid", "resuming"))
    )


def send_outcome(fields: Mapping[str, object]) -> SendOutcome:
    """Check and build. Raises BadJob."""
    return SendOutcome(**_checked(fields, _SEND_OUTCOME_TYPES, required=("bytes",)))


def receive_outcome(fields: Mapping[str, object]) -> ReceiveOutcome:
    """Check and build. Raises BadJob."""
    return ReceiveOutcome(**_checked(fields, _RECEIVE_OUTCOME_TYPES, required=("bytes",)))


def as_json(value: Job | Outcome) -> dict[str, Any]:
    """The fields by name."""
    return asdict(value)


def _checked(
    fields: Mapping[str, object], types: Mapping[str, tuple[type, ...]], *, required: tuple[str, ...]
) -> dict[str, Any]:
    if unknown := sorted(fields.keys() - types.keys()):
        raise BadJob(f"unknown fields: {', '.join(unknown)}")
    if missing := [name for name in required if name not in fields]:
        raise BadJob(f"missing fields: {', '.join(missing)}")
    for name, value in fields.items():
        if type(value) not in types[name]:
            raise BadJob(f"{name} must not be {value!r}")
    if "snapshot" in types:
        try:
            check_snapshot(str(fields["snapshot"]))
        except InvalidName as error:
            raise BadJob(str(error)) from error
    return dict(fields)
