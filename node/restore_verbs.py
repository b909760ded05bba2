"""The verbs of the local API that bring data back. They always wait: the command is the job."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from mesh.identity import Identity
from node.api import Request
from node.copies import keepers
from node.drill import FILES, Drill
from node.errors import Exit, MeshkeepError
from node.file_fetch import FileFetcher, WantedFile
from node.manifest_apply import Giver
from node.manifests import as_json, recovery_key
from node.membership import Membership
from node.restore import Restorer, Wanted
from node.restore_host import HostRestorer, HostWanted, mapping_of, missing_copies
from zfs.names import InvalidName, check_dataset


class RestoreVerbs:
    """Handlers. An owner may be named by its node's name or id."""

    def __init__(
        self,
        mesh: Membership,
        restorer: Restorer,
        host: HostRestorer,
        giver: Giver,
        drill: Drill,
        files: FileFetcher,
    ) -> None:
        self._mesh = mesh
        self._restorer = restorer
        self._host = host
        self._giver = giver
        self._drill = drill
        self._files = files

    async def dataset(self, request: Request) -> dict[str, Any]:
        """One dataset, and if asked for the properties that it had at home."""
        args = request.args
        wanted, also = self._wanted(args), _texts(args, "property")
        report = {"schema": "meshkeep.restore/1", **await self._restorer.restore(wanted, request.progress)}
        plain = bool(args.get("properties"))
        if plain or also:
            gathered = await self._giver.fetch(keepers(self._mesh), report["owner"], wanted.recovery)
            report["properties"] = await self._giver.dataset(
                gathered, wanted.dataset, wanted.to, plain=plain, also=also
            )
        return report

    async def plan(self, request: Request) -> dict[str, Any]:
        """What `dataset` would do, and from where. Changes nothing."""
        return {"schema": "meshkeep.restore-plan/1", **await self._restorer.plan(self._wanted(request.args))}

    async def host(self, request: Request) -> dict[str, Any]:
        """All that other nodes keep of this one and of those that it succeeds; with `plan` only what would be."""
        args = request.args
        node, on_paper, apply = args.get("from"), bool(args.get("plan")), bool(args.get("apply_manifest"))
        wanted = HostWanted(
            peer=None if node is None else self._mesh.peer(str(node)),
            owner=self._owner(args),
            mapping=mapping_of(_texts(args, "map")),
            accept_unlisted=bool(args.get("accept_unlisted")),
            older=bool(args.get("older")),
            recovery=self._recovery(args),
        )
        also, recovery = _texts(args, "property"), wanted.recovery
        peers = keepers(self._mesh) if wanted.peer is None else [wanted.peer]
        gathered = await self._giver.fetch(peers, wanted.owner, recovery)
        done = await (self._host.plan(wanted) if on_paper else self._host.run(wanted, request.progress))
        known = {facts.name for one in gathered.found for facts in one.manifest.datasets}
        missing = missing_copies(done["outcomes"], known)
        properties: list[dict[str, Any]] = []
        files: list[dict[str, str]] = []
        if gathered.found and not on_paper:
            properties = [
                await self._giver.dataset(gathered, one["dataset"], one["to"], plain=apply, also=also)
                for one in done["outcomes"]
                if one["state"] in ("restored", "present")
            ]
        keys: list[dict[str, Any]] = []
        if not on_paper:
            told = [facts for one in reversed(gathered.found) for facts in one.manifest.datasets]
            keys = await self._host.inherit_keys(
                done["outcomes"], {facts.name: facts.encryption_root for facts in told}
            )
        if apply and not on_paper:
            files = self._giver.files(gathered, self._mesh.me().id, renamed=bool(wanted.mapping))
        unknown = apply and not gathered.found
        return {
            "schema": "meshkeep.restore-host/1",
            **done,
            "plan": on_paper,
            "manifest": as_json(gathered),
            "missing": missing,
            "properties": properties,
            "keys": keys,
            "files": files,
            "partial": done["partial"] or bool(missing) or unknown or any(map(_unset, properties)),
        }

    async def drill(self, request: Request) -> dict[str, Any]:
        """Prove that a copy can be restored; `key` is the passphrase, if it is to be opened."""
        args = request.args
        node, key = args.get("from"), args.get("key")
        report = await self._drill.run(
            _dataset(args, "dataset"),
            None if node is None else str(node),
            None if key is None else str(key).encode(),
            None if args.get("all") else FILES,
            request.progress,
        )
        return {"schema": "meshkeep.restore-drill/1", **report}

    async def file(self, request: Request) -> dict[str, Any]:
        """A file or directory out of a copy on another node, put where `to` says."""
        args = request.args
        node, key, before = args.get("from"), args.get("key"), args.get("before")
        if before is not None and type(before) is not int:
            raise MeshkeepError("'before' is no time", code="bad_request", exit=Exit.USAGE)
        wanted = WantedFile(
            _dataset(args, "dataset"),
            PurePosixPath(_path(args, "path")),
            None if node is None else str(node),
            Path(_path(args, "to")),
            _short(args.get("at")),
            before,
            None if key is None else str(key).encode(),
        )
        return {"schema": "meshkeep.restore-file/1", **await self._files.fetch(wanted, request.progress)}

    async def copies(self, request: Request) -> dict[str, Any]:
        """Who keeps copies of a dataset, from when to when, and who could not be asked."""
        dataset = _dataset(request.args, "dataset")
        found = await self._restorer.copies.everywhere()
        return {
            "schema": "meshkeep.restore-copies/1",
            "copies": [
                {
                    "node": one.peer.name,
                    "encrypted": one.encrypted,
                    "snapshots": len(one.snapshots),
                    "oldest": one.snapshots[0].creation,
                    "newest": one.newest.creation,
                }
                for one in found.copies
                if one.dataset == dataset and one.credible
            ],
            "silent": [{"node": one.node, "why": one.why} for one in found.silent],
        }

    def _recovery(self, args: Mapping[str, Any]) -> Identity | None:
        return recovery_key(self._mesh, args.get("words"))

    def _wanted(self, args: Mapping[str, Any]) -> Wanted:
        node, before = args.get("from"), args.get("before")
        if before is not None and type(before) is not int:
            raise MeshkeepError("'before' is no time", code="bad_request", exit=Exit.USAGE)
        return Wanted(
            dataset=_dataset(args, "dataset"),
            node=None if node is None else str(node),
            to=_dataset(args, "to"),
            at=_short(args.get("at")),
            owner=self._owner(args),
            before=before,
            accept_unlisted=bool(args.get("accept_unlisted")),
            older=bool(args.get("older")),
            recovery=self._recovery(args),
        )

    def _owner(self, args: Mapping[str, Any]) -> str | None:
        owner = args.get("owner")
        if owner is None:
            return None
        view = self._mesh.view()
        member = view.by_name(str(owner)) or view.members.get(str(owner))
        return member.id if member else str(owner)


def _unset(one: Mapping[str, Any]) -> bool:
    """Whether a property that was to be set is not."""
    return bool(one.get("failed"))


def _dataset(args: Mapping[str, Any], key: str) -> str:
    try:
        return check_dataset(str(args.get(key) or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None


def _path(args: Mapping[str, Any], key: str) -> str:
    value = args.get(key)
    if not isinstance(value, str) or not value or "\0" in value:
        raise MeshkeepError(f"{key!r} is no path", code="bad_request", exit=Exit.USAGE)
    return value


def _short(value: object) -> str | None:
    """A snapshot's name, with or without the dataset before the @."""
    return str(value).rpartition("@")[2] if value else None


def _texts(args: Mapping[str, Any], key: str) -> list[str]:
    value = args.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MeshkeepError(f"{key!r} is no list of words", code="bad_request", exit=Exit.USAGE)
    return value
