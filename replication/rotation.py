"""Keeping a replica aside under another name: which name, and when a target does that for its owner. Pure.

A source asks for it where its history does not lead on from what the target has. Whoever stole a source can ask too,
and must gain nothing: no snapshot is touched, the old replica stays listed and readable for its owner, held and kept by
the target's policy as before, nothing can be added to it any more, and only `MOST` of one dataset are kept aside.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

MOST = 3
"""Old replicas of one dataset. For another one somebody at the target's console has to remove one of them."""

MOST_OFFERED = 150_000
"""Guids in one request: so many fit into a frame."""

_MARK = ".rotated-"
_ASIDE = re.compile(r"(.+?)\.rotated-\d{8}T\d{6}Z")


def aside_name(dataset: str, now: int) -> str:
    """Where *dataset* is kept from *now* (epoch seconds) on: beside where it lay, with all below it."""
    return f"{dataset}{_MARK}{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"


def is_aside(dataset: str) -> bool:
    """Whether it, or one that it lies below, is an old replica that was kept aside."""
    return any(_ASIDE.fullmatch(part) for part in dataset.split("/"))


def original(dataset: str) -> str:
    """The name under which it was sent: *dataset* itself, unless it was kept aside, or moved along."""
    matches = [(part, _ASIDE.fullmatch(part)) for part in dataset.split("/")]
    return "/".join(match[1] if match else part for part, match in matches)


def asides_of(dataset: str, siblings: Iterable[str]) -> list[str]:
    """Those of *siblings* that *dataset* was once kept aside as, the newest last."""
    return sorted(one for one in siblings if _is_aside_of(dataset, one))


def _is_aside_of(dataset: str, other: str) -> bool:
    match = _ASIDE.fullmatch(other)
    return match is not None and match[1] == dataset


@dataclass(frozen=True, slots=True)
class Request:
    """What a source says: the snapshot that it saw the replica end with, all versions that it has, and its mode."""

    newest: int
    history: frozenset[int]
    raw: bool


@dataclass(frozen=True, slots=True)
class Lying:
    """The replica as the target has it: guid of its newest snapshot (None for none), its mode, what else there is.

    `drifted`: that it inherits its key there, so that no raw stream can be received.
    """

    newest: int | None
    raw: bool
    partial: bool = False
    receiving: bool = False
    aside: Collection[str] = ()
    drifted: bool = False


@dataclass(frozen=True, slots=True)
class No:
    """Why not. `passing`: it may do so later, or when both sides are looked at again."""

    code: str
    text: str
    passing: bool = False


def judge(request: Request, lying: Lying) -> No | None:
    """None if the replica is to be kept aside: only where the target, too, sees that nothing leads on from it."""
    if lying.newest is None:
        return No("no_replica", "no snapshot of it is stored here, so there is nothing to keep aside")
    if lying.newest != request.newest:
        return No("stale", "the replica does not end with the snapshot that was seen", passing=True)
    if lying.receiving:
        return No("busy", "a stream runs into it, or into what lies below it", passing=True)
    if lying.partial:
        return No("partial_state", "a partly received stream of it waits to be gone on with", passing=True)
    if lying.raw == request.raw and lying.newest in request.history and not lying.drifted:
        return No(
            "not_diverged",
            "the source has the newest snapshot stored here: its next stream can begin from it",
        )
    if len(lying.aside) >= MOST:
        return No("too_many_aside", f"{len(lying.aside)} old replicas of it are kept aside already")
    return None
