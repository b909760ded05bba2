"""Encrypting a plaintext dataset in place: copied into an encrypted one, compared, and the names exchanged.

The old dataset is kept under another name and never destroyed. Everything until the exchange can be aborted; whatever
ends it in between, the same command goes on.
"""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.encrypt_rules import (
    HOLD,
    MARK,
    PREFIX,
    SAFE,
    VESSEL_PROPERTIES,
    State,
    begin,
    carried,
    following,
    judge,
    left_uncompared,
    load,
    same_history,
    undo,
    whereabouts,
)
from node.errors import Exit, MeshkeepError
from node.local_state import LocalState
from node.local_streams import copy
from node.transfers import Workers, watched
from node.trees import Compared, compare
from replication.errors import TransferFailed
from replication.jobs import ReceiveStep, SendStep
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look, Snapshot

log = logging.getLogger(__name__)

LAST_LOOK = 40
"""Files that are compared once more while nobody can write."""

Tell = Callable[[Mapping[str, Any]], Awaitable[None]]
View = Callable[[str], AbstractAsyncContextManager[Path]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """`limit` is how many random files are compared, None for all of them."""

    dataset: str
    limit: int | None = None
    though_shared: bool = False


class Encryptor:
    """One at a time. `view` mounts a snapshot where only root comes; `shared` says to whom a dataset is shared, and
    `rules` which nodes get copies of it.
    """

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        local: LocalState,
        view: View,
        *,
        shared: Callable[[str], Sequence[str]],
        rules: Callable[[str], Sequence[str]],
        now: Callable[[], float],
        compare: Callable[[Path, Path, int | None], Compared] = compare,
    ) -> None:
        self._zfs = zfs
        self._workers = workers
        self._local = local
        self._view = view
        self._shared = shared
        self._rules = rules
        self._now = now
        self._compare = compare
        self._turn = asyncio.Lock()

    async def plan(self, wanted: Wanted) -> dict[str, Any]:
        """What `run` would do. Changes nothing. Raises MeshkeepError where that would be refused."""
        state = await self._noted(wanted.dataset)
        under_way = state is not None
        if state is None:
            state = await self._fresh(wanted)
        here = await self._look(wanted.dataset) or await self._look(state.old)
        return {
            "dataset": state.dataset,
            "new": state.new,
            "old": state.old,
            "under_way": under_way,
            "snapshots": len(here.snapshots) if here else 0,
            "bytes": here.dataset.used if here else 0,
            "mounted": state.mounted,
            "shared": list(self._shared(state.dataset)),
            "rules": list(self._rules(state.dataset)),
        }

    async def run(self, wanted: Wanted, passphrase: bytes, progress: Tell) -> dict[str, Any]:
        """Raises MeshkeepError; what was done by then stays, and the same again goes on with it."""
        async with self._alone():
            try:
                return await self._run(wanted, passphrase, progress)
            except errors.WrongKey as error:
                raise MeshkeepError(
                    "that is not a passphrase for it", code="wrong_key", exit=Exit.REFUSED, why=str(error)
                ) from error
            except errors.ZfsError as error:
                raise _stopped(wanted.dataset, "zfs_failed", str(error)) from error
            except TransferFailed as error:
                raise _stopped(wanted.dataset, error.code, error.text) from error
            except OSError as error:
                raise _stopped(wanted.dataset, "not_compared", str(error)) from error

    async def abort(self, dataset: str) -> dict[str, Any]:
        """Destroy the copy, and leave the dataset as it was. Raises MeshkeepError where the names were exchanged."""
        async with self._alone():
            state = await self._noted(dataset)
            if state is None:
                raise MeshkeepError(
                    f"no encryption of {dataset} is under way", code="nothing_to_abort", exit=Exit.NOT_FOUND
                )
            left = await self._has_left(state)
            if left and await self._look(dataset) is not None:
                raise MeshkeepError(
                    f"{dataset} is encrypted already",
                    code="too_late",
                    exit=Exit.REFUSED,
                    why=f"the old one is {state.old}",
                    hint="meshkeep encrypt goes on to its end; then: " + " && ".join(undo(state)),
                )
            if left:
                await self._zfs.rename(state.old, dataset)
            await self._thaw(state)
            await self._let_go(dataset)
            await self._destroy_copy(state)
            await self._end(state)
            return {"dataset": dataset, "aborted": True}

    @contextlib.asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        if self._turn.locked():
            raise MeshkeepError("a dataset is being encrypted", code="encrypt_running", exit=Exit.REFUSED)
        async with self._turn:
            yield

    # -- the steps ---------------------------------------------------------------------------------------------

    async def _run(self, wanted: Wanted, passphrase: bytes, progress: Tell) -> dict[str, Any]:
        state = await self._noted(wanted.dataset)
        if state is None:
            self._local.end_restore(
                State(wanted.dataset, "", mounted=False).vessel
            )  # an end that was cut short
            state = await self._fresh(wanted)
            self._local.begin_restore(state.vessel)  # no policy and no rule goes into it
            await self._zfs.create(
                state.vessel, {**VESSEL_PROPERTIES, MARK: state.dump()}, passphrase=passphrase
            )
        checked = ["compared by an earlier run"]
        left = await self._has_left(state)
        if left and not state.compared:
            raise left_uncompared(state)
        await self._unlock(state, passphrase)
        if not left:
            checked = await self._copy_and_compare(state, wanted, passphrase, progress)
        await self._take_its_place(state)
        lost = await self._finish(state)
        return {
            "dataset": state.dataset,
            "old": state.old,
            "checked": checked,
            "not_carried": lost,
            "undo": undo(state),
            "rules": list(self._rules(state.dataset)),
        }

    async def _unlock(self, state: State, passphrase: bytes) -> None:
        await self._zfs.load_key(state.vessel, passphrase)
        for name in (state.new, state.dataset):
            copy_ = await self._look(name)
            if copy_ is not None and copy_.dataset.encryption_root == name:
                await self._zfs.load_key(name, passphrase)

    async def _copy_and_compare(
        self, state: State, wanted: Wanted, passphrase: bytes, progress: Tell
    ) -> list[str]:
        """Until the copy is as the dataset, which is read-only from then on. Returns how that was found out."""
        state = replace(state, compared=False)
        await self._note(state)
        await self._snapshot(state)
        await self._catch_up(state, progress)
        await self._own_key(state, passphrase)
        checked = [await self._compared(state, wanted.limit, progress)]
        await self._freeze(state)
        try:
            await self._snapshot(state)
            await self._catch_up(state, progress)
            source, made = await self._zfs.look(state.dataset), await self._zfs.look(state.new)
            same_history(source, made)
            few = LAST_LOOK if wanted.limit is None else min(LAST_LOOK, wanted.limit)
            checked.append(await self._compared(state, few, progress))
            await self._note(replace(state, compared=True))
            await self._zfs.rename(state.dataset, state.old)
        except BaseException:
            if await self._look(state.dataset) is not None:
                await self._note(state)
                await self._thaw(state)
            raise
        return checked

    async def _note(self, state: State) -> None:
        await self._zfs.set(state.vessel, {MARK: state.dump()})

    async def _freeze(self, state: State) -> None:
        """Nobody writes to it any more. Unmounted, not only read-only: what programs have mapped is written by that."""
        try:
            await self._zfs.unmount(state.dataset)
            await self._zfs.set(state.dataset, {"readonly": "on", "canmount": "noauto"})
        except errors.ZfsError as error:
            await self._thaw(state)
            raise MeshkeepError(
                f"{state.dataset} is in use, so the encrypted one did not take its place",
                code="in_use",
                exit=Exit.REFUSED,
                why=f"{error}; the copy stays, and {state.dataset} can be written to as before",
                hint="who uses it: fuser -vm MOUNTPOINT; then the same command again",
            ) from error

    async def _snapshot(self, state: State) -> None:
        """Always a new one: what was written since the last would be left behind."""
        taken = {one.name for one in await self._zfs.snapshots(state.dataset)}
        names = (f"{PREFIX}{int(self._now())}_{number}" for number in itertools.count())
        await self._zfs.snapshot([f"{state.dataset}@{next(name for name in names if name not in taken)}"])

    async def _catch_up(self, state: State, progress: Tell) -> None:
        source = await self._held(state.dataset)
        while True:
            made = await self._look(state.new)
            base, step = following(source, made.snapshots if made else (), state.dataset)
            if step is None:
                return
            partial = made.resume if made else None
            resume = (partial.object, partial.offset) if partial and partial.to_guid == step.guid else None
            if partial is not None and resume is None:
                await self._zfs.abort_receive(state.new)
            await self._copy(state, base, step, resume, progress)
            await self._zfs.set(state.new, SAFE)

    async def _held(self, dataset: str) -> Sequence[Snapshot]:
        """Its snapshots, none of which goes until the end."""
        with contextlib.suppress(errors.NotFound):  # one that was pruned since: the others have it now
            await self._zfs.hold(HOLD, [one.full_name for one in await self._zfs.snapshots(dataset)])
        return await self._zfs.snapshots(dataset)

    async def _copy(
        self,
        state: State,
        base: Snapshot | None,
        step: Snapshot,
        resume: tuple[int, int] | None,
        progress: Tell,
    ) -> None:
        moved, total = (
            0,
            await self._zfs.send_size(step.full_name, base.full_name if base else None, raw=False),
        )

        def count(done: int) -> None:
            nonlocal moved
            moved = done

        async def tell() -> None:
            await progress({"snapshot": step.name, "bytes_done": moved, "bytes_total": max(total, moved)})

        into = ReceiveStep(f"{state.new}@{step.name}", step.guid, base.guid if base else None)
        async with watched(tell):
            await copy(
                self._workers,
                SendStep(step.full_name, base.full_name if base else None),
                into,
                resume=resume,
                progress=count,
            )

    async def _own_key(self, state: State, passphrase: bytes) -> None:
        """What inherits its key cannot leave its encryption root."""
        if (await self._zfs.dataset(state.new)).encryption_root != state.new:
            await self._zfs.change_key(state.new, passphrase)

    async def _compared(self, state: State, limit: int | None, progress: Tell) -> str:
        made = await self._zfs.look(state.new)
        newest, count = made.snapshots[-1], len(made.snapshots)
        if made.dataset.kind != "filesystem":
            return (
                f"@{newest.name}: {count} snapshots by guid; it is a volume, and no file in it was compared"
            )
        await progress({"text": "comparing"})
        async with (
            self._view(f"{state.dataset}@{newest.name}") as one,
            self._view(f"{state.new}@{newest.name}") as other,
        ):
            told = await asyncio.to_thread(self._compare, one, other, limit)
        if told.differ:
            raise MeshkeepError(
                f"the copy of {state.dataset} is not as the dataset",
                code="copy_differs",
                why="; ".join(told.differ),
                hint=f"nothing was exchanged; meshkeep encrypt --abort {state.dataset}, and zpool scrub",
            )
        return f"@{newest.name}: {count} snapshots by guid; {told.how}"

    async def _take_its_place(self, state: State) -> None:
        """The old one has left its name."""
        if await self._look(state.dataset) is None:
            await self._zfs.rename(state.new, state.dataset)

    async def _finish(self, state: State) -> list[str]:
        """Dress it as the old one was, mount it, let everything go that was made. Returns what could not be set."""
        left = []
        own = (await self._zfs.own_properties([state.old]))[state.old]
        for name, value in carried(own).items():
            try:
                await self._zfs.set(state.dataset, {name: value})
            except errors.ZfsError as error:
                log.warning("%s of %s was not carried over: %s", name, state.old, error)
                left.append(f"{name}={value}")
        if state.readonly is not None:
            await self._zfs.set(state.dataset, {"readonly": state.readonly})
        await self._zfs.set(state.dataset, {"canmount": state.canmount or "on"})
        if state.mounted:
            await self._zfs.mount(state.dataset)
        for name in (state.old, state.dataset):
            await self._let_go(name)
        await self._zfs.destroy_dataset(state.vessel)
        await self._end(state)
        log.warning("%s is encrypted now; the old one is %s", state.dataset, state.old)
        return left

    # -- taking back -------------------------------------------------------------------------------------------

    async def _thaw(self, state: State) -> None:
        """As it was before: written to, mounted."""
        for name, value in (("readonly", state.readonly), ("canmount", state.canmount)):
            if value is not None:
                await self._zfs.set(state.dataset, {name: value})
            elif name == "canmount":
                await self._zfs.set(state.dataset, {name: "on"})  # what nobody set, and cannot be inherited
            else:
                await self._zfs.inherit(state.dataset, name)
        if state.mounted:
            await self._zfs.mount(state.dataset)

    async def _let_go(self, dataset: str) -> None:
        """The holds, and the snapshots that were made for it; one that somebody else holds stays."""
        snapshots = await self._zfs.snapshots(dataset)
        await self._zfs.release(HOLD, [one.full_name for one in snapshots])
        ours = [one.full_name for one in snapshots if one.name.startswith(PREFIX)]
        for name, why in (await self._zfs.destroy_snapshots(ours)).items():
            log.warning("%s stays: %s", name, why)

    async def _destroy_copy(self, state: State) -> None:
        made = await self._look(state.new)
        if made is not None:
            if made.resume is not None:
                await self._zfs.abort_receive(state.new)
            await self._zfs.unmount(state.new)
            failed = await self._zfs.destroy_snapshots([one.full_name for one in made.snapshots])
            for error in failed.values():
                raise error
        with contextlib.suppress(
            errors.NotFound
        ):  # one that was only a partly received stream is gone by now
            await self._zfs.destroy_dataset(state.new)
        await self._zfs.destroy_dataset(state.vessel)

    async def _end(self, state: State) -> None:
        self._local.end_restore(state.vessel)

    # -- looking -----------------------------------------------------------------------------------------------

    async def _has_left(self, state: State) -> bool:
        return whereabouts(state, await self._look(state.dataset), await self._look(state.old))

    async def _look(self, name: str) -> Look | None:
        try:
            return await self._zfs.look(name)
        except errors.NotFound:
            return None

    async def _noted(self, dataset: str) -> State | None:
        """What an earlier run noted; None where none is under way."""
        vessel = State(dataset, "", mounted=False).vessel
        try:
            found = (await self._zfs.get(vessel, [MARK]))[MARK]
        except errors.NotFound:
            return None
        return load(found.value) if found.source == "local" else None

    async def _fresh(self, wanted: Wanted) -> State:
        """Raises MeshkeepError where it cannot be done."""
        try:
            tree = await self._zfs.datasets(wanted.dataset)
        except errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {wanted.dataset} here",
                code="no_dataset",
                exit=Exit.NOT_FOUND,
                hint="zfs list",
            ) from None
        own = (await self._zfs.own_properties([wanted.dataset]))[wanted.dataset]
        state = begin(tree[0], own, self._now())
        taken = [name for name in (state.vessel, state.old) if await self._look(name) is not None]
        judge(tree, taken, state, shared_with=self._shared(wanted.dataset), told=wanted.though_shared)
        return state


def _stopped(dataset: str, code: str, why: str) -> MeshkeepError:
    return MeshkeepError(
        f"the encryption of {dataset} stopped",
        code=code,
        why=why,
        hint=f"the same command goes on; to leave it: meshkeep encrypt --abort {dataset}",
    )
