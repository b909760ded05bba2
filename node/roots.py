"""The source's side of encryption roots: noted in ZFS before a dataset is first sent raw, looked at at each stream."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from node.errors import Exit, MeshkeepError
from replication.encryption_roots import Rooted, drift, record, recorded
from replication.steps import Plan, Rotate
from zfs.door import Zfs
from zfs.model import Dataset, Look

ROOT = "meshkeep:root"
"""The user property that says it. It is of the dataset, whichever targets it goes to."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One dataset as it was looked at, and what is noted of its root."""

    dataset: Dataset
    noted: str | None


def seen(look: Look) -> Seen:
    """*look* has been asked for `ROOT`."""
    return Seen(look.dataset, look.properties.get(ROOT))


class Roots:
    """Refuses to send where a root is not what it was. `guid_of` gives that of a dataset here."""

    def __init__(self, zfs: Zfs, guid_of: Callable[[str], Awaitable[int]]) -> None:
        self._zfs = zfs
        self._guid_of = guid_of

    async def check(self, one: Seen | None, target: str, decided: Plan) -> None:
        """Before the streams of *decided*. Raises MeshkeepError, ZfsError."""
        if one is None or not decided.raw or one.dataset.encryption_root is None:
            return
        name, root = one.dataset.name, one.dataset.encryption_root
        root_guid = one.dataset.guid if root == name else await self._guid_of(root)
        was = recorded(one.noted, one.dataset.guid)
        if was is None:
            await self._zfs.set(name, {ROOT: record(one.dataset.guid, root_guid)})
        if decided.base is None or any(isinstance(step, Rotate) for step in decided.steps):
            return
        conflict = drift(Rooted(name, root, root_guid, was), target)
        if conflict is not None:
            raise MeshkeepError(
                conflict.text,
                code=conflict.kind,
                exit=Exit.REFUSED,
                why="; ".join(conflict.evidence),
                hint=conflict.hint,
            )

    async def accept(self, name: str) -> dict[str, Any]:
        """A person says that the root which *name* has now is meant. Raises MeshkeepError, ZfsError."""
        here = await self._zfs.dataset(name)
        if here.encryption_root is None:
            raise MeshkeepError(f"{name} is not encrypted", code="not_encrypted", exit=Exit.REFUSED)
        guid = here.guid if here.encryption_root == name else await self._guid_of(here.encryption_root)
        await self._zfs.set(name, {ROOT: record(here.guid, guid)})
        return {"dataset": name, "root": here.encryption_root}
