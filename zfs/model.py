"""The values that the door to ZFS hands out. Sizes in bytes, times in seconds since the epoch (UTC)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

KeyStatus = Literal["available", "unavailable"]


@dataclass(frozen=True, slots=True)
class Pool:
    """One imported pool. `capacity` is the used share in percent, `freeing` what ZFS will free in the background."""

    name: str
    health: str
    size: int
    free: int
    capacity: int
    readonly: bool = False
    freeing: int = 0


@dataclass(frozen=True, slots=True)
class Vdev:
    """One line of ``zpool status``: the pool itself, a group of devices, or a device, with its errors."""

    name: str
    state: str
    read: int = 0
    write: int = 0
    checksum: int = 0


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """How one pool is. `vdevs` come as ``zpool status`` prints them, the pool itself first.

    `scrub_end` is when the last scrub ended; None while one runs, and where another scan came after it.
    """

    name: str
    state: str
    vdevs: tuple[Vdev, ...]
    scrub_end: int | None
    size: int
    free: int
    capacity: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A filesystem or volume. `written` counts bytes since the newest snapshot.

    `snapshots_changed` is when one of its snapshots was last made, renamed or destroyed; None if never.
    """

    name: str
    kind: Literal["filesystem", "volume"]
    guid: int
    createtxg: int
    used: int
    available: int
    written: int
    encryption_root: str | None = None
    keystatus: KeyStatus | None = None
    mounted: bool = False
    snapshots_changed: int | None = None

    @property
    def encrypted(self) -> bool:
        """Whether its data is encrypted at rest."""
        return self.encryption_root is not None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot; `name` is the part behind the @."""

    dataset: str
    name: str
    guid: int
    createtxg: int
    creation: int
    used: int = 0
    holds: int = 0

    @property
    def full_name(self) -> str:
        """``dataset@name``."""
        return f"{self.dataset}@{self.name}"


@dataclass(frozen=True, slots=True)
class Bookmark:
    """One bookmark; `guid` is that of the snapshot it was made from, `name` the part behind the #."""

    dataset: str
    name: str
    guid: int
    createtxg: int
    creation: int

    @property
    def full_name(self) -> str:
        """``dataset#name``."""
        return f"{self.dataset}#{self.name}"


@dataclass(frozen=True, slots=True)
class ResumeState:
    """What a dataset with a partly received stream says of it (decoded from receive_resume_token).

    `object` and `offset` are where the stream goes on, `bytes` how much has been received.
    """

    to_guid: int
    from_guid: int | None
    to_name: str
    object: int
    offset: int
    bytes: int
    raw: bool


@dataclass(frozen=True, slots=True)
class Property:
    """A property's value and where it comes from: local, default, inherited from X, received, or - (none)."""

    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Look:
    """All that one dataset has, from one listing; snapshots and bookmarks oldest first.

    `properties` are the wanted ones of the dataset, `notes` the wanted user property of each snapshot by the part
    behind the @; what is not set is left out.
    """

    dataset: Dataset
    snapshots: tuple[Snapshot, ...] = ()
    bookmarks: tuple[Bookmark, ...] = ()
    resume: ResumeState | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
