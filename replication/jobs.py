"""What a transfer worker is told and what it answers. All of it crosses a process border as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from replication.errors import BadJob
from zfs.names import InvalidName, check_snapshot

MAX_STEPS = 1000
"""Steps of one job: so many with the longest names fit into a pipe of 1 MiB."""


@dataclass(frozen=True, slots=True)
class SendStep:
    """One stream of one snapshot. Full names; `base` is a snapshot or bookmark, None for a full stream."""

    snapshot: str
    base: str | None


@dataclass(frozen=True, slots=True)
class SendJob:
    """Streams to make, one after the other. `limit` in bytes per second.

    `object` and `offset` go together: where the first step, an interrupted stream, goes on.
    """

    steps: tuple[SendStep, ...]
    raw: bool
    object: int | None = None
    offset: int | None = None
    limit: int | None = None

    @property
    def resume(self) -> tuple[int, int] | None:
        """Of the first step, as the door takes it."""
        return None if self.object is None or self.offset is None else (self.object, self.offset)


@dataclass(frozen=True, slots=True)
class ReceiveStep:
    """One stream to take as `snapshot` (full name), and what was announced of it. Ivset guid None: any will do."""

    snapshot: str
    to_guid: int
    from_guid: int | None
    to_ivset: int | None = None
    from_ivset: int | None = None


@dataclass(frozen=True, slots=True)
class ReceiveJob:
    """Streams to take, one after the other. `resuming` is said of the first. `limit` in bytes per second.

    `key_fingerprint` is what the replica is pinned to; with None the key of the first step is the pin for the others.
    `keys`, unless empty, are the fingerprints of which each must be one.
    """

    steps: tuple[ReceiveStep, ...]
    raw: bool
    resuming: bool
    key_fingerprint: str | None = None
    limit: int | None = None
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Received:
    """The step of this number (from 0) is through: its snapshot exists. The other fields as in `ReceiveOutcome`."""

    number: int
    begin: str = ""
    key_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class SendOutcome:
    """`code` is that of a class in `replication.errors`, empty when all went out; `steps` counts those that did.

    `begin` is the payload of the first BEGIN record in base64, empty if none came or there is none in it.
    """

    bytes: int
    steps: int = 0
    code: str = ""
    text: str = ""
    begin: str = ""


@dataclass(frozen=True, slots=True)
class ReceiveOutcome:
    """`code` is that of a class in `replication.errors`, empty when all snapshots exist now.

    `steps` counts the snapshots that do. `begin` is the payload of the last BEGIN record that was judged, in base64
    (empty if there was none), `key_fingerprint` that of the key material in it; both are given for a refused key too,
    so that a person can look at what was offered.
    """

    bytes: int
    steps: int = 0
    begin: str = ""
    key_fingerprint: str | None = None
    code: str = ""
    text: str = ""


Job = SendJob | ReceiveJob
Outcome = SendOutcome | ReceiveOutcome

Types = Mapping[str, tuple[type, ...]]

_SEND_STEP: Types = {"snapshot": (str,), "base": (str, type(None))}
_RECEIVE_STEP: Types = {
    "snapshot": (str,),
    "to_guid": (int,),
    "from_guid": (int, type(None)),
    "to_ivset": (int, type(None)),
    "from_ivset": (int, type(None)),
}
_SEND: Types = {
    "steps": (list,),
    "raw": (bool,),
    "object": (int, type(None)),
    "offset": (int, type(None)),
    "limit": (int, type(None)),
}
_RECEIVE: Types = {
    "steps": (list,),
    "raw": (bool,),
    "resuming": (bool,),
    "key_fingerprint": (str, type(None)),
    "limit": (int, type(None)),
    "keys": (list,),
}
_SEND_OUTCOME: Types = {"bytes": (int,), "steps": (int,), "code": (str,), "text": (str,), "begin": (str,)}
_RECEIVE_OUTCOME: Types = {**_SEND_OUTCOME, "key_fingerprint": (str, type(None))}
_RECEIVED: Types = {"number": (int,), "begin": (str,), "key_fingerprint": (str, type(None))}


def send_job(fields: Mapping[str, object]) -> SendJob:
    """Check and build. Raises BadJob."""
    checked = _checked(fields, _SEND, required=("steps", "raw"))
    steps = tuple(SendStep(**step) for step in _steps(checked.pop("steps"), _SEND_STEP))
    job = SendJob(steps=steps, **checked)
    if (job.object is None) != (job.offset is None):
        raise BadJob("object and offset go together")
    return job


def receive_job(fields: Mapping[str, object]) -> ReceiveJob:
    """Check and build. Raises BadJob."""
    checked = _checked(fields, _RECEIVE, required=("steps", "raw", "resuming"))
    steps = tuple(ReceiveStep(**step) for step in _steps(checked.pop("steps"), _RECEIVE_STEP))
    keys = tuple(checked.pop("keys", ()))
    if not all(isinstance(key, str) for key in keys):
        raise BadJob("a key is no fingerprint")
    return ReceiveJob(steps=steps, keys=keys, **checked)


def send_outcome(fields: Mapping[str, object]) -> SendOutcome:
    """Check and build. Raises BadJob."""
    return SendOutcome(**_checked(fields, _SEND_OUTCOME, required=("bytes",)))


def receive_outcome(fields: Mapping[str, object]) -> ReceiveOutcome:
    """Check and build. Raises BadJob."""
    return ReceiveOutcome(**_checked(fields, _RECEIVE_OUTCOME, required=("bytes",)))


def received(fields: Mapping[str, object]) -> Received:
    """Check and build. Raises BadJob."""
    return Received(**_checked(fields, _RECEIVED, required=("number",)))


def as_json(value: Job | Outcome | Received) -> dict[str, Any]:
    """The fields by name."""
    return asdict(value)


def _steps(steps: list[object], types: Types) -> list[dict[str, Any]]:
    if not 0 < len(steps) <= MAX_STEPS:
        raise BadJob(f"{len(steps)} steps are none, or more than {MAX_STEPS}")
    return [_step(step, types) for step in steps]


def _step(step: object, types: Types) -> dict[str, Any]:
    if not isinstance(step, Mapping):
        raise BadJob(f"{step!r} is no step")
    checked = _checked(step, types, required=[name for name in types if not name.endswith("_ivset")])
    try:
        check_snapshot(checked["snapshot"])
    except InvalidName as error:
        raise BadJob(str(error)) from error
    return checked


def _checked(fields: Mapping[str, object], types: Types, *, required: Sequence[str]) -> dict[str, Any]:
    if unknown := sorted(fields.keys() - types.keys()):
        raise BadJob(f"unknown fields: {', '.join(unknown)}")
    if missing := [name for name in required if name not in fields]:
        raise BadJob(f"missing fields: {', '.join(missing)}")
    for name, value in fields.items():
        if type(value) not in types[name]:
            raise BadJob(f"{name} must not be {value!r}")
    return dict(fields)
