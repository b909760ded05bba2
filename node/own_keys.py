"""The keys of what this host replicates: where they are, and whether somebody here was seen to have them.

ZFS gives no key away: what can be done is to try one while the original is here, or to keep the file that it is.
"""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from node.api import Api, Request
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.local_state import LocalState
from node.status import Problem
from zfs import errors
from zfs.door import Zfs
from zfs.model import Dataset
from zfs.names import check_dataset

TYPED = ("passphrase", "hex")
"""Formats of keys that a person can type."""


@dataclass(frozen=True, slots=True)
class _Key:
    """The key of an encryption root."""

    root: str
    format: str
    location: str


class OwnKeys:
    """`role` gives the role of a node by its name."""

    def __init__(
        self,
        zfs: Zfs,
        local: LocalState,
        *,
        jobs: Callable[[], Iterable[Job]],
        role: Callable[[str], str],
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._local = local
        self._jobs = jobs
        self._role = role
        self._now = now
        self._keys: dict[str, _Key | None] = {}

    def register(self, api: Api) -> None:
        """Everyone on this host may see; root tries keys."""
        api.register("key.status", self.status, access="group")
        api.register("key.verify", self.verify, access="root")

    async def look(self) -> None:
        """Which key opens each dataset that goes to a vault; what is known already is not asked again."""
        for dataset in self._on_vaults():
            if dataset not in self._keys:
                with contextlib.suppress(errors.ZfsError):  # gone, or its pool is: asked again the next time
                    await self._seen(dataset)

    def problems(self) -> list[Problem]:
        """For `status`, of what `look` saw: one line for all keys that nobody was seen to have."""
        vaults = self._on_vaults()
        keys = {dataset: self._keys.get(dataset) for dataset in vaults}
        unproven = sorted(
            {key.root for key in keys.values() if key and key.format in TYPED and self._verified(key) is None}
        )
        if not unproven:
            return []
        first = unproven[0]
        nodes = sorted(
            {node for dataset, key in keys.items() if key and key.root == first for node in vaults[dataset]}
        )
        more = f"; so it is with {len(unproven) - 1} more" if len(unproven) > 1 else ""
        text = f"the copies of {first} on {', '.join(nodes)} open only with its passphrase, which was never tried{more}"
        return [Problem("key_unverified", text, f"meshkeep key verify {first}")]

    async def reminder(self, dataset: str) -> str:
        """What who replicates *dataset* should know of its key before the first copy; "" where nothing is to do."""
        try:
            seen = await self._seen(dataset)
        except errors.ZfsError:
            return ""  # what is wrong with it is said where it is used
        if seen is None or self._verified(seen[1]) is not None:
            return ""
        root = seen[1].root
        if seen[1].location.startswith("file://"):
            return (
                f"the copies open only with the key of {root}, a file of this host: "
                f"keep it elsewhere too: meshkeep key export {root}"
            )
        return f"the copies open only with the passphrase of {root}, never tried here: meshkeep key verify {root}"

    async def status(self, request: Request) -> dict[str, Any]:
        """Each encrypted dataset that is replicated, or one: its key, and who keeps copies that need it."""
        nodes = self._nodes(lambda _: True)
        asked = request.args.get("dataset")
        names = [check_dataset(str(asked))] if asked else sorted(nodes)
        found = []
        for name in names:
            try:
                seen = await self._seen(name)
            except errors.NotFound:
                if asked:
                    raise _no_dataset(name) from None
                continue
            if seen is not None:
                dataset, key = seen
                found.append(
                    {
                        "dataset": name,
                        "root": key.root,
                        "loaded": dataset.keystatus == "available",
                        "format": key.format,
                        "location": key.location,
                        "nodes": sorted(nodes.get(name, ())),
                        "verified": self._verified(key),
                    }
                )
        return {"schema": "meshkeep.key-status/1", "keys": found}

    async def verify(self, request: Request) -> dict[str, Any]:
        """Try a passphrase, changing nothing, and note that it opens the dataset."""
        name = check_dataset(str(request.args.get("dataset")))
        try:
            seen = await self._seen(name)
        except errors.NotFound:
            raise _no_dataset(name) from None
        if seen is None:
            raise MeshkeepError(f"{name} is not encrypted", code="not_encrypted", exit=Exit.REFUSED)
        _, key = seen
        if key.format not in TYPED:
            raise MeshkeepError(
                f"the key of {key.root} is a file, not a passphrase",
                code="key_in_file",
                exit=Exit.REFUSED,
                why=f"its location is {key.location}; keep a copy of it elsewhere",
                hint=f"zfs load-key -n -L file:///WHERE/THE/COPY/IS {key.root}",
            )
        try:
            await self._zfs.check_key(key.root, str(request.args.get("key") or "").encode())
        except errors.WrongKey as error:
            raise MeshkeepError(
                f"that does not open {key.root}",
                code="wrong_key",
                exit=Exit.REFUSED,
                why=str(error),
                hint="while its key is loaded here, another can still be set: zfs change-key " + key.root,
            ) from error
        at = int(self._now())
        self._local.save_verified(key.root, at)
        return {"schema": "meshkeep.key-verify/1", "dataset": name, "root": key.root, "verified": at}

    def _verified(self, key: _Key) -> int | None:
        return self._local.verified().get(key.root)

    async def _seen(self, name: str) -> tuple[Dataset, _Key] | None:
        """The dataset and its key; None where it is not encrypted. Raises NotFound."""
        dataset = await self._zfs.dataset(name)
        root = dataset.encryption_root
        if root is None:
            self._keys[name] = None
            return None
        found = await self._zfs.get(root, ["keyformat", "keylocation"])
        key = _Key(root, found["keyformat"].value, found["keylocation"].value)
        self._keys[name] = key
        return dataset, key

    def _on_vaults(self) -> dict[str, set[str]]:
        return self._nodes(lambda target: self._role(target) == "vault")

    def _nodes(self, wanted: Callable[[str], bool]) -> dict[str, set[str]]:
        """The nodes that keep, or are to keep, a copy of each dataset."""
        found: dict[str, set[str]] = {}
        for job in self._jobs():
            if not job.vanished and wanted(job.target):
                found.setdefault(job.dataset, set()).add(job.target)
        return found


def _no_dataset(name: str) -> MeshkeepError:
    return MeshkeepError(
        f"there is no dataset {name} here", code="no_dataset", exit=Exit.NOT_FOUND, hint="zfs list"
    )
