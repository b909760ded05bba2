"""What peers may ask about manifests: to keep theirs, to give it back, and of an admin to open what they inherit."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from mesh.codec import Malformed, from_base64, to_base64
from mesh.link_errors import Refusal
from mesh.sealed import BadSeal, read_inside, readers_of, unseal
from mesh.trust import Member
from node.manifest_store import MAX_SEALED, ManifestStore
from node.membership import Membership

PURPOSE = "manifest"


class ManifestDesk:
    """Answers. Raises `mesh.link_errors.Refusal` for what it will not do."""

    def __init__(self, mesh: Membership, store: ManifestStore, now: Callable[[], float]) -> None:
        self._mesh = mesh
        self._store = store
        self._now = now

    async def put(self, caller: Member, args: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the caller's own. Nothing of it can be read here, so only its form and size are looked at."""
        data = _sealed(args)
        try:
            await asyncio.to_thread(self._store.put, caller.id, data, int(self._now()))
        except OSError as error:
            raise Refusal("not_stored", f"the manifest cannot be stored: {error.strerror}", exit=1) from error
        return {}

    async def get(self, caller: Member, args: Mapping[str, Any]) -> dict[str, Any]:
        """One that the caller owns, or a node had that it succeeds; `back` counts from the newest."""
        owner, back = self._owned(caller, args), args.get("back", 0)
        if type(back) is not int:
            raise Refusal("bad_request", "'back' is no number", "")
        try:
            found = await asyncio.to_thread(self._store.get, owner, back)
        except OSError as error:
            raise Refusal("not_read", f"the manifest cannot be read: {error.strerror}", exit=1) from error
        if found is None:
            return {"data": None}
        return {"data": to_base64(found.data), "received": found.received, "count": found.count}

    async def open(self, caller: Member, args: Mapping[str, Any]) -> dict[str, Any]:
        """Open what the caller inherits: its predecessor's key burned, and admins are readers for this hour.

        What the predecessor did not sign is not opened for anybody.
        """
        owner, data = self._owned(caller, args), _sealed(args)
        try:
            inside = unseal(data, self._mesh.identity)
            signer = read_inside(inside, self._mesh.view().mesh_id, PURPOSE).signer
        except BadSeal as error:
            raise Refusal("cannot_open", str(error), "") from error
        if signer != self._mesh.view().members[owner].public:
            raise Refusal("not_yours", "it is not signed by the node that it is said to be of", "")
        return {"inside": to_base64(inside)}

    def _owned(self, caller: Member, args: Mapping[str, Any]) -> str:
        owner = args.get("owner")
        if not isinstance(owner, str) or not self._mesh.view().may_read_root(caller.id, owner):
            raise Refusal("not_yours", "only its owner, or the node that succeeds it, reads a manifest", "")
        return owner


def _sealed(args: Mapping[str, Any]) -> bytes:
    """The sealed bytes of a request. Raises Refusal."""
    text = args.get("data")
    if not isinstance(text, str) or len(text) > MAX_SEALED * 4 // 3 + 4:
        raise Refusal("bad_manifest", f"a manifest has at most {MAX_SEALED} bytes", "")
    try:
        data = from_base64(text)
        readers_of(data)
    except (Malformed, BadSeal) as error:
        raise Refusal("bad_manifest", f"this is no sealed manifest: {error}", "") from error
    if len(data) > MAX_SEALED:
        raise Refusal("bad_manifest", f"a manifest has at most {MAX_SEALED} bytes", "")
    return data
