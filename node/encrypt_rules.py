"""Encrypting a plaintext dataset: what stands in the way, and what is remembered between runs. Pure."""

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass

from node.errors import Exit, MeshkeepError
from zfs.model import Dataset, Look, Snapshot
from zfs.names import InvalidName, check_dataset, check_snapshot, parent_of

MARK = "meshkeep:encrypting"
"""On the vessel: what is remembered. What has no such mark is never destroyed."""

HOLD = "meshkeep:encrypting"
PREFIX = "meshkeep_encrypt_"
"""Of the snapshots that are made for it, and destroyed at its end."""

VESSEL_PROPERTIES = {"canmount": "off", "mountpoint": "none"}
SAFE = {"canmount": "noauto"}

# These come with the stream, belong to the key, or are seen to one by one.
_NOT_CARRIED = frozenset(
    {
        "encryption",
        "keyformat",
        "keylocation",
        "pbkdf2iters",
        "volsize",
        "volblocksize",
        "readonly",
        "canmount",
    }
)


@dataclass(frozen=True, slots=True)
class State:
    """What was true of the dataset before; `old` is its name to be. `readonly`, `canmount`: as set on it, or None.
    `compared`: the copy was found to be as the dataset, which nobody could write to since.
    """

    dataset: str
    old: str
    mounted: bool
    readonly: str | None = None
    canmount: str | None = None
    guid: int = 0
    compared: bool = False

    @property
    def vessel(self) -> str:
        """The encryption root in which the copy is made."""
        return f"{self.dataset}-encrypted"

    @property
    def new(self) -> str:
        """The copy, until it takes the name of the dataset."""
        return f"{self.vessel}/new"

    def dump(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def load(text: str) -> State:
    """The inverse of `State.dump`. Raises MeshkeepError for what is not of its form."""
    try:
        return State(**json.loads(text))
    except (ValueError, TypeError) as error:
        raise MeshkeepError(
            "what was noted of the encryption under way makes no sense", code="bad_note", why=str(error)
        ) from error


def begin(here: Dataset, own: dict[str, str], now: float) -> State:
    """What is remembered of *here*. Raises MeshkeepError where the names would be too long."""
    old = f"{here.name}-plain-{time.strftime('%Y-%m-%d', time.gmtime(now))}"
    state = State(here.name, old, here.mounted, own.get("readonly"), own.get("canmount"), here.guid)
    try:
        check_dataset(old)
        check_snapshot(f"{state.new}@{PREFIX}{int(now)}_99")
    except InvalidName as error:
        raise _refused(f"{here.name} cannot be encrypted", "bad_name", str(error), "") from error
    return state


def judge(
    tree: Sequence[Dataset], taken: Collection[str], state: State, *, shared_with: Sequence[str], told: bool
) -> None:
    """Raises MeshkeepError with the first reason why not. `taken` are names that exist, `told`: though it is shared."""
    here = tree[0]
    if here.encrypted:
        raise _refused(
            f"{here.name} is encrypted already",
            "already_encrypted",
            f"its key is that of {here.encryption_root}",
            "",
        )
    if parent_of(here.name) is None:
        raise _refused(
            f"{here.name} is a pool, and a pool cannot take another's place",
            "a_pool",
            "",
            "encrypt the datasets in it, one by one",
        )
    if len(tree) > 1:
        raise _refused(
            f"{here.name} has datasets below it: {', '.join(one.name for one in tree[1:4])}",
            "has_children",
            "one dataset is encrypted at a time, and those below it would be carried away with the old one",
            f"move them first: zfs rename {tree[1].name} {parent_of(here.name)}/NAME",
        )
    clash = next((name for name in (state.vessel, state.old) if name in taken), None)
    if clash is not None:
        raise _refused(f"{clash} is there already", "place_taken", "nothing is overwritten", "zfs rename it")
    if shared_with and not told:
        raise _refused(
            f"{here.name} is shared with {', '.join(shared_with)}",
            "shared",
            "what they have open is lost when the encrypted dataset takes its place; they have to mount it anew",
            "if that is well: --though-shared",
        )
    if here.used > here.available:
        raise _refused(
            f"there is no room for a second {here.name}",
            "no_room",
            f"it has {here.used} bytes with its snapshots, and {here.available} are free",
            "free some, or destroy old snapshots: meshkeep prune -n",
        )


def following(
    source: Sequence[Snapshot], have: Sequence[Snapshot], label: str
) -> tuple[Snapshot | None, Snapshot | None]:
    """(base, next): what is to be sent next, None where there is nothing. Raises MeshkeepError without common base."""
    if not have:
        return None, source[0] if source else None
    place = next((at for at, one in enumerate(source) if one.guid == have[-1].guid), None)
    if place is None:
        raise _refused(
            f"{label}@{have[-1].name} is in the encrypted copy and not in the dataset any more",
            "base_lost",
            "what was written since cannot be added to it",
            f"meshkeep encrypt --abort {label}, and begin again",
        )
    rest = source[place + 1 :]
    return source[place], rest[0] if rest else None


def same_history(source: Look, copy: Look) -> None:
    """Every snapshot is there, by guid and in order, and nothing was written since. Raises MeshkeepError."""
    if source.dataset.written:
        raise MeshkeepError(
            f"{source.dataset.name} was written to while it was not mounted ({source.dataset.written} bytes)",
            code="written_meanwhile",
            hint="the same command goes on",
        )
    wanted, found = ([(one.name, one.guid) for one in look.snapshots] for look in (source, copy))
    missing = [name for name, guid in wanted if (name, guid) not in found]
    if wanted != found:
        raise MeshkeepError(
            f"the copy of {source.dataset.name} has not the same snapshots",
            code="copy_differs",
            why=f"missing: {', '.join(missing[:5])}" if missing else "there are more, or in another order",
            hint="the same command goes on; or meshkeep encrypt --abort",
        )


def whereabouts(state: State, here: Look | None, old: Look | None) -> bool:
    """Whether the old one has left its name to the copy; *here* and *old* are what has either name now.

    Raises MeshkeepError where neither is the dataset: a person renamed it, or made another.
    """
    if here is not None and here.dataset.guid == state.guid:
        return False
    left = old is not None and old.dataset.guid == state.guid
    if left and (here is None or here.dataset.encrypted):
        return True
    raise _not_the_dataset(state, f"{state.dataset} is another dataset" if here else "that name is free")


def left_uncompared(state: State) -> MeshkeepError:
    """The old one left its name, and not by us."""
    return _not_the_dataset(state, f"it was renamed to {state.old} before the copy was compared with it")


def _not_the_dataset(state: State, why: str) -> MeshkeepError:
    return _refused(
        f"{state.dataset} is not the dataset any more that was being encrypted",
        "not_the_dataset",
        f"{why}; nothing takes its place unless it was compared",
        f"zfs rename it back to {state.dataset}; then the same command, or meshkeep encrypt --abort {state.dataset}",
    )


def carried(own: dict[str, str]) -> dict[str, str]:
    """What is set on the old dataset and goes over to the new one."""
    return {name: value for name, value in sorted(own.items()) if name not in _NOT_CARRIED}


def undo(state: State) -> list[str]:
    """Commands that put the plaintext dataset back."""
    back = f"zfs set readonly={state.readonly or 'off'} canmount={state.canmount or 'on'} {state.dataset}"
    return [
        f"zfs unmount {state.dataset}",
        f"zfs rename {state.dataset} {state.dataset}-undone",
        f"zfs set canmount=noauto {state.dataset}-undone",
        f"zfs rename {state.old} {state.dataset}",
        back,
        f"zfs mount {state.dataset}",
    ]


def _refused(what: str, code: str, why: str, hint: str) -> MeshkeepError:
    return MeshkeepError(what, code=code, exit=Exit.REFUSED, why=why, hint=hint)
