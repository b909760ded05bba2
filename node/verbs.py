"""The verbs of the local API that are about data: replicate, share, mount."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from node import settings_edit
from node.api import Request
from node.errors import Exit, MeshkeepError
from node.files import write_atomic
from node.jobs_verbs import run_rule
from node.membership import Membership
from node.replicator import Replicator
from node.settings import ConfigError, Settings
from node.sharing import Sharing
from replication.conflicts import Conflict
from replication.conflicts import plaintext as plaintext_conflict
from replication.history import OnDivergence, Rule, SourceHistory
from replication.steps import Abort, Full, Incremental, Plan, Resume, Rotate, Step, UpToDate
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Dataset
from zfs.names import InvalidName, check_dataset


async def _nothing(_: str) -> str:
    return ""


class DataVerbs:
    """Handlers. `reload` reads the configuration again after a command changed it."""

    def __init__(
        self,
        zfs: Zfs,
        membership: Membership,
        replicator: Replicator,
        sharing: Sharing,
        *,
        config: Path,
        settings: Callable[[], Settings],
        reload: Callable[[], Any],
        reminder: Callable[[str], Awaitable[str]] = _nothing,
    ) -> None:
        self._zfs = zfs
        self._mesh = membership
        self._replicator = replicator
        self._sharing = sharing
        self._conf_d = config / "conf.d"
        self._settings = settings
        self._reload = reload
        self._reminder = reminder

    @contextlib.contextmanager
    def _undone_unless_taken(self, name: str) -> Iterator[Path]:
        """A file of conf.d to edit; as it was again if the configuration with the edit has mistakes."""
        path = self._conf_d / name
        before = path.read_text(encoding="utf-8") if path.exists() else None
        try:
            yield path
        except ConfigError:
            if before is None:
                path.unlink(missing_ok=True)
            else:
                write_atomic(path, before)
            raise

    # -- replicate ---------------------------------------------------------------------------------------------

    async def replicate_add(self, request: Request) -> dict[str, Any]:
        """The rule, and unless told otherwise its first run."""
        dataset, target = _dataset(request.args), str(request.args.get("node"))
        peer = self._mesh.peer(target)
        if peer.id == self._mesh.identity.id:
            raise MeshkeepError(
                "a node cannot keep a replica for itself",
                code="self",
                exit=Exit.REFUSED,
                hint="meshkeep status",
            )
        if peer.role == "client":
            raise MeshkeepError(
                f"{peer.name} is a client and stores nothing", code="role_stores_nothing", exit=Exit.REFUSED
            )
        here = await self._here(dataset)
        if not here.encrypted:
            rule = Rule(peer.name, "vault" if peer.role == "vault" else "member", raw=False)
            raise _conflict(plaintext_conflict(SourceHistory(dataset, ()), rule))
        with self._undone_unless_taken("replicate.toml") as path:
            exclude = [check_dataset(str(one)) for one in request.args.get("exclude") or ()]
            recursive = bool(request.args.get("recursive"))
            diverged = _on_divergence(request.args)
            settings_edit.add_replicate(
                path, dataset, peer.name, recursive=recursive, exclude=exclude, on_divergence=diverged
            )
            await self._reload()
        await self._replicator.refresh()
        if reminder := await self._reminder(dataset):
            await request.progress({"text": reminder})
        if request.args.get("wait"):
            return {**await run_rule(self._replicator, request, dataset, peer.name), "key": reminder}
        return self._rule(dataset, peer.name, "meshkeep.replicate-add/1") | {"key": reminder}

    async def replicate_run(self, request: Request) -> dict[str, Any]:
        """Bring it up to date now."""
        dataset, target = _dataset(request.args), str(request.args.get("node"))
        jobs = self._replicator.of_rule(dataset, target)
        if request.args.get("wait"):
            return await run_rule(self._replicator, request, dataset, target)
        for job in jobs:
            job.wake.set()
        return self._rule(dataset, target, "meshkeep.replicate-run/1")

    async def replicate_pause(self, request: Request) -> dict[str, Any]:
        """Until it is resumed, over restarts too; what a run was sending goes on from there. The base is kept."""
        return await self._pause(request, paused=True)

    async def replicate_resume(self, request: Request) -> dict[str, Any]:
        """Go on where it was paused, at once."""
        return await self._pause(request, paused=False)

    async def _pause(self, request: Request, *, paused: bool) -> dict[str, Any]:
        dataset, target = _dataset(request.args), str(request.args.get("node"))
        job = self._replicator.job(dataset, target)
        if job.rule.dataset != dataset:
            word = "pause" if paused else "resume"
            raise MeshkeepError(
                f"{dataset} goes to {target} by the rule for {job.rule.dataset}",
                code="rule_of_tree",
                exit=Exit.REFUSED,
                hint=f"meshkeep replicate {word} {job.rule.dataset} {target}",
            )
        path = self._conf_d / "replicate.toml"
        if not settings_edit.pause_replicate(path, dataset, target, paused=paused):
            raise _elsewhere(dataset, target, path)
        await self._reload()
        return self._rule(dataset, target, f"meshkeep.replicate-{'pause' if paused else 'resume'}/1")

    def _rule(self, dataset: str, target: str, schema: str) -> dict[str, Any]:
        return {"schema": schema, **self._replicator.job(dataset, target).as_json()}

    async def replicate_list(self, _: Request) -> dict[str, Any]:
        return {
            "schema": "meshkeep.replicate-list/1",
            "rules": [job.as_json() for job in self._replicator.jobs],
        }

    async def replicate_remove(self, request: Request) -> dict[str, Any]:
        """The replica stays where it is; what was kept here for it is released."""
        dataset, target = _dataset(request.args), str(request.args.get("node"))
        jobs = self._replicator.of_rule(dataset, target)
        path = self._conf_d / "replicate.toml"
        if not settings_edit.remove_replicate(path, dataset, target):
            raise _elsewhere(dataset, target, path)
        await self._reload()
        member = self._mesh.view().by_name(target)
        still = {(job.dataset, job.target) for job in self._replicator.jobs}
        for job in jobs:
            if member is not None and (job.dataset, job.target) not in still and not job.vanished:
                await self._replicator.forget(job.dataset, member.id)
        return {"schema": "meshkeep.replicate-remove/1", "dataset": dataset, "node": target}

    async def replicate_plan(self, request: Request) -> dict[str, Any]:
        """What a run would do, and why. Changes nothing."""
        dataset, target = _dataset(request.args), str(request.args.get("node"))
        decided = await self._replicator.planned(dataset, target)
        if isinstance(decided, Conflict):
            raise _conflict(decided)
        return {
            "schema": "meshkeep.replicate-plan/1",
            "dataset": dataset,
            "node": target,
            "steps": [] if isinstance(decided, UpToDate) else [_step(step) for step in decided.steps],
            "raw": decided.raw if isinstance(decided, Plan) else None,
            "reasons": list(decided.reasons),
        }

    # -- shares ------------------------------------------------------------------------------------------------

    async def share_add(self, request: Request) -> dict[str, Any]:
        args = request.args
        dataset, node = _dataset(args), str(args.get("to"))
        peer = self._mesh.peer(node)
        if peer.role == "vault":
            raise MeshkeepError(
                f"{peer.name} is a vault and mounts nothing", code="vault_refuses", exit=Exit.REFUSED
            )
        here = await self._here(dataset)
        if not here.mounted:
            raise MeshkeepError(
                f"{dataset} is not mounted, so there is nothing to share",
                code="not_mounted",
                exit=Exit.REFUSED,
                hint=f"zfs mount {dataset}",
            )
        place = (await self._zfs.mountpoints([dataset]))[dataset]
        with self._undone_unless_taken("share.toml") as path:
            settings_edit.add_share(
                path,
                dataset,
                peer.name,
                access="rw" if args.get("rw") else "ro",
                squash=args.get("squash") or "all",
            )
            await self._reload()
        return {
            "schema": "meshkeep.share-add/1",
            "dataset": dataset,
            "to": peer.name,
            "path": place,
            "access": "rw" if args.get("rw") else "ro",
        }

    async def share_list(self, _: Request) -> dict[str, Any]:
        return {
            "schema": "meshkeep.share-list/1",
            "shares": [
                {"dataset": share.dataset, "to": node, "rw": share.access == "rw", "squash": share.squash}
                for share in self._settings().shares
                for node in share.to
            ],
        }

    async def share_remove(self, request: Request) -> dict[str, Any]:
        """What is withdrawn is gone when this returns."""
        dataset, only = _dataset(request.args), request.args.get("to")
        nodes = [
            n for s in self._settings().shares if s.dataset == dataset for n in s.to if only in (None, n)
        ]
        changed = [settings_edit.remove_share(self._conf_d / "share.toml", dataset, node) for node in nodes]
        if not any(changed):
            raise MeshkeepError(
                f"{dataset} is not shared{f' with {only}' if only else ''} by a command",
                code="not_shared",
                exit=Exit.NOT_FOUND,
                hint="meshkeep share list",
            )
        await self._reload()
        return {"schema": "meshkeep.share-remove/1", "dataset": dataset, "to": nodes}

    async def mount(self, request: Request) -> dict[str, Any]:
        args = request.args
        done = await self._sharing.mount(
            str(args.get("node")), args.get("dataset"), args.get("path"), str(args.get("dir"))
        )
        return {"schema": "meshkeep.mount/1", **done}

    async def umount(self, request: Request) -> dict[str, Any]:
        return {"schema": "meshkeep.umount/1", **await self._sharing.umount(str(request.args.get("dir")))}

    async def _here(self, dataset: str) -> Dataset:
        try:
            return await self._zfs.dataset(dataset)
        except zfs_errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {dataset} here", code="no_dataset", exit=Exit.NOT_FOUND, hint="zfs list"
            ) from None


def _dataset(args: Mapping[str, Any], key: str = "dataset") -> str:
    try:
        return check_dataset(str(args.get(key) or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None


def _on_divergence(args: Mapping[str, Any]) -> OnDivergence | None:
    told = args.get("on_divergence")
    if told not in (None, "conflict", "rotate"):
        raise MeshkeepError(
            "'on_divergence' is neither conflict nor rotate", code="bad_request", exit=Exit.USAGE
        )
    return None if told is None else "rotate" if told == "rotate" else "conflict"


def _elsewhere(dataset: str, target: str, path: Path) -> MeshkeepError:
    return MeshkeepError(
        f"the rule {dataset} to {target} was not made by a command",
        code="rule_elsewhere",
        exit=Exit.REFUSED,
        why=f"it does not stand in {path}",
        hint="change it in the file it stands in, then meshkeep config reload",
    )


def _conflict(conflict: Conflict) -> MeshkeepError:
    return MeshkeepError(
        conflict.text,
        code=conflict.kind,
        exit=Exit.REFUSED,
        why="; ".join(conflict.evidence),
        hint=conflict.hint,
    )


def _step(step: Step) -> dict[str, Any]:
    match step:
        case Abort():
            return {"kind": "abort", "text": f"drop what was partly received: {step.reason}"}
        case Rotate():
            return {"kind": "rotate", "text": step.reason}
        case Full():
            return {"kind": "full", "to": step.to.name, "text": f"send all of @{step.to.name}"}
        case Incremental():
            base = step.base.name
            text = f"send what changed from {base} to @{step.to.name}"
            return {"kind": "incremental", "from": base, "to": step.to.name, "text": text}
        case Resume():
            text = f"go on with @{step.to.name} where it was interrupted"
            return {"kind": "resume", "to": step.to.name, "text": text}
