"""The shape of the configuration as pydantic models: which sections and keys there are, and their ranges.

Meaning and defaults are in `node.settings` and `policy.rules`; here an absent key is just absent.
"""

import difflib
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from node.quantities import parse_duration, parse_rate, parse_size
from policy.rules import Kind
from replication.window import Window
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
    if isinstance(value, str):
        return _without_nul(value)
    if isinstance(value, int) and not 0 < value < 2**32 - 1:
        raise ValueError(f"{value} is no uid that can be mapped to")
    return value


def _parsed(parse: Callable[[str], int]) -> BeforeValidator:
    def read(value: Any) -> Any:
        if not isinstance(value, str):
            raise ValueError("must be in quotes, with a unit")
        return parse(value)

    return BeforeValidator(read, json_schema_input_type=str)


def _timezone(name: str) -> str:
    if name == "UTC":
        return name
    try:
        ZoneInfo(name)
    except (LookupError, ValueError, OSError):  # unknown; no key at all; a folder of zones
        close = difflib.get_close_matches(name, available_timezones(), 1)
        advice = f'did you mean "{close[0]}"?' if close else 'write it like "UTC" or "Europe/Berlin"'
        raise ValueError(f'"{name}" is no time zone known here; {advice}') from None
    return name


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError(f'"{path}" is no absolute path; write it like "/etc/sanoid"')
    return _without_nul(path)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError(f"{text!r} has a NUL in it, which no path and no command may have")
    return text


def _floor(text: str) -> str:
    if not 3600 <= parse_duration(text) <= 36_500 * 86400:
        raise ValueError(f'"{text}" is no floor: must be from 1h to a hundred years; write it like "30d"')
    return text


def _period(text: str) -> str:
    if parse_duration(text) < 60:
        raise ValueError(f'"{text}" is too short for a period; write it like "1d"')
    return text


def _age(value: Any) -> Any:
    return (
        value if _is_number(value) and value == 0 else _duration(value, 'must be like "90m", or 0 for never')
    )


def _drill(value: Any) -> Any:
    """Seconds from one drill to the next, None for none."""
    names = {"off": None, "weekly": 7 * 86400, "monthly": 30 * 86400}
    if isinstance(value, str) and value in names:
        return names[value]
    seconds = _duration(value, 'must be "weekly", "monthly", "off", or like "30d"')
    if not 86400 <= seconds <= 3650 * 86400:
        raise ValueError(f'"{value}" must be from 1d to ten years')
    return seconds


def _timeout(value: Any) -> Any:
    if _is_number(value) and 0 <= value <= 86_400:
        return value
    return _duration(value, 'must be like "30s", or whole seconds up to a day; 0 waits for ever')


def _duration(value: Any, wanted: str) -> int:
    if not isinstance(value, str):
        raise ValueError(f"{wanted}, not {_shown(value)}")
    return parse_duration(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _recursive(value: Any) -> Any:
    if not isinstance(value, bool) and value != "zfs":
        raise ValueError(f'must be true, false or "zfs", not {_shown(value)}')
    return value


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)


def _pool(name: str) -> str:
    if "/" in name:
        raise ValueError(
            f'"{name}" is a dataset; these limits are of whole pools, like "{name.partition("/")[0]}"'
        )
    return check_dataset(name)


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f'"{text}" is no regular expression: {error}') from None
    return text


def _window(text: str) -> str:
    Window.parse(text)
    return text


def _number(low: int, high: int) -> Any:
    return Field(default=0, ge=low, le=high)


DatasetName = Annotated[str, AfterValidator(check_dataset)]
PoolName = Annotated[str, AfterValidator(_pool)]
NodeName = Annotated[str, AfterValidator(_node)]
Nodes = Annotated[
    list[NodeName], BeforeValidator(_list, json_schema_input_type=str | list[str]), Field(min_length=1)
]
Endpoint = Annotated[str, AfterValidator(_endpoint)]
Duration = Annotated[int, _parsed(parse_duration)]
Age = Annotated[int, BeforeValidator(_age, json_schema_input_type=str | Literal[0])]
Timeout = Annotated[int, BeforeValidator(_timeout, json_schema_input_type=str | int)]
Recursive = Annotated[bool | Literal["zfs"], BeforeValidator(_recursive)]
Period = Annotated[str, AfterValidator(_period)]
Timezone = Annotated[str, AfterValidator(_timezone)]
Rate = Annotated[int, _parsed(parse_rate)]
Size = Annotated[int, _parsed(parse_size)]
Script = Annotated[str, AfterValidator(_without_nul)]
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
    vault_ports: list[Annotated[int, Field(ge=1, le=65535)]] = []


