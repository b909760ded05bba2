"""The real door to ZFS: libzfs_core where it has the call, the `zfs` command for listing and the rest.

Ioctls run in threads of their own pool (one can hang while a ZFS pool is suspended); each is short but
`LibZfsStreams`, which only transfer workers use. Nothing here forces, recurses or rolls back.
"""

import asyncio
import errno
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import groupby
from typing import TypeVar

import libzfs_core as lzc
from libzfs_core import bindings
from libzfs_core import exceptions as lzc_errors

from zfs import errors, listing, looking
from zfs.causes import BY_ERRNO, of_exception
from zfs.command import run
from zfs.errors import ZfsError
from zfs.model import Bookmark, Dataset, Look, Pool, PoolStatus, Property, ResumeState, Snapshot
from zfs.names import check_dataset, check_snapshot, pool_of
from zfs.stream import decode_resume_token

T = TypeVar("T")

log = logging.getLogger(__name__)

_THREADS = 16
_AT_ONCE = 100
"""Datasets named in one command: 25 KB of names at most."""
_BATCH = 200
"""Names in one destroying call: few enough that ZFS reports each failure and keeps transactions short."""

_SET_ALL = b"""
args = ...
argv = args["argv"]
refused = {}
for _, name in ipairs(argv["names"]) do
    for property, value in pairs(argv["properties"]) do
        number = zfs.sync.set_prop(name, property, value)
        if number ~= 0 then
            refused[name] = number
        end
    end
end
return refused
"""
"""A channel program: one transaction for all names, where `zfs set` waits for one after the other."""

_RAW = ["raw"]
"""Implies compressed, large and embedded blocks where the dataset has them (dmu_send.c)."""

_PLAIN = ["large_blocks", "compress"]
"""Always the same, also when resuming: changing large_blocks between two sends once zeroed files."""


