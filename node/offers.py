"""What peers ask of replicas, parsed strictly: a field that is missing or of the wrong kind refuses the request."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from mesh.link_errors import Refusal
from zfs.names import InvalidName, check_dataset, check_snapshot

_MAX_64 = (1 << 64) - 1
MAX_STEPS = 256
"""Steps in one connection; a source of ours announces fewer."""

MAX_STATES = 1000
"""Datasets in one ``replica.states``: with the longest names a sixteenth of a frame."""


def _guid(args: Mapping[str, Any], key: str) -> int:
    value = args.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _MAX_64:
        raise Refusal("bad_request", f"{key!r} is not a snapshot's guid", "")
    return value


def _optional_guid(args: Mapping[str, Any], key: str) -> int | None:
    return None if args.get(key) is None else _guid(args, key)


def _text(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value:
        raise Refusal("bad_request", f"{key!r} is missing", "")
    if not value.isascii():  # no name is; and JSON can say halves of a character that cannot be encoded
        raise Refusal("bad_name", f"{key!r} has letters that no name has", "")
    return value


def dataset_of(args: Mapping[str, Any]) -> str:
    """The dataset a request is about. Raises Refusal."""
    try:
        return check_dataset(_text(args, "dataset"))
    except InvalidName as error:
        raise Refusal("bad_name", str(error), "") from error


@dataclass(frozen=True, slots=True)
class OfferedStep:
    """One stream. `size` is the source's estimate in bytes, `name` the snapshot's part behind the @."""

    name: str
    to_guid: int
    from_guid: int | None
    size: int

    @classmethod
    def parse(cls, dataset: str, args: object) -> "OfferedStep":
        """Raises Refusal."""
        if not isinstance(args, dict):
            raise Refusal("bad_request", "a step is no object", "")
        name = _text(args, "name")
        try:
            check_snapshot(f"{dataset}@{name}")
        except InvalidName as error:
            raise Refusal("bad_name", str(error), "") from error
        size = args.get("size", 0)
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= _MAX_64:
            raise Refusal("bad_request", "'size' is not a number of bytes", "")
        return cls(name, _guid(args, "to_guid"), _optional_guid(args, "from_guid"), size)


@dataclass(frozen=True, slots=True)
class Offer:
    """The streams that a source announces for one connection, each on what the one before it brings.

    `resuming` is said of the first.
    """

    dataset: str
    raw: bool
    resuming: bool
    steps: tuple[OfferedStep, ...]

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> "Offer":
        """Raises Refusal."""
        dataset, told = dataset_of(args), args.get("steps")
        if not isinstance(told, list) or not 0 < len(told) <= MAX_STEPS:
            raise Refusal("bad_request", f"'steps' is not a list of 1 to {MAX_STEPS} steps", "")
        steps = tuple(OfferedStep.parse(dataset, one) for one in told)
        if any(after.from_guid != before.to_guid for before, after in pairwise(steps)):
            raise Refusal("bad_request", "a step does not go on from the one before it", "")
        if len({one.to_guid for one in steps}) < len(steps) or len({one.name for one in steps}) < len(steps):
            raise Refusal("bad_request", "two steps bring the same snapshot", "")
        return cls(dataset, args.get("raw") is True, args.get("resuming") is True, steps)

    @property
    def size(self) -> int:
        """Bytes of all of it, as the source estimates."""
        return sum(step.size for step in self.steps)

    def as_json(self) -> dict[str, Any]:
        """The arguments of the request."""
        return asdict(self) | {"steps": [asdict(step) for step in self.steps]}


def states_asked(args: Mapping[str, Any]) -> dict[str, str | None]:
    """The datasets of ``replica.states``, each with the version that the caller has of it. Raises Refusal."""
    asked = args.get("datasets")
    if not isinstance(asked, dict) or not 0 < len(asked) <= MAX_STATES:
        raise Refusal("bad_request", f"'datasets' does not name 1 to {MAX_STATES} datasets", "")
    if not all(version is None or isinstance(version, str) for version in asked.values()):
        raise Refusal("bad_request", "the version of a dataset is no text", "")
    return asked


@dataclass(frozen=True, slots=True)
class Position:
    """Behind which snapshot (createtxg, guid) of which replica a ``replica.list`` goes on."""

    owner: str
    dataset: str
    snapshot: tuple[int, int]

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> "Position | None":
        """None: from the beginning. Raises Refusal."""
        after = args.get("after")
        if after is None:
            return None
        if not isinstance(after, dict):
            raise Refusal("bad_request", "'after' is no object", "")
        place: Any = after.get("snapshot")
        if not _two_numbers(place):
            raise Refusal("bad_request", "'snapshot' is not [createtxg, guid]", "")
        return cls(_text(after, "owner"), dataset_of(after), (place[0], place[1]))


def _two_numbers(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(type(n) is int and 0 <= n <= _MAX_64 for n in value)
    )


@dataclass(frozen=True, slots=True)
class SendBack:
    """What an owner asks back. `resume` is (object, offset)."""

    owner: str
    dataset: str
    to_guid: int
    from_guid: int | None
    resume: tuple[int, int] | None

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> "SendBack":
        """Raises Refusal."""
        resume = args.get("resume")
        if resume is not None and not _two_numbers(resume):
            raise Refusal("bad_request", "'resume' is not [object, offset]", "")
        return cls(
            owner=_text(args, "owner"),
            dataset=dataset_of(args),
            to_guid=_guid(args, "to_guid"),
            from_guid=_optional_guid(args, "from_guid"),
            resume=(resume[0], resume[1]) if resume else None,
        )
