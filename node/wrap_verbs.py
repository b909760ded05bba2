"""The verbs about archived wraps: what a keeper has, and putting one back on what was restored from it."""

from collections.abc import Mapping
from typing import Any

from node.api import Request
from node.errors import Exit, MeshkeepError
from node.membership import Membership
from node.wrap_back import SHORT, Wrap, WrapBack
from zfs.names import InvalidName, check_dataset
from zfs.stream import crypt_payload


class WrapVerbs:
    """Handlers."""

    def __init__(self, mesh: Membership, back: WrapBack) -> None:
        self._mesh = mesh
        self._back = back

    async def listing(self, request: Request) -> dict[str, Any]:
        """``restore.wraps``"""
        found = await self._found(request.args)
        return {"schema": "meshkeep.restore-wraps/1", "wraps": [_as_json(one) for one in found]}

    async def put(self, request: Request) -> dict[str, Any]:
        """``restore.wrap``: put the one named by the beginning of its `fingerprint` back on the dataset `to`."""
        to, wanted = _dataset(request.args, "to"), str(request.args.get("fingerprint") or "")
        chosen = [one for one in await self._found(request.args) if one.fingerprint.startswith(wanted)]
        if len(wanted) < SHORT or len(chosen) != 1:
            raise MeshkeepError(
                f"no one archived key begins with {wanted!r}",
                code="no_wrap",
                exit=Exit.NOT_FOUND,
                hint=f"meshkeep restore wrap {to} --from {request.args.get('from')}",
            )
        key = request.args.get("key")
        done = await self._back.put_back(to, chosen[0], None if key is None else str(key).encode())
        return {"schema": "meshkeep.restore-wrap/1", **done}

    async def _found(self, args: Mapping[str, Any]) -> list[Wrap]:
        owner = args.get("owner")
        if owner is not None:
            view = self._mesh.view()
            member = view.by_name(str(owner)) or view.members.get(str(owner))
            owner = member.id if member else str(owner)
        return await self._back.wraps(str(args.get("from")), owner, _dataset(args, "dataset"))


def _as_json(one: Wrap) -> dict[str, Any]:
    key = crypt_payload(one.payload)
    return {
        "fingerprint": one.fingerprint,
        "current": one.current,
        "salt": f"{key.pbkdf2_salt:016x}" if key and key.pbkdf2_salt else None,
    }


def _dataset(args: Mapping[str, Any], key: str) -> str:
    try:
        return check_dataset(str(args.get(key) or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None
