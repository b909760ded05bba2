"""What the metrics are made of, as values. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from zfs.model import PoolStatus


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """A dataset with a policy. By kind: how many snapshots, when the newest was made, at which age it is late.

    Snapshots that no policy made count as kind "other".
    """

    name: str
    counts: Mapping[str, int]
    newest: Mapping[str, int]
    late_after: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What there was of the datasets that have a policy at `at` (epoch seconds), and the rules that match nothing."""

    at: int
    datasets: tuple[DatasetFacts, ...] = ()
    unmatched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pools:
    """How the pools were at `at` (epoch seconds)."""

    at: int
    pools: tuple[PoolStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """Another node, or this one. `up` is None where nothing was heard of it yet."""

    name: str
    role: str
    state: str
    up: bool | None
    path: str
    last_handshake: int | None = None
    rtt: float | None = None


@dataclass(frozen=True, slots=True)
class ReplicaFacts:
    """One dataset on one node, from the job that keeps it there. `pinned` is what its base keeps from being freed, in
    bytes; `outcome`, `seconds` and `run_bytes` are of the last run that ended.
    """

    dataset: str
    node: str
    state: str
    late_after: int
    as_of: int | None
    behind: int | None
    sent: int
    pinned: int = 0
    resumed: int = 0
    outcome: str = ""
    seconds: int | None = None
    run_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DrillFacts:
    """A copy that is to be drilled, or once was. Times in epoch seconds, `late_after` in seconds after `proven`."""

    dataset: str
    node: str
    proven: int | None
    late_after: int | None
    failed: bool
    bytes_read: int | None


@dataclass(frozen=True, slots=True)
class StoredFacts:
    """What is stored here for one owner: bytes, and how many snapshots are held until they may go."""

    owner: str
    bytes: int
    held: int | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the metrics are made of, at `now`."""

    now: int
    version: str
    python: str
    zfs: str = ""
    snapshots: Snapshots | None = None
    pools: Pools | None = None
    reload_ok: bool = True
    reloaded: int | None = None
    nodes: tuple[NodeFacts, ...] = ()
    replicas: tuple[ReplicaFacts, ...] = ()
    drills: tuple[DrillFacts, ...] = ()
    stored: tuple[StoredFacts, ...] = ()
    refused: Mapping[str, int] = field(default_factory=dict)
    keys_waiting: Mapping[str, int] = field(default_factory=dict)
    waiting: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, int] = field(default_factory=dict)
    pruned: Mapping[str, int] = field(default_factory=dict)
    unpruned: Mapping[str, int] = field(default_factory=dict)