class LibZfs:
    """`zfs.door.Zfs` on this host."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="zfs")
        self._unread: set[str] = set()

    async def _call(self, name: str, function: Callable[..., T], *arguments: object) -> T:
        """One call of libzfs_core about *name*, in a thread, its errors translated."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(_translated, name, function, *arguments))

    async def version(self) -> tuple[str, str]:
        return looking.read("zfs", listing.version, await run("zfs", "zfs", "version"))

    async def pools(self) -> list[Pool]:
        text = await run("zpool", "zpool", "list", "-Hp", "-o", listing.POOL_COLUMNS)
        return looking.read("zpool", listing.pools, text)

    async def pool_status(self, name: str) -> PoolStatus:
        if "/" in check_dataset(name):
            raise errors.NotFound(name)
        columns = ["-Hp", "-o", listing.POOL_COLUMNS, name]
        listed, told = await asyncio.gather(
            run(name, "zpool", "list", *columns), run(name, "zpool", "status", "-j", "--json-int", name)
        )
        (pool,) = looking.read(name, listing.pools, listed)
        return looking.read(name, partial(listing.pool_status, pool=pool), told)

    async def datasets(self, root: str | None = None) -> list[Dataset]:
        where = [] if root is None else ["-r", check_dataset(root)]
        found, bad = await looking.ask(root or "zfs", listing.datasets, listing.DATASET_COLUMNS, where=where)
        for row in set(bad) - self._unread:
            log.warning("a dataset is left out, because what zfs list says of it was not understood: %s", row)
        self._unread.update(bad)
        return found

    async def dataset(self, name: str) -> Dataset:
        where = [check_dataset(name)]
        return await looking.ask(name, listing.dataset, listing.DATASET_COLUMNS, where=where)

    async def mountpoints(self, datasets: Sequence[str]) -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        names = [check_dataset(name) for name in dict.fromkeys(datasets)]
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            text = await run(some[0], "zfs", "get", "-Hp", "-o", "name,value", "mountpoint", *some)
            known = listing.mountpoints(text, some)
            found |= {one: await self._mountpoint(one) for one in some} if known is None else known
        return found

    async def _mountpoint(self, name: str) -> str | None:
        """Of one alone: all of the output is the value."""
        text = await run(name, "zfs", "get", "-Hp", "-o", "value", "mountpoint", name)
        return listing.mountpoint(text.removesuffix("\n"))

    async def look(self, dataset: str, properties: Sequence[str] = (), note: str | None = None) -> Look:
        return await looking.at_one(check_dataset(dataset), properties, note)

    async def looks(
        self,
        datasets: Sequence[str],
        properties: Sequence[str] = (),
        note: str | None = None,
        known: Mapping[str, Look] | None = None,
    ) -> dict[str, Look | ZfsError]:
        found: dict[str, Look | ZfsError] = {}
        for some in looking.in_parts([check_dataset(name) for name in dict.fromkeys(datasets)]):
            try:
                found |= await looking.at_many(some, properties, note, known or {})
            except ZfsError as error:  # of none in particular: what it is about is found one by one
                log.info("looking at %d datasets one by one: %s", len(some), error)
                for name in some:
                    found[name] = await self._looked(name, properties, note)
        return found

    async def _looked(self, name: str, properties: Sequence[str], note: str | None) -> Look | ZfsError:
        try:
            return await self.look(name, properties, note)
        except ZfsError as error:
            return error

    async def snapshots(self, dataset: str, *, recursive: bool = False) -> list[Snapshot]:
        where = [*(["-r"] if recursive else ["-d", "1"]), check_dataset(dataset)]
        return await looking.ask(
            dataset, listing.snapshots, listing.SNAPSHOT_COLUMNS, kinds="snapshot", where=where
        )

    async def histories(self, datasets: Sequence[str]) -> dict[str, list[Snapshot] | ZfsError]:
        found: dict[str, list[Snapshot] | ZfsError] = {}
        names = [check_dataset(name) for name in dict.fromkeys(datasets)]
        for start in range(0, len(names), _AT_ONCE):
            found |= await self._histories(names[start : start + _AT_ONCE])
        return found

    async def _histories(self, names: list[str]) -> dict[str, list[Snapshot] | ZfsError]:
        """In one command; where that fails, for one of them may be gone, each half by itself."""
        try:
            listed = await looking.ask(
                names[0],
                listing.snapshots,
                listing.SNAPSHOT_COLUMNS,
                kinds="snapshot",
                where=["-d", "1", *names],
            )
        except ZfsError as error:
            if len(names) == 1:
                return {names[0]: error}
            middle = len(names) // 2
            return await self._histories(names[:middle]) | await self._histories(names[middle:])
        found: dict[str, list[Snapshot] | ZfsError] = {name: [] for name in names}
        for snapshot in listed:
            history = found.get(snapshot.dataset)
            if isinstance(history, list):
                history.append(snapshot)
        return found

    async def bookmarks(self, dataset: str) -> list[Bookmark]:
        where = ["-d", "1", check_dataset(dataset)]
        return await looking.ask(
            dataset, listing.bookmarks, listing.BOOKMARK_COLUMNS, kinds="bookmark", where=where
        )

    async def holds(self, snapshot: str) -> list[str]:
        held: dict[bytes, int] = await self._call(
            snapshot, lzc.lzc_get_holds, check_snapshot(snapshot).encode()
        )
        return sorted(os.fsdecode(tag) for tag in held)

    async def get(self, name: str, properties: Sequence[str]) -> dict[str, Property]:
        if not properties:
            return {}
        columns = ["-o", "property,value,source", ",".join(properties)]
        return listing.properties(await run(name, "zfs", "get", "-Hp", *columns, _any_name(name)))

    async def own_properties(self, datasets: Sequence[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {check_dataset(name): {} for name in datasets}
        names = list(found)
        options = ["-s", "local,received", "-o", "name,property,value,source", "all"]
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            text = await run(some[0], "zfs", "get", "-Hp", *options, *some)
            for name, values in listing.own_properties(text).items():
                found[name] = values
        return found

    async def snapshot_property(self, dataset: str, prop: str) -> dict[str, str]:
        options = ["-d", "1", "-t", "snapshot", "-o", "name,value,source"]
        text = await run(dataset, "zfs", "get", "-Hp", *options, prop, check_dataset(dataset))
        return listing.snapshot_property(text)

    async def clones(self, dataset: str) -> dict[str, list[str]]:
        where = ["-d", "1", check_dataset(dataset)]
        return await looking.ask(
            dataset, listing.clones, listing.CLONE_COLUMNS, kinds="snapshot", where=where
        )

    async def ivset_guids(self, dataset: str) -> dict[str, int]:
        options = ["-d", "1", "-t", "snapshot", "-o", "name,value"]
        text = await run(dataset, "zfs", "get", "-Hp", *options, "ivsetguid", check_dataset(dataset))
        return listing.ivset_guids(text)

    async def set(self, name: str, properties: Mapping[str, str]) -> None:
        if properties:
            await run(name, "zfs", "set", "-u", *_assignments(properties), _any_name(name))

    async def set_all(self, names: Sequence[str], properties: Mapping[str, str]) -> None:
        values = {key.encode(): value.encode() for key, value in properties.items()}
        for group in _by_pool([_any_name(name) for name in names]):
            for start in range(0, len(group), _BATCH):
                await self._set_batch(group[start : start + _BATCH], values)

    async def _set_batch(self, names: list[str], values: Mapping[bytes, bytes]) -> None:
        params = {b"names": [name.encode() for name in names], b"properties": dict(values)}
        pool = pool_of(names[0]).encode()
        refused = await self._call(names[0], _program, pool, _SET_ALL, params)
        for name, number in refused.items():
            if number != errno.ENOENT:
                raise BY_ERRNO.get(number, errors.Unexpected)(name, os.strerror(number))

    async def inherit(self, name: str, prop: str) -> None:
        await run(name, "zfs", "inherit", prop, _any_name(name))

    async def create(
        self, name: str, properties: Mapping[str, str], *, passphrase: bytes | None = None
    ) -> None:
        asked = dict(properties)
        if passphrase is not None:
            asked |= {"keyformat": "passphrase", "keylocation": "prompt"}
            asked.setdefault("encryption", "on")
        options = [part for one in _assignments(asked) for part in ("-o", one)]
        stdin = None if passphrase is None else _line(name, passphrase)
        await run(name, "zfs", "create", "-u", *options, check_dataset(name), stdin=stdin)

    async def rename(self, name: str, new_name: str) -> None:
        check_dataset(name)
        check_dataset(new_name)
        await self._call(name, lzc.lzc_rename, name.encode(), new_name.encode())

    async def destroy_dataset(self, name: str) -> None:
        try:
            await self._call(name, lzc.lzc_destroy, check_dataset(name).encode())
        except errors.AlreadyExists as error:  # EEXIST of a destroy (dsl_destroy_head_check_impl)
            raise errors.Busy(name, "it has children") from error

    async def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        encoded = [check_snapshot(name).encode() for name in names]
        values = {key.encode(): value.encode() for key, value in (properties or {}).items()}
        if encoded:
            await self._call(names[0], lzc.lzc_snapshot, encoded, values)

    async def destroy_snapshots(self, names: Sequence[str]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        for group in _by_pool(names):
            for start in range(0, len(group), _BATCH):
                failed |= await self._destroy_batch(group[start : start + _BATCH])
        return failed

    async def _destroy_batch(self, names: list[str]) -> dict[str, Exception]:
        """ZFS destroys all of them or none: what it refuses is taken out, and the rest tried again."""
        failed: dict[str, Exception] = {}
        wanted = [check_snapshot(name) for name in names]
        while wanted:
            encoded = [name.encode() for name in wanted]
            refused = await self._call(wanted[0], _refused, lzc.lzc_destroy_snaps, encoded, False)
            if not refused:
                break
            for name, error in refused.items():
                for one in [name] if name in wanted else wanted:
                    failed[one] = await self._why_kept(one, error)
            wanted = [name for name in wanted if name not in failed]
        return failed

    async def _why_kept(self, snapshot: str, error: ZfsError) -> ZfsError:
        """EBUSY reads as held, but a snapshot being sent says the same."""
        if isinstance(error, errors.Held) and not await self.holds(snapshot):
            return errors.Busy(snapshot, "it is being sent or is mounted")
        return type(error)(snapshot, error.detail)

    async def bookmark(self, snapshot: str, bookmark: str) -> None:
        pair = {bookmark.encode(): check_snapshot(snapshot).encode()}
        try:
            await self._call(bookmark, lzc.lzc_bookmark, pair)
        except errors.AlreadyExists:
            dataset, _, name = bookmark.partition("#")
            guid = int((await self.get(snapshot, ["guid"]))["guid"].value)
            if not any(one.name == name and one.guid == guid for one in await self.bookmarks(dataset)):
                raise

    async def bookmark_all(self, pairs: Mapping[str, str]) -> None:
        if not pairs:
            return
        encoded = {mark.encode(): check_snapshot(snapshot).encode() for mark, snapshot in pairs.items()}
        try:
            await self._call(next(iter(pairs)), lzc.lzc_bookmark, encoded)
        except errors.AlreadyExists:  # none was made: which of them are there is found one by one
            for mark, snapshot in pairs.items():
                await self.bookmark(snapshot, mark)

    async def destroy_bookmarks(self, names: Sequence[str]) -> None:
        for group in _by_pool(names):
            await self._call(group[0], lzc.lzc_destroy_bookmarks, [name.encode() for name in group])

    async def hold(self, tag: str, snapshots: Sequence[str]) -> None:
        for group in _by_pool(snapshots):
            missing = await self._call(group[0], _hold, tag.encode(), [check_snapshot(one) for one in group])
            if missing:
                raise errors.NotFound(missing[0])

    async def release(self, tag: str, snapshots: Sequence[str]) -> None:
        for group in _by_pool(snapshots):
            tags = {check_snapshot(one).encode(): [tag.encode()] for one in group}
            refused = await self._call(group[0], _refused, lzc.lzc_release, tags)
            for error in refused.values():
                if not isinstance(error, errors.NotFound):
                    raise error

    async def allow(self, user: str, permissions: Sequence[str], dataset: str) -> None:
        await run(dataset, "zfs", "allow", "-u", user, ",".join(permissions), check_dataset(dataset))

    async def resume_state(self, dataset: str) -> ResumeState | None:
        check_dataset(dataset)
        token = (await self.get(dataset, ["receive_resume_token"]))["receive_resume_token"].value
        return None if token == "-" else looking.read(dataset, decode_resume_token, token)

    async def abort_receive(self, dataset: str) -> None:
        try:
            await run(dataset, "zfs", "receive", "-A", check_dataset(dataset))
        except errors.Unexpected as error:
            if "does not have any resumable receive state" not in error.detail:
                raise

    async def send_size(self, snapshot: str, base: str | None, *, raw: bool) -> int:
        start = None if base is None else base.encode()
        size: int = await self._call(
            snapshot, lzc.lzc_send_space, check_snapshot(snapshot).encode(), start, _RAW if raw else _PLAIN
        )
        return size

    async def load_key(self, dataset: str, passphrase: bytes) -> None:
        options = ["-L", "prompt", check_dataset(dataset)]
        line = _line(dataset, passphrase)
        try:
            await run(dataset, "zfs", "load-key", *options, stdin=line)
        except ZfsError as error:
            if "already loaded" not in error.detail:
                raise
            await self.check_key(dataset, passphrase)

    async def check_key(self, dataset: str, passphrase: bytes) -> None:
        options = ["-n", "-L", "prompt", check_dataset(dataset)]
        await run(dataset, "zfs", "load-key", *options, stdin=_line(dataset, passphrase))

    async def change_key(self, dataset: str, passphrase: bytes) -> None:
        options = ["-o", "keyformat=passphrase", "-o", "keylocation=prompt", check_dataset(dataset)]
        await run(dataset, "zfs", "change-key", *options, stdin=_line(dataset, passphrase))

    async def inherit_key(self, dataset: str) -> None:
        if (await self.get(dataset, ["keystatus"]))["keystatus"].value == "available":
            raise errors.Busy(dataset, "its key is loaded")
        await self._call(dataset, lzc.lzc_change_key, check_dataset(dataset).encode(), "force_inherit")

    async def mount(self, dataset: str) -> None:
        try:
            await run(dataset, "zfs", "mount", check_dataset(dataset))
        except ZfsError as error:
            if "already mounted" not in error.detail:
                raise

    async def unmount(self, dataset: str) -> None:
        try:
            await run(dataset, "zfs", "unmount", check_dataset(dataset))
        except ZfsError as error:
            if "not currently mounted" not in error.detail:
                raise


def load_libraries() -> None:
    """Find and load the C libraries now, for the children of a fork; ZFS itself is not called.

    libzfs_core does it at its first call otherwise, and runs ldconfig for each to find it.
    """
    for library, call in ((bindings.libzfs_core, "lzc_send"), (bindings.libnvpair, "nvlist_free")):
        getattr(library.lib, call)


class LibZfsStreams:
    """`zfs.door.Streams` on this host. Both calls block until the stream's end."""

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        name = check_snapshot(snapshot).encode()
        start = None if base is None else base.encode()
        flags = _RAW if raw else _PLAIN
        if resume is None:
            _translated(snapshot, lzc.lzc_send, name, start, fd, flags)
        else:
            _translated(snapshot, lzc.lzc_send_resume, name, start, fd, flags, *resume)

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        name = check_snapshot(snapshot).encode()
        _translated(snapshot, lzc.lzc_receive_resumable, name, fd, False, raw)


def _translated(name: str, function: Callable[..., T], *arguments: object) -> T:
    try:
        return function(*arguments)
    except lzc_errors.MultipleOperationsFailure as error:
        raise _first(name, error) from error
    except lzc_errors.ZFSError as error:
        raise of_exception(error, name) from error


def _first(name: str, error: Exception) -> ZfsError:
    """Of a compound error the first part; its own name where it has one."""
    part = _parts(error)[0]
    return of_exception(part, _name_of(part) or name)


def _refused(function: Callable[..., object], *arguments: object) -> dict[str, ZfsError]:
    """Call something that reports per name; what it refused, under "" where ZFS did not say which."""
    try:
        function(*arguments)
    except lzc_errors.MultipleOperationsFailure as error:
        return {_name_of(part): of_exception(part, _name_of(part)) for part in _parts(error)}
    return {}


def _hold(tag: bytes, snapshots: list[str]) -> list[str]:
    """Hold them, or none if one cannot be; those that *tag* holds already are left out. The missing ones.

    ZFS tells of the first that is held already, and of no other (dsl_dataset_user_hold_check).
    """
    wanted = {name.encode(): tag for name in snapshots}
    while wanted:
        try:
            return [os.fsdecode(name) for name in lzc.lzc_hold(wanted)]
        except lzc_errors.HoldFailure as error:
            there = {part.name for part in _parts(error) if isinstance(part, lzc_errors.HoldExists)}
            if not there & wanted.keys():
                raise
            wanted = {name: tag for name in wanted if name not in there}
    return []


def _program(pool: bytes, program: bytes, params: Mapping[bytes, object]) -> dict[str, int]:
    """What *program* says of each name."""
    said = lzc.lzc_channel_program(pool, program, params=params)
    return {os.fsdecode(name): int(number) for name, number in (said or {}).items()}


def _parts(error: Exception) -> list[Exception]:
    parts: list[Exception] = getattr(error, "errors", [])
    return parts


def _name_of(error: Exception) -> str:
    # ZFSGenericError of pyzfs 2.3.9 is made with name and message exchanged.
    for value in (getattr(error, "name", None), getattr(error, "message", None)):
        if isinstance(value, bytes):
            return os.fsdecode(value)
    return ""


def _any_name(name: str) -> str:
    return check_snapshot(name) if "@" in name else check_dataset(name)


def _assignments(properties: Mapping[str, str]) -> list[str]:
    return [f"{key}={value}" for key, value in properties.items()]


def _line(name: str, passphrase: bytes) -> bytes:
    if b"\n" in passphrase:
        raise errors.WrongKey(name, "a passphrase is one line")
    return passphrase + b"\n"


def _by_pool(names: Iterable[str]) -> list[list[str]]:
    """One call of libzfs_core concerns one pool."""
    return [list(group) for _, group in groupby(sorted(dict.fromkeys(names), key=pool_of), key=pool_of)]
