"""The contract of the door to ZFS: `zfs.libzfs` and its double both pass tests/contracts/zfs_contract.py.

`Zfs` is for the agent (async; the real one runs ioctls in threads). `Streams` is for transfer workers, whose
one job is to block. Every method raises a class of `zfs.errors`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from zfs.errors import ZfsError
from zfs.model import Bookmark, Dataset, Look, Pool, PoolStatus, Property, ResumeState, Snapshot


class Zfs(Protocol):
    """Listing and changing. Never forces, never recurses into what it was not named."""

    async def version(self) -> tuple[str, str]:
        """(userland, kernel module), e.g. ("2.3.9-1", "2.3.9-1")."""
        ...

    async def pools(self) -> list[Pool]: ...

    async def pool_status(self, name: str) -> PoolStatus:
        """Exactly the pool *name*. Raises NotFound."""
        ...

    async def datasets(self, root: str | None = None) -> list[Dataset]:
        """*root* and all below it (all pools for None), parents before children. Raises NotFound.

        One of which ZFS tells nothing that can be read is left out, and logged.
        """
        ...

    async def dataset(self, name: str) -> Dataset:
        """Exactly *name*. Raises NotFound."""
        ...

    async def mountpoints(self, datasets: Sequence[str]) -> dict[str, str | None]:
        """Where each of *datasets* is to be mounted, or "legacy"; None for nowhere. Raises NotFound.

        Not part of a listing, because a mountpoint may be any text, newlines too.
        """
        ...

    async def look(self, dataset: str, properties: Sequence[str] = (), note: str | None = None) -> Look:
        """Everything of *dataset* itself in one go: with the values of *properties*, and of the user property
        *note* on its snapshots. Cheaper than asking one by one. Raises NotFound.
        """
        ...

    async def looks(
        self,
        datasets: Sequence[str],
        properties: Sequence[str] = (),
        note: str | None = None,
        known: Mapping[str, Look] | None = None,
    ) -> dict[str, Look | ZfsError]:
        """`look` at each of *datasets*, in a few commands for all; or why that one cannot be looked at.

        Snapshots, bookmarks and notes of one whose `snapshots_changed` is still that of its look in *known* are taken
        from there and not listed: its holds and bookmarks are as old as that look. *properties* and *note* must be
        none that somebody else than root here can set.
        """
        ...

    async def snapshots(self, dataset: str, *, recursive: bool = False) -> list[Snapshot]:
        """Oldest first by createtxg. Raises NotFound."""
        ...

    async def histories(self, datasets: Sequence[str]) -> dict[str, list[Snapshot] | ZfsError]:
        """The snapshots of each of *datasets*, oldest first; or why that one cannot be listed. Cheaper than each by
        itself.
        """
        ...

    async def bookmarks(self, dataset: str) -> list[Bookmark]:
        """Oldest first by createtxg. Raises NotFound."""
        ...

    async def holds(self, snapshot: str) -> list[str]:
        """The tags that hold it."""
        ...

    async def get(self, name: str, properties: Sequence[str]) -> dict[str, Property]: ...

    async def own_properties(self, datasets: Sequence[str]) -> dict[str, dict[str, str]]:
        """All that is set on each of *datasets* itself, user properties too; nothing inherited. Raises NotFound."""
        ...

    async def snapshot_property(self, dataset: str, prop: str) -> dict[str, str]:
        """One property of each snapshot of *dataset* (not of its children), by the part behind the @.

        Snapshots that do not have it are left out. Raises NotFound.
        """
        ...

    async def clones(self, dataset: str) -> dict[str, list[str]]:
        """The datasets that were cloned from each snapshot of *dataset*, by the part behind the @.

        Snapshots without clones are left out. Raises NotFound.
        """
        ...

    async def ivset_guids(self, dataset: str) -> dict[str, int]:
        """Of each snapshot of *dataset* the set of IVs that its blocks are encrypted with, by the part behind the @.

        Snapshots without one are left out: not encrypted, or older than the property. Raises NotFound.
        """
        ...

    async def set(self, name: str, properties: Mapping[str, str]) -> None: ...

    async def set_all(self, names: Sequence[str], properties: Mapping[str, str]) -> None:
        """The same user properties on all of *names* (datasets, snapshots), with one wait for the disk where ZFS can.

        Those that are not there are left out.
        """
        ...

    async def inherit(self, name: str, prop: str) -> None: ...

    async def create(
        self, name: str, properties: Mapping[str, str], *, passphrase: bytes | None = None
    ) -> None:
        """A filesystem whose parent exists, not mounted. With a passphrase: an encryption root of its own."""
        ...

    async def rename(self, name: str, new_name: str) -> None: ...

    async def destroy_dataset(self, name: str) -> None:
        """Exactly one dataset without children or snapshots (an aborted first receive). Raises Busy."""
        ...

    async def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        """All of *names*, all of one pool and at most one per dataset, in one transaction or none."""
        ...

    async def destroy_snapshots(self, names: Sequence[str]) -> dict[str, Exception]:
        """Destroy what can be; returns what could not (Held, Busy). Missing ones count as done."""
        ...

    async def bookmark(self, snapshot: str, bookmark: str) -> None:
        """`bookmark` is ``dataset#name``. The same bookmark of the same snapshot again is no error."""
        ...

    async def bookmark_all(self, pairs: Mapping[str, str]) -> None:
        """As `bookmark`, for many of one pool in one transaction: from each bookmark to its snapshot."""
        ...

    async def destroy_bookmarks(self, names: Sequence[str]) -> None: ...

    async def hold(self, tag: str, snapshots: Sequence[str]) -> None:
        """Idempotent: a tag that is there already is no error."""
        ...

    async def release(self, tag: str, snapshots: Sequence[str]) -> None:
        """Idempotent: a tag or snapshot that is not there is no error."""
        ...

    async def allow(self, user: str, permissions: Sequence[str], dataset: str) -> None:
        """Delegate (``zfs allow -u``), inherited by descendants."""
        ...

    async def resume_state(self, dataset: str) -> ResumeState | None:
        """What a partly received stream of *dataset* would go on with; None where there is none."""
        ...

    async def abort_receive(self, dataset: str) -> None:
        """Drop the partly received stream (``zfs receive -A``); a dataset that was only that disappears."""
        ...

    async def send_size(self, snapshot: str, base: str | None, *, raw: bool) -> int:
        """Estimated bytes of the stream *base* -> *snapshot* (full for None)."""
        ...

    async def load_key(self, dataset: str, passphrase: bytes) -> None:
        """Of an encryption root. One that is loaded already is only checked. Raises WrongKey."""
        ...

    async def check_key(self, dataset: str, passphrase: bytes) -> None:
        """Whether it opens the encryption root *dataset*, loaded or not; nothing changes. Raises WrongKey."""
        ...

    async def change_key(self, dataset: str, passphrase: bytes) -> None:
        """Make an encrypted dataset whose key is loaded an encryption root of its own; what inherits from it
        follows.
        """
        ...

    async def inherit_key(self, dataset: str) -> None:
        """Make an encryption root inherit its parent's key, as it is wrapped: nothing is decrypted or wrapped anew.

        ZFS checks no more than that the parent is encrypted. Only right where one wrapping key opens both: another one
        leaves *dataset* with no key that opens it. Refused while its key is loaded (Busy): ZFS would free what is in
        use. What inherits from it follows.
        """
        ...

    async def mount(self, dataset: str) -> None:
        """At its own mountpoint; mounted already is no error. Raises KeyUnavailable, Busy."""
        ...

    async def unmount(self, dataset: str) -> None:
        """Not mounted is no error. Never forced: raises Busy."""
        ...


class Streams(Protocol):
    """The two calls that block for hours. Only worker processes hold this."""

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        """Write one stream to *fd*. *base* is ``ds@snap`` or ``ds#mark``; *resume* is (object, offset)."""
        ...

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        """Receive one stream from *fd* as *snapshot*, resumable, unmounted, never forced."""
        ...
