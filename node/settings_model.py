"""The shape of the configuration as pydantic models: which sections and keys there are, and their ranges.

Meaning and defaults are in `node.settings` and `policy.rules`; here an absent key is just absent.
"""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from node.quantities import parse_duration, parse_rate
from zfs.names import check_dataset

_NODE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_DOMAIN = re.compile(rf"{_NODE.pattern}(?:\.{_NODE.pattern})*")
_ENDPOINT = re.compile(r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+):(\d{1,5})")


def _node(text: str) -> str:
    if not _NODE.fullmatch(text):
        raise ValueError(f'"{text}" is no node name: small letters, digits and dashes, at most 32')
    return text


def _domain(text: str) -> str:
    if not _DOMAIN.fullmatch(text):
        raise ValueError(f'"{text}" is no domain; write it like "mesh" or "home.internal"')
    return text


def _endpoint(text: str) -> str:
    match = _ENDPOINT.fullmatch(text)
    if not match or not 0 < int(match[1]) < 65536:
        raise ValueError(
            f'"{text}" is no endpoint; write it like "203.0.113.7:51820" or "[2001:db8::7]:51820"'
        )
    return text


def _tick(seconds: int) -> int:
    if not 10 <= seconds <= 3600:
        raise ValueError("must be from 10s to 1h")
    return seconds


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _user(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise ValueError("must be a user's name or a uid")
    if isinstance(value, int) and not 0 < value < 2**32 - 1:
        raise ValueError(f"{value} is no uid that can be mapped to")
    return value


def _parsed(parse: Callable[[str], int]) -> BeforeValidator:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be in quotes, with a unit")
        return parse(value)

    return BeforeValidator(read)


def _number(low: int, high: int) -> Any:
    return Field(default=0, ge=low, le=high)


DatasetName = Annotated[str, AfterValidator(check_dataset)]
NodeName = Annotated[str, AfterValidator(_node)]
Nodes = Annotated[list[NodeName], BeforeValidator(_list), Field(min_length=1)]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Duration = Annotated[int, _parsed(parse_duration)]
Rate = Annotated[int, _parsed(parse_rate)]
User = Annotated[int | str, BeforeValidator(_user)]
Access = Literal["ro", "rw"]
Squash = Literal["all", "root", "none"]


class Section(BaseModel):
    """Strict: no unknown keys, no conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class MeshSection(Section):
    """``[mesh]``"""

    listen_port: int = Field(default=51820, ge=1, le=65535)
    endpoints: list[Endpoint] = []
    domain: Annotated[str, AfterValidator(_domain)] = "mesh"


class StorageSection(Section):
    """``[storage]``"""

    under: DatasetName | None = None


class SnapshotsSection(Section):
    """``[snapshots]``"""

    tick: Annotated[Duration, AfterValidator(_tick)] = 60


class PolicySection(Section):
    """``[policy.NAME]``; the keys of `policy.rules.Policy`, which has the defaults."""

    frequently: int = _number(0, 100_000)
    hourly: int = _number(0, 100_000)
    daily: int = _number(0, 100_000)
    weekly: int = _number(0, 100_000)
    monthly: int = _number(0, 100_000)
    yearly: int = _number(0, 100_000)
    frequent_period: int = _number(1, 60)
    hourly_min: int = _number(0, 59)
    daily_hour: int = _number(0, 23)
    daily_min: int = _number(0, 59)
    weekly_wday: int = _number(0, 6)
    weekly_hour: int = _number(0, 23)
    weekly_min: int = _number(0, 59)
    monthly_mday: int = _number(1, 31)
    monthly_hour: int = _number(0, 23)
    monthly_min: int = _number(0, 59)
    yearly_mon: int = _number(1, 12)
    yearly_mday: int = _number(1, 31)
    yearly_hour: int = _number(0, 23)
    yearly_min: int = _number(0, 59)
    autosnap: bool = True
    autoprune: bool = True


class DatasetSection(Section):
    """``[dataset."pool/name"]``"""

    policy: str
    recursive: bool = False
    exclude: list[DatasetName] = []


class ReplicateSection(Section):
    """``[[replicate]]``"""

    from_: DatasetName = Field(alias="from")
    to: Nodes
    allow_plaintext: bool = False
    rate_limit: Rate | None = None


class ShareSection(Section):
    """``[[share]]``"""

    dataset: DatasetName
    to: Nodes
    access: Access = "ro"
    squash: Squash = "all"
    map_to: User | None = None


class Document(Section):
    """The whole configuration, all files merged."""

    mesh: MeshSection = MeshSection()
    storage: StorageSection = StorageSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    policy: dict[str, PolicySection] = {}
    dataset: dict[DatasetName, DatasetSection] = {}
    replicate: list[ReplicateSection] = []
    share: list[ShareSection] = []
