"""Which of some guids are snapshots of ours: whether a copy that lies elsewhere is one of a dataset here.

Who asks has the guids already, or gets nothing: they are 64 random bits, and only those that were named are told.
"""

from collections.abc import Mapping
from typing import Any

from mesh.link_errors import Refusal
from node.offers import dataset_of
from zfs import errors
from zfs.door import Zfs

MAX_GUIDS = 4096
_MAX_64 = (1 << 64) - 1


async def recognised(zfs: Zfs, args: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to ``replica.recognise``. Raises Refusal. A dataset that is not here knows none."""
    dataset, guids = dataset_of(args), _guids(args)
    try:
        look = await zfs.look(dataset)
    except errors.NotFound:
        return {"known": [], "encrypted": False}
    except errors.ZfsError as error:
        raise Refusal("zfs_failed", str(error), exit=1) from error
    here = {one.guid for one in look.snapshots} | {one.guid for one in look.bookmarks}
    known = [guid for guid in guids if guid in here]
    return {"known": known, "encrypted": bool(known) and look.dataset.encrypted}


def _guids(args: Mapping[str, Any]) -> list[int]:
    guids = args.get("guids")
    if (
        not isinstance(guids, list)
        or len(guids) > MAX_GUIDS
        or not all(type(one) is int and 0 < one <= _MAX_64 for one in guids)
    ):
        raise Refusal("bad_request", f"'guids' is not a list of at most {MAX_GUIDS} snapshots' guids", "")
    return guids
