"""What a node offers back is held against what was sent there, before a stream of it is asked for.

What is not on the list is not asked for, what contradicts it makes the whole copy suspect, and what is older than what
others remember is said to be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal

from node.copies import Copy
from node.errors import Exit, MeshkeepError
from node.testimony import Testimony
from replication.ledger import Ledger
from replication.returning import Account, Age, Expected, age, expected, sort_out, together
from replication.rotation import is_aside, original

State = Literal["listed", "unlisted"]


@dataclass(frozen=True, slots=True)
class Vouched:
    """What speaks for a copy. `source` has the list, `left_out` are the names of snapshots that are not on it.

    `any_key`: somebody said that a key that is not listed will do.
    """

    ledger: Ledger | None
    source: str
    age: Age
    state: State
    left_out: tuple[str, ...] = ()
    any_key: bool = False

    def expected(self, to_guid: int, from_guid: int | None, *, encrypted: bool) -> Expected:
        """What the stream between these must begin with."""
        told = expected(self.ledger, to_guid, from_guid, encrypted=encrypted)
        return replace(told, keys=()) if self.any_key else told

    def as_json(self) -> dict[str, Any]:
        """`by` names who remembers that there is nothing newer, and when it heard that (epoch seconds)."""
        return {
            "list": self.state,
            "list_from": self.source or None,
            "left_out": list(self.left_out),
            "any_key": self.any_key,
            "age": self.age.state,
            "seen": self.age.seen,
            "by": [{"node": node, "at": at} for node, at in self.age.by],
            "why": self.age.why,
        }


async def vouched(copy: Copy, testimony: Testimony, *, accept_unlisted: bool = False) -> Copy:
    """*copy* with what is on the list only, unless all is accepted. Raises MeshkeepError where nothing is left."""
    sent_as = original(copy.dataset)
    accounts = await testimony.of(copy.owner, sent_as)
    ledger = together(sent_as, accounts)
    sorted_ = sort_out(ledger, copy.snapshots, encrypted=copy.encrypted)
    if sorted_.wrong:
        raise _contradicts(copy, sorted_.wrong)
    kept = copy.snapshots if accept_unlisted else sorted_.listed
    left_out = () if accept_unlisted else tuple(one.name for one in sorted_.unlisted)
    if not kept:
        raise _unlisted(copy, accounts)
    told = age(accounts, kept[-1].creation, copy.peer.name)
    if told.state == "forked":
        raise _forked(copy, told)
    state: State = "unlisted" if accept_unlisted and sorted_.unlisted else "listed"
    source = next((one.source for one in accounts if one.ledger is not None), "")
    return replace(
        copy, snapshots=kept, vouched=Vouched(ledger, source, told, state, left_out, accept_unlisted)
    )


async def vouched_all(
    copies: Sequence[Copy], testimony: Testimony, *, accept_unlisted: bool = False
) -> tuple[list[Copy], list[tuple[Copy, MeshkeepError]]]:
    """Those that something speaks for, and the others with what speaks against them."""
    good: list[Copy] = []
    bad: list[tuple[Copy, MeshkeepError]] = []
    for copy in copies:
        try:
            good.append(await vouched(copy, testimony, accept_unlisted=accept_unlisted))
        except MeshkeepError as error:
            bad.append((copy, error))
    return good, bad


def check_age(copy: Copy) -> None:
    """Raises MeshkeepError where it is known that newer snapshots were sent. One that was kept aside is old anyhow."""
    told = copy.vouched.age if copy.vouched is not None else None
    if told is None or told.state != "stale" or is_aside(copy.dataset):
        return
    seen = ", ".join(node for node, _ in told.by) or "the list"
    raise MeshkeepError(
        f"{copy.peer.name} offers nothing of {copy.dataset} newer than {_when(copy.newest.creation)}; "
        f"the mesh has seen {_when(told.seen or 0)}",
        code="stale_replica",
        exit=Exit.REFUSED,
        why=f"{seen} remembers that newer snapshots were sent: they are on another node, or were held back",
        hint="--from another node, or --older to take what there is",
    )


def _contradicts(copy: Copy, wrong: Sequence[str]) -> MeshkeepError:
    return MeshkeepError(
        f"{copy.peer.name} offers of {copy.dataset} what was never sent to it",
        code="not_as_listed",
        exit=Exit.REFUSED,
        why="; ".join(wrong[:5]),
        hint="restore it from another node; nothing of that copy can be believed",
    )


def _unlisted(copy: Copy, accounts: Sequence[Account]) -> MeshkeepError:
    known = any(one.ledger is not None for one in accounts)
    why = (
        "its snapshots are not on the list of what was sent: they are of something else, or are older than the list"
        if known
        else "no list of what was sent could be had: no node that answered has a manifest with one that can be opened"
    )
    return MeshkeepError(
        f"nothing vouches for what {copy.peer.name} keeps of {copy.dataset}",
        code="unlisted",
        exit=Exit.REFUSED,
        why=why,
        hint="restore it from another node, or --accept-unlisted: only its own key then shows whether it is genuine",
    )


def _forked(copy: Copy, told: Age) -> MeshkeepError:
    return MeshkeepError(
        f"the list of what was sent of {copy.dataset} is not the one that {told.by[0][0]} has seen",
        code="list_forked",
        exit=Exit.REFUSED,
        why=told.why,
        hint="--from another node",
    )


def _when(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
