"""Which snapshots of a dataset a rule sends. Pure; what is not selected may still be the base of a stream."""

import re
from dataclasses import dataclass, field

from zfs.model import Snapshot


@dataclass(frozen=True, slots=True)
class Selector:
    """Those of one of the *kinds* that policies name, and those whose whole name fits *names*; without both, all.

    *kinds* are the last words of policies' names: "daily" selects ``autosnap_2026-11-24_00:00:00_daily``. *names* is a
    regular expression over the part behind the @; empty means none. Raises re.error if it is not one.
    """

    kinds: tuple[str, ...] = ()
    names: str = ""
    _names: "re.Pattern[str] | None" = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", re.compile(self.names) if self.names else None)

    def wants(self, snapshot: Snapshot) -> bool:
        """Whether it is sent."""
        if not self.kinds and self._names is None:
            return True
        if snapshot.name.startswith("autosnap_") and snapshot.name.rpartition("_")[2] in self.kinds:
            return True
        return self._names is not None and self._names.fullmatch(snapshot.name) is not None

    def __str__(self) -> str:
        words = [*self.kinds, *([f"/{self.names}/"] if self.names else [])]
        return ", ".join(words) or "all"


EVERY = Selector()
