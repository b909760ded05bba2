"""Reading what ZFS has from a JSON value, for deciding on paper. All mistakes at once; unknown keys are ignored.

``{"datasets": [{"name", "type"}], "snapshots": [{"name", "creation", "createtxg", "guid"}],
"pools": [{"name", "capacity"}]}``, names in full, times in seconds since the epoch. `used` and `holds` of
snapshots, `written` of datasets and `health` of pools may be there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from policy.tick import Inventory
from zfs.model import Pool, Snapshot
from zfs.names import MAX_NAME, InvalidName, check_dataset, check_snapshot

MANY = 20
"""So many mistakes are listed; of the rest only the number."""

_LARGEST = 2**64 - 1
"""ZFS has no larger numbers, and none below 0."""

_TYPES = ("filesystem", "volume")


class InventoryError(ValueError):
    """The inventory makes no sense. `problems` are sentences that name the place, like ``pools[0].capacity``."""

    def __init__(self, problems: Sequence[str]) -> None:
        more = len(problems) - MANY
        shown = [*problems[:MANY], *([f"and {more} more"] if more > 0 else [])]
        super().__init__("\n".join(shown))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Paper:
    """The datasets there are, and what the tick wants to know of them."""

    datasets: tuple[str, ...]
    inventory: Inventory


def read(raw: object) -> Paper:
    """The inventory that *raw*, as `json.loads` made it, describes. Raises InventoryError."""
    reader = _Reader()
    datasets: list[str] = []
    unchanged: list[str] = []
    snapshots: list[Snapshot] = []
    pools: list[Pool] = []
    for place, entry in reader.entries(raw, "datasets"):
        name = reader.dataset(entry, place)
        reader.type(entry, place)
        if reader.count(entry, "written", place, 1) == 0:
            unchanged.append(name)
        datasets.append(name)
    for place, entry in reader.entries(raw, "snapshots"):
        snapshots.append(reader.snapshot(entry, place))
    for place, entry in reader.entries(raw, "pools", required=False):
        pools.append(reader.pool(entry, place))
    reader.unique(datasets, "datasets")
    reader.unique([one.full_name for one in snapshots], "snapshots")
    reader.unique([one.name for one in pools], "pools")
    if reader.problems:
        raise InventoryError(reader.problems)
    return Paper(tuple(datasets), Inventory(tuple(snapshots), tuple(pools), frozenset(unchanged)))


class _Reader:
    """Notes every mistake and goes on with a stand-in, so that one does not hide the next."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._sound: set[str] = set()

    def entries(
        self, raw: object, key: str, *, required: bool = True
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """The objects of the list under *key*, with their places."""
        if not isinstance(raw, dict):
            if key == "datasets":
                self.problems.append("the inventory must be an object")
            return
        if key not in raw:
            if required:
                self.problems.append(f"{key}: is missing")
            return
        if not isinstance(raw[key], list):
            self.problems.append(f"{key}: must be a list")
            return
        for number, entry in enumerate(raw[key]):
            if isinstance(entry, dict):
                yield f"{key}[{number}]", entry
            else:
                self.problems.append(f"{key}[{number}]: must be an object")

    def dataset(self, entry: dict[str, Any], place: str) -> str:
        name = self._text(entry, place)
        self._check_dataset(name, place)
        return name

    def type(self, entry: dict[str, Any], place: str) -> None:
        if entry.get("type", _TYPES[0]) not in _TYPES:
            self.problems.append(f"{place}.type: must be {' or '.join(_TYPES)}, not {entry['type']!r}")

    def snapshot(self, entry: dict[str, Any], place: str) -> Snapshot:
        full = self._text(entry, place)
        dataset, at, short = full.partition("@")
        if not at or "@" in short or not short:
            if full:
                self.problems.append(f"{place}.name: {full!r} is not of the form DATASET@SNAPSHOT")
        elif self._check_dataset(dataset, place):
            self._check_short(full, short, place)
        return Snapshot(
            dataset,
            short,
            self._number(entry, "guid", place),
            self._number(entry, "createtxg", place),
            self._number(entry, "creation", place),
            self.count(entry, "used", place, 0),
            self.count(entry, "holds", place, 0),
        )

    def pool(self, entry: dict[str, Any], place: str) -> Pool:
        name = self.dataset(entry, place)
        if "/" in name:
            self.problems.append(f"{place}.name: {name!r} is no pool")
        capacity = self._number(entry, "capacity", place)
        if not 0 <= capacity <= 100:
            self.problems.append(f"{place}.capacity: {capacity} is no percentage")
        health = entry.get("health", "ONLINE")
        if not isinstance(health, str):
            self.problems.append(f"{place}.health: must be text")
        size, free = (self.count(entry, key, place, 0) for key in ("size", "free"))
        return Pool(name, str(health), size, free, capacity, entry.get("readonly") is True)

    def unique(self, names: Sequence[str], key: str) -> None:
        if len(set(names)) == len(names):
            return
        seen: set[str] = set()
        for name in names:
            if name and name in seen:
                self.problems.append(f"{key}: {name} is there twice")
            seen.add(name)

    def count(self, entry: dict[str, Any], key: str, place: str, otherwise: int) -> int:
        """A number that may be left out."""
        return self._number(entry, key, place) if key in entry else otherwise

    def _text(self, entry: dict[str, Any], place: str) -> str:
        name = entry.get("name")
        if isinstance(name, str) and name:
            return name
        self.problems.append(f"{place}.name: " + ("must be text" if name else "is missing"))
        return ""

    def _number(self, entry: dict[str, Any], key: str, place: str) -> int:
        value = entry.get(key)
        if type(value) is int and 0 <= value <= _LARGEST:
            return value
        wrong = "is missing" if value is None else f"must be a whole number, not {value!r}"
        if type(value) is int:
            wrong = f"must be from 0 to {_LARGEST}"
        self.problems.append(f"{place}.{key}: {wrong}")
        return 0

    def _check_dataset(self, name: str, place: str) -> bool:
        if name in self._sound:
            return True
        if not name:
            return False
        try:
            check_dataset(name)
        except InvalidName as error:
            self.problems.append(f"{place}.name: {error}")
            return False
        self._sound.add(name)
        return True

    def _check_short(self, full: str, short: str, place: str) -> None:
        # Snapshots of one tick share their name, so that most have been looked at before.
        if f"@{short}" in self._sound and len(full) <= MAX_NAME:
            return
        try:
            check_snapshot(full)
        except InvalidName as error:
            self.problems.append(f"{place}.name: {error}")
        else:
            self._sound.add(f"@{short}")
