"""What peers ask of replicas, parsed strictly: a field that is missing or of the wrong kind refuses the request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mesh.link_errors import Refusal
from zfs.names import InvalidName, check_dataset, check_snapshot

_MAX_64 = (1 << 64) - 1


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
class Offer:
    """One stream that a source announces. `size` is its estimate in bytes, `name` the snapshot's part behind the @."""

    dataset: str
    name: str
    to_guid: int
    from_guid: int | None
    raw: bool
    resuming: bool
    size: int

    @classmethod
    def parse(cls, args: Mapping[str, Any]) -> "Offer":
        """Raises Refusal."""
        dataset = dataset_of(args)
        name = _text(args, "name")
        try:
            check_snapshot(f"{dataset}@{name}")
        except InvalidName as error:
            raise Refusal("bad_name", str(error), "") from error
        size = args.get("size", 0)
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise Refusal("bad_request", "'size' is not a number of bytes", "")
        return cls(
            dataset=dataset,
            name=name,
            to_guid=_guid(args, "to_guid"),
            from_guid=_optional_guid(args, "from_guid"),
            raw=args.get("raw") is True,
            resuming=args.get("resuming") is True,
            size=size,
        )

    def as_json(self) -> dict[str, Any]:
        """The arguments of the request."""
        return {
            "dataset": self.dataset,
            "name": self.name,
            "to_guid": self.to_guid,
            "from_guid": self.from_guid,
            "raw": self.raw,
            "resuming": self.resuming,
            "size": self.size,
        }


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
        if resume is not None and not (
            isinstance(resume, list)
            and len(resume) == 2
            and all(type(n) is int and 0 <= n <= _MAX_64 for n in resume)
        ):
            raise Refusal("bad_request", "'resume' is not [object, offset]", "")
        return cls(
            owner=_text(args, "owner"),
            dataset=dataset_of(args),
            to_guid=_guid(args, "to_guid"),
            from_guid=_optional_guid(args, "from_guid"),
            resume=(resume[0], resume[1]) if resume else None,
        )