class StorageSection(Section):
    """``[storage]``; the counts are those of `replication.target_retention.Keep`."""

    under: DatasetName | None = None
    floor: Annotated[str, AfterValidator(_floor)] = "30d"
    hourly: int = Field(default=0, ge=0, le=100_000)
    daily: int = Field(default=30, ge=0, le=100_000)
    weekly: int = Field(default=8, ge=0, le=100_000)
    monthly: int = Field(default=12, ge=0, le=100_000)
    yearly: int = Field(default=5, ge=0, le=100_000)


class SnapshotsSection(Section):
    """``[snapshots]``"""

    tick: Annotated[Duration, AfterValidator(_tick)] = 60
    timezone: Timezone = "UTC"
    sanoid: Annotated[str, AfterValidator(_absolute)] | None = None


class MetricsSection(Section):
    """``[metrics]``"""

    listen: Annotated[str, AfterValidator(_endpoint)] | None = None


class PoolSection(Section):
    """``[pool."tank"]``: percentages, see `policy.rules.PoolLimits`."""

    capacity_warn: int | None = Field(default=None, ge=0, le=100)
    capacity_crit: int | None = Field(default=None, ge=0, le=100)
    space_high: int | None = Field(default=None, ge=1, le=100)
    space_low: int | None = Field(default=None, ge=0, le=99)


class PolicySection(Section):
    """``[policy.NAME]``; the keys of `policy.rules`, which has the defaults."""

    extends: Annotated[list[str], BeforeValidator(_list, json_schema_input_type=str | list[str])] = []
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
    timezone: Timezone = "UTC"
    prune_defer: int = _number(0, 100)
    skip_unchanged: bool = False
    keep_last: int = _number(0, 100_000)
    keep_every: dict[Period, Annotated[int, Field(ge=1, le=100_000)]] = {}
    loose_names: bool = False
    pre_snapshot_script: Script = ""
    post_snapshot_script: Script = ""
    pre_pruning_script: Script = ""
    pruning_script: Script = ""
    script_timeout: Timeout = 5
    no_inconsistent_snapshot: bool = False
    force_post_snapshot_script: bool = False
    monitor: bool = True
    monitor_dont_warn: bool = False
    monitor_dont_crit: bool = False
    frequently_warn: Age = 0
    frequently_crit: Age = 0
    hourly_warn: Age = 0
    hourly_crit: Age = 0
    daily_warn: Age = 0
    daily_crit: Age = 0
    weekly_warn: Age = 0
    weekly_crit: Age = 0
    monthly_warn: Age = 0
    monthly_crit: Age = 0
    yearly_warn: Age = 0
    yearly_crit: Age = 0


class DatasetSection(Section):
    """``[dataset."pool/name"]``"""

    policy: str
    recursive: Recursive = False
    process_children_only: bool = False
    exclude: list[DatasetName] = []


class ReplicateSection(Section):
    """``[[replicate]]``"""

    from_: DatasetName = Field(alias="from")
    to: Nodes
    allow_plaintext: bool = False
    rate_limit: Rate | None = None
    recursive: bool = False
    exclude: list[DatasetName] = []
    late_after: Duration | None = None
    snapshots: Annotated[list[Kind], BeforeValidator(_list, json_schema_input_type=str | list[str])] = []
    snapshot_names: Annotated[str, AfterValidator(_expression)] = ""
    initial: Literal["all", "newest"] = "all"
    window: Annotated[str, AfterValidator(_window)] | None = None
    timezone: Timezone | None = None
    paused: bool = False
    base_hold: Duration | None = None
    base_hold_size: Size | None = None
    drill: Annotated[int | None, BeforeValidator(_drill, json_schema_input_type=str)] = None
    drill_key_file: Annotated[str, AfterValidator(_absolute)] | None = None
    on_divergence: Literal["conflict", "rotate"] = "conflict"


class ReplicationSection(Section):
    """``[replication]``: what all rules have in common. `parallel` streams run to one target at once."""

    parallel: int = Field(default=2, ge=1, le=64)


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
    metrics: MetricsSection = MetricsSection()
    policy: dict[str, PolicySection] = {}
    pool: dict[PoolName, PoolSection] = {}
    dataset: dict[DatasetName, DatasetSection] = {}
    replication: ReplicationSection = ReplicationSection()
    replicate: list[ReplicateSection] = []
    share: list[ShareSection] = []
