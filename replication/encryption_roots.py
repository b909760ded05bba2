"""Whether encryption roots are what they were when a dataset was first sent, and what may inherit a key again. Pure.

A raw stream carries the wrapped key of its dataset, and a receive writes it over the replica's. A dataset that got
another encryption root since comes under another wrapping key, and so might its older snapshots over there
(openzfs#12614, #17425): that is for a person to say. Datasets received one by one are encryption roots of their own
(openzfs#15687), each with the wrap of the root that it had at home.

`DCP_CMD_FORCE_INHERIT` makes one of them inherit without touching its wrap: module/zfs/dsl_crypt.c checks only that it
is a root, is no clone, and that its parent is encrypted. So the rest is checked here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from replication.conflicts import Conflict
from zfs.names import is_below, parent_of

_RECORD = re.compile(r"([0-9]{1,20}):([0-9]{1,20})")

PASSPHRASE = "passphrase"


def record(dataset_guid: int, root_guid: int) -> str:
    """What is noted of a dataset. User properties are inherited: its own guid says that it is not its parent's."""
    return f"{dataset_guid}:{root_guid}"


def recorded(value: str | None, dataset_guid: int) -> int | None:
    """The guid of the root that was recorded for this very dataset; None for nothing."""
    match = _RECORD.fullmatch(value or "")
    return int(match[2]) if match and int(match[1]) == dataset_guid else None


@dataclass(frozen=True, slots=True)
class Rooted:
    """One encrypted dataset of the source: its encryption root now, and the guid of the one recorded (None: none)."""

    dataset: str
    root: str
    root_guid: int
    recorded: int | None


def drift(source: Rooted, target: str) -> Conflict | None:
    """Why the next raw incremental may not go, or None."""
    if source.recorded is None or source.recorded == source.root_guid:
        return None
    own = source.root == source.dataset
    now = "is an encryption root of its own now" if own else f"inherits its key from {source.root} now"
    return Conflict(
        "encryption_root_changed",
        (f"{source.dataset}: encryptionroot={source.root}, which is not the one when it was first sent",),
        f"{source.dataset} {now}, and did not when it was first sent. Its next stream would put another wrapped key "
        f"over the one that the older snapshots on {target} are opened with. If you did that, say so; {target} then "
        "asks at its own console whether the new key is to be taken. If you did not, somebody else did.",
        f"meshkeep replicate accept-root {source.dataset}",
    )


@dataclass(frozen=True, slots=True)
class Restored:
    """One dataset that was received raw, as it is here now. `salt`, `iterations`: 0 for a key that is no passphrase.

    `root` is its encryption root here. `root_at_home` is the dataset here that stands for the root it had at home; None
    where that is not known.
    """

    dataset: str
    root: str | None
    keyformat: str
    salt: int
    iterations: int
    loaded: bool
    root_at_home: str | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What to do about one dataset: `inherit` its parent's key again, or why not."""

    dataset: str
    inherit: bool
    reason: str


def repairs(restored: Sequence[Restored]) -> tuple[Repair, ...]:
    """For each that inherited its key at home and is a root of its own here, parents before children."""
    here: dict[str, Restored] = {}
    decided = []
    for one in sorted(restored, key=lambda each: (each.dataset.count("/"), each.dataset)):
        here[one.dataset] = one
        home = one.root_at_home
        if home is None or home == one.dataset or one.root != one.dataset:
            continue
        wrong = _why_not(one, home, here)
        if not wrong:
            here[one.dataset] = Restored(
                one.dataset, home, one.keyformat, one.salt, one.iterations, one.loaded, home
            )
        text = f"the same passphrase wraps it as {home}, which it inherited its key from at home"
        decided.append(Repair(one.dataset, not wrong, wrong or text))
    return tuple(decided)


def _why_not(one: Restored, home: str, here: Mapping[str, Restored]) -> str:
    """Empty where one wrapping key opens both. Its salt is drawn anew with every key: equal ones are one key."""
    root, parent = here.get(home), here.get(parent_of(one.dataset) or "")
    if root is None or not is_below(one.dataset, home):
        return f"{home}, whose key it had at home, is not here above it"
    if root.root != home:
        return f"{home} is no encryption root here"
    if parent is None or parent.root != home:
        return f"its parent does not have the key of {home} here, and only a parent's is inherited"
    if one.loaded:
        return f"its key is loaded: zfs unload-key {one.dataset} first"
    if one.keyformat != PASSPHRASE or root.keyformat != PASSPHRASE:
        return f"a {one.keyformat} key has no salt, so nothing shows that it is wrapped by the key of {home}"
    if not one.salt or (one.salt, one.iterations) != (root.salt, root.iterations):
        return f"it is wrapped by another key than {home}: their salts differ"
    return ""
