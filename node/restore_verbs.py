"""The verbs of the local API that bring data back. They always wait: the command is the job."""

from collections.abc import Mapping
from typing import Any

from node.api import Request
from node.errors import Exit, MeshkeepError
from node.membership import Membership
from node.restore import Restorer, Wanted
from node.restore_host import HostRestorer, HostWanted, mapping_of
from zfs.names import InvalidName, check_dataset


class RestoreVerbs:
    """Handlers. An owner may be named by its node's name or id."""

    def __init__(self, mesh: Membership, restorer: Restorer, host: HostRestorer) -> None:
        self._mesh = mesh
        self._restorer = restorer
        self._host = host

    async def dataset(self, request: Request) -> dict[str, Any]:
        """One dataset."""
        report = await self._restorer.restore(self._wanted(request.args), request.progress)
        return {"schema": "meshkeep.restore/1", **report}

    async def plan(self, request: Request) -> dict[str, Any]:
        """What `dataset` would do, and from where. Changes nothing."""
        return {"schema": "meshkeep.restore-plan/1", **await self._restorer.plan(self._wanted(request.args))}

    async def host(self, request: Request) -> dict[str, Any]:
        """All that other nodes keep of this one and of those that it succeeds; with `plan` only what would be."""
        args = request.args
        node = args.get("from")
        wanted = HostWanted(
            peer=None if node is None else self._mesh.peer(str(node)),
            owner=self._owner(args),
            mapping=mapping_of(_texts(args, "map")),
        )
        if args.get("plan"):
            return {"schema": "meshkeep.restore-host/1", "plan": True, **await self._host.plan(wanted)}
        done = await self._host.run(wanted, request.progress)
        return {"schema": "meshkeep.restore-host/1", "plan": False, **done}

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
        )

    def _owner(self, args: Mapping[str, Any]) -> str | None:
        owner = args.get("owner")
        if owner is None:
            return None
        view = self._mesh.view()
        member = view.by_name(str(owner)) or view.members.get(str(owner))
        return member.id if member else str(owner)


def _dataset(args: Mapping[str, Any], key: str) -> str:
    try:
        return check_dataset(str(args.get(key) or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None


def _short(value: object) -> str | None:
    """A snapshot's name, with or without the dataset before the @."""
    return str(value).rpartition("@")[2] if value else None


def _texts(args: Mapping[str, Any], key: str) -> list[str]:
    value = args.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise MeshkeepError(f"{key!r} is no list of words", code="bad_request", exit=Exit.USAGE)
    return value
