"""The snapshots of datasets, listed anew only where `snapshots_changed` says that they have changed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from zfs.door import Zfs
from zfs.errors import ZfsError
from zfs.model import Dataset, Snapshot

SETTLED = 2
"""Seconds after a change from which a listing has all changes of that second: the property has whole seconds, and the
kernel's clock for it may be a tick behind ours."""

MAX_AGE = 3600
"""Seconds after which a list is asked for again: holds and `used` change without a change of the property."""


@dataclass(frozen=True, slots=True)
class _Listing:
    """What was listed at `at`, and `changed`, the property's value before."""

    at: float
    name: str
    changed: int
    snapshots: tuple[Snapshot, ...]


class Histories:
    """A cache by guid of the dataset."""

    def __init__(self, zfs: Zfs, now: Callable[[], float]) -> None:
        self._zfs = zfs
        self._now = now
        self._known: dict[int, _Listing] = {}

    async def of(
        self, datasets: Iterable[Dataset]
    ) -> tuple[dict[str, Sequence[Snapshot]], dict[str, ZfsError]]:
        """The snapshots of each of *datasets* as they were listed just now, and why some could not be."""
        now = self._now()
        wanted = {dataset.name: dataset for dataset in datasets}
        found: dict[str, Sequence[Snapshot]] = {}
        for name, dataset in wanted.items():
            known = self._known.get(dataset.guid)
            if known is not None and _holds(known, dataset, now):
                found[name] = known.snapshots
        missing = [name for name in wanted if name not in found]
        failed: dict[str, ZfsError] = {}
        answers: Mapping[str, list[Snapshot] | ZfsError] = (
            await self._zfs.histories(missing) if missing else {}
        )
        for name, answer in answers.items():
            self._known.pop(wanted[name].guid, None)
            if isinstance(answer, ZfsError):
                failed[name] = answer
                continue
            found[name] = answer
            changed = wanted[name].snapshots_changed
            if changed is not None and now >= changed + SETTLED:
                self._known[wanted[name].guid] = _Listing(now, name, changed, tuple(answer))
        return found, failed

    def forget(self, dataset: Dataset | None = None) -> None:
        """List it (all, for None) anew the next time, whatever the property says."""
        if dataset is None:
            self._known.clear()
        else:
            self._known.pop(dataset.guid, None)

    def only(self, datasets: Iterable[Dataset]) -> None:
        """Forget all others: they are gone, or have no policy any more."""
        guids = {dataset.guid for dataset in datasets}
        self._known = {guid: one for guid, one in self._known.items() if guid in guids}


def _holds(known: _Listing, dataset: Dataset, now: float) -> bool:
    same = (known.name, known.changed) == (dataset.name, dataset.snapshots_changed)
    return same and known.at <= now < known.at + MAX_AGE
