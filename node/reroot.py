"""After a restore: the datasets that had their key from one above them at home have it from there again.

Each was received by itself and is an encryption root of its own. Where that is sound one passphrase opens the whole
tree afterwards (`replication/encryption_roots.py`); where it is not, each stays as it is and is opened by itself.
"""

from collections.abc import Mapping
from typing import Any

from replication.encryption_roots import Restored, repairs
from zfs import errors
from zfs.door import Zfs

FACTS = ("keyformat", "pbkdf2salt", "pbkdf2iters")


async def inherit_again(
    zfs: Zfs, placed: Mapping[str, str], roots: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    """What was done and what was not, and why. Never raises for one dataset: it only stays what it is.

    *placed* gives for a dataset's name at home the one here, *roots* its encryption root at home, by names at home.
    """
    found = [
        seen
        for home, here in placed.items()
        if roots.get(home) is not None and (seen := await _look(zfs, here, placed.get(roots[home] or "")))
    ]
    done = []
    for one in repairs(found):
        reason, inherits = one.reason, one.inherit
        if inherits:
            try:
                await zfs.inherit_key(one.dataset)
            except errors.ZfsError as error:
                reason, inherits = str(error), False
        done.append({"dataset": one.dataset, "inherits": inherits, "why": reason})
    return done


async def _look(zfs: Zfs, name: str, root_at_home: str | None) -> Restored | None:
    try:
        here = await zfs.dataset(name)
        facts = await zfs.get(name, FACTS)
    except errors.ZfsError:  # nothing to repair of what is not here
        return None
    return Restored(
        name,
        here.encryption_root,
        facts["keyformat"].value,
        _number(facts["pbkdf2salt"].value),
        _number(facts["pbkdf2iters"].value),
        here.keystatus == "available",
        root_at_home,
    )


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0
