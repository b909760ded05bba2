"""Bringing back everything that a host had: of each dataset the newest copy any node keeps, parents first.

What exists is left as it is, with the reason. Whatever ends it in the middle, the same command goes on from there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mesh.identity import Identity
from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable
from node.copies import Copy, Found, newest_of
from node.errors import Exit, MeshkeepError
from node.local_state import LocalState
from node.replicator import Peer
from node.reroot import inherit_again
from node.restore import Restorer, Tell, Wanted, failed
from node.vouching import check_age, vouched_all
from replication.rotation import is_aside
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.names import InvalidName, check_dataset, is_below, parent_of, pool_of

State = Literal["to restore", "restored", "present", "behind", "kept", "failed"]
DONE: frozenset[State] = frozenset({"to restore", "restored", "present"})
PLACEHOLDER = {"canmount": "off"}


@dataclass(frozen=True, slots=True)
class HostWanted:
    """What to restore: from `peer` only (None: from all), of `owner` only (None: all that is ours).

    `mapping` has (old name, new name) of datasets or pools; what is below an old name follows it. The others are as in
    `node.restore.Wanted`.
    """

    peer: Peer | None = None
    owner: str | None = None
    mapping: tuple[tuple[str, str], ...] = ()
    accept_unlisted: bool = False
    older: bool = False
    recovery: Identity | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """One dataset: its newest copy, and the name it is to have."""

    copy: Copy
    to: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one. `as_of` is that of the copy, `next` a command that is safe to paste, or empty."""

    target: Target
    state: State
    why: str = ""
    code: str = ""
    bytes: int = 0
    next: str = ""

    @property
    def whole(self) -> bool:
        """Whether all that its node keeps of it is, or would be, here."""
        vouched = self.target.copy.vouched
        return self.state in DONE and not (vouched is not None and vouched.left_out)

    def as_json(self) -> dict[str, Any]:
        copy = self.target.copy
        return {
            "dataset": copy.dataset,
            "to": self.target.to,
            "node": copy.peer.name,
            "owner": copy.owner,
            "newest": copy.newest.name,
            "as_of": copy.newest.creation,
            "size": copy.used,
            "encrypted": copy.encrypted,
            "state": self.state,
            "why": self.why,
            "code": self.code,
            "bytes": self.bytes,
            "next": self.next,
            "vouched": copy.vouched.as_json() if copy.vouched is not None else None,
        }


@dataclass(slots=True)
class Round:
    """One run over all targets, and what it has done so far."""

    found: Found
    suspect: tuple[tuple[Copy, MeshkeepError], ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)
    made: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """The names that were wanted and are not there."""
        return [one.target.to for one in self.outcomes if one.state == "failed"]

    def as_json(self) -> dict[str, Any]:
        """Partial as soon as one dataset, one snapshot, or what one node keeps, is not accounted for."""
        return {
            "outcomes": [one.as_json() for one in self.outcomes],
            "silent": [{"node": one.node, "why": one.why} for one in self.found.silent],
            "suspect": [
                {
                    "node": copy.peer.name,
                    "dataset": copy.dataset,
                    "code": error.code,
                    "why": f"{error.what}: {error.why}",
                }
                for copy, error in self.suspect
            ],
            "made": self.made,
            "bytes": sum(one.bytes for one in self.outcomes),
            "partial": bool(self.found.silent) or any(not one.whole for one in self.outcomes),
        }


class HostRestorer:
    """Runs restores of whole hosts, one at a time."""

    def __init__(self, zfs: Zfs, restorer: Restorer, local: LocalState) -> None:
        self._zfs = zfs
        self._restorer = restorer
        self._local = local
        self._running = False

    async def plan(self, wanted: HostWanted) -> dict[str, Any]:
        """What `run` would do now. Changes nothing. Raises MeshkeepError."""
        found, suspect, targets = await self._look_around(wanted)
        done = Round(found, suspect)
        pools = await self._pools()
        for target in targets:
            outcome = await self._judged(target, pools) or _unfit(target, done, wanted)
            done.outcomes.append(outcome or Outcome(target, "to restore"))
        return done.as_json()

    async def run(self, wanted: HostWanted, progress: Tell) -> dict[str, Any]:
        """Raises MeshkeepError where it cannot begin; what fails later is in the outcomes."""
        if self._running:
            raise MeshkeepError(
                "a restore of this host is under way",
                code="restore_running",
                exit=Exit.REFUSED,
                hint="wait for it; meshkeep restore host -n shows how far it is",
            )
        self._running = True
        try:
            found, suspect, targets = await self._look_around(wanted)
            done, pools = Round(found, suspect), await self._pools()
            for number, target in enumerate(targets, start=1):
                where = f"{target.copy.peer.name}:{target.copy.dataset} → {target.to}"
                await progress({"text": f"{where} ({number} of {len(targets)})"})
                done.outcomes.append(await self._one(target, pools, done, wanted, progress))
            return done.as_json()
        finally:
            self._running = False

    async def inherit_keys(
        self, outcomes: Sequence[Mapping[str, Any]], roots: Mapping[str, str | None]
    ) -> list[dict[str, Any]]:
        """What had its key from above at home has it from there again; *roots* is what the manifests say of that."""
        placed = {one["dataset"]: one["to"] for one in outcomes if one["state"] in ("restored", "present")}
        return await inherit_again(self._zfs, placed, roots)

    async def _look_around(
        self, wanted: HostWanted
    ) -> tuple[Found, tuple[tuple[Copy, MeshkeepError], ...], list[Target]]:
        """What there is, what of it nothing vouches for, and of each dataset the copy to take."""
        if wanted.peer is not None:
            try:
                found = Found(await self._restorer.copies.on(wanted.peer))
            except (PeerUnreachable, LinkTimeout, PeerRefused) as error:
                raise failed(Wanted("this host", None, ""), wanted.peer.name, error) from error
        else:
            found = await self._restorer.copies.everywhere()
        copies = [
            one for one in found.copies if wanted.owner in (None, one.owner) and not is_aside(one.dataset)
        ]
        if not copies:
            raise _nothing(found)
        testimony = self._restorer.gather(wanted.recovery)
        credible = [one for one in copies if one.credible]
        good, suspect = await vouched_all(credible, testimony, accept_unlisted=wanted.accept_unlisted)
        known = {one.dataset for one in good}
        return (
            found,
            tuple(suspect),
            aim([*good, *(one for one, _ in suspect if one.dataset not in known)], wanted.mapping),
        )

    async def _pools(self) -> frozenset[str]:
        return frozenset(pool.name for pool in await self._zfs.pools())

    async def _judged(self, target: Target, pools: frozenset[str]) -> Outcome | None:
        """Why nothing is fetched for it, or None."""
        copy, to = target.copy, target.to
        if "/" not in to:
            return _no(
                target, "kept", "destination_exists", "a pool is never restored over", f"--map {to}={to}/old"
            )
        if pool_of(to) not in pools:
            pool = pool_of(to)
            return _no(target, "failed", "no_parent", f"there is no pool {pool} here", f"--map {pool}=POOL")
        if to in self._local.restoring():
            return None
        try:
            here = (await self._zfs.look(to)).snapshots
        except zfs_errors.NotFound:
            return None
        guids = {one.guid for one in here}
        if copy.newest.guid in guids:
            return Outcome(target, "present", "it is here")
        if not guids & copy.known:
            return _no(
                target, "kept", "destination_exists", "another dataset has its name; nothing is overwritten"
            )
        if here[-1].guid not in copy.known:
            return Outcome(target, "present", f"it is here, and has gone on since: @{here[-1].name}")
        return _no(target, "behind", "behind", f"it is here up to @{here[-1].name} only, and may be in use")

    async def _one(
        self, target: Target, pools: frozenset[str], done: Round, asked: HostWanted, progress: Tell
    ) -> Outcome:
        """Restore it, or say why not."""
        try:
            outcome = await self._judged(target, pools) or _unfit(target, done, asked)
            if outcome is not None:
                return outcome
            above = next((name for name in done.missing if is_below(target.to, name)), None)
            if above is not None:
                return _no(target, "failed", "no_parent", f"{above} above it was not restored")
            done.made += await self._make_place(target.to)
            wanted = Wanted(target.copy.dataset, target.copy.peer.name, target.to, owner=target.copy.owner)
            report = await self._restorer.fetch(wanted, target.copy, progress)
        except MeshkeepError as error:
            why = f"{error.what}: {error.why}" if error.why else error.what
            return Outcome(target, "failed", why, error.code)
        except zfs_errors.ZfsError as error:
            return Outcome(target, "failed", str(error), "zfs_failed")
        return Outcome(target, "restored", bytes=report["bytes"], next=report["next"])

    async def _make_place(self, to: str) -> list[str]:
        """The datasets above *to* that are not here and that nobody keeps: empty, not to be mounted."""
        missing = []
        name = parent_of(to)
        while name is not None and not await self._exists(name):
            missing.append(name)
            name = parent_of(name)
        for one in reversed(missing):
            await self._zfs.create(one, PLACEHOLDER)
        return missing[::-1]

    async def _exists(self, dataset: str) -> bool:
        try:
            await self._zfs.dataset(dataset)
        except zfs_errors.NotFound:
            return False
        return True


def aim(copies: Iterable[Copy], mapping: Sequence[tuple[str, str]]) -> list[Target]:
    """Of each dataset the newest credible copy, under its new name, parents before children.

    Raises MeshkeepError where two would get one name, or a name that is none.
    """
    by_name: dict[str, list[Copy]] = {}
    for copy in copies:
        by_name.setdefault(copy.dataset, []).append(copy)
    targets = []
    for name in by_name:
        if (chosen := newest_of(by_name[name])) is not None:
            targets.append(Target(chosen, renamed(name, mapping)))
    taken: dict[str, str] = {}
    for target in targets:
        other = taken.setdefault(target.to, target.copy.dataset)
        if other != target.copy.dataset:
            raise _bad_map(f"{other} and {target.copy.dataset} would both become {target.to}")
    return sorted(targets, key=lambda one: one.to.split("/"))


def renamed(dataset: str, mapping: Sequence[tuple[str, str]]) -> str:
    """*dataset* by the longest old name of *mapping* that it is or is below. Raises MeshkeepError."""
    fitting = [pair for pair in mapping if dataset == pair[0] or is_below(dataset, pair[0])]
    if not fitting:
        return dataset
    old, new = max(fitting, key=lambda pair: len(pair[0]))
    try:
        return check_dataset(new + dataset.removeprefix(old))
    except InvalidName as error:
        raise _bad_map(str(error)) from error


def mapping_of(texts: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``OLD=NEW`` each. Raises MeshkeepError."""
    found: dict[str, str] = {}
    for text in texts:
        old, equals, new = text.partition("=")
        try:
            if not equals or old in found:
                raise InvalidName(f"{text!r} is not OLD=NEW, each OLD once")
            found[check_dataset(old)] = check_dataset(new)
        except InvalidName as error:
            raise _bad_map(str(error)) from error
    return tuple(found.items())


def missing_copies(outcomes: Sequence[Mapping[str, Any]], datasets: Iterable[str]) -> list[str]:
    """Those of *datasets* that no node keeps a copy of."""
    kept = {one["dataset"] for one in outcomes}
    return sorted(name for name in datasets if name not in kept)


def _unfit(target: Target, done: Round, wanted: HostWanted) -> Outcome | None:
    """Where nothing vouches for the copy, or newer ones are known."""
    error = next((error for copy, error in done.suspect if copy is target.copy), None)
    if error is None and not wanted.older:
        try:
            check_age(target.copy)
        except MeshkeepError as stale:
            error = stale
    return (
        None if error is None else _no(target, "failed", error.code, f"{error.what}: {error.why}", error.hint)
    )


def _no(target: Target, state: State, code: str, why: str, hint: str = "") -> Outcome:
    return Outcome(target, state, f"{why} ({hint})" if hint else why, code)


def _bad_map(text: str) -> MeshkeepError:
    return MeshkeepError(f"--map: {text}", code="bad_name", exit=Exit.USAGE)


def _nothing(found: Found) -> MeshkeepError:
    silent = "; ".join(f"{one.node} did not answer ({one.why})" for one in found.silent)
    return MeshkeepError(
        "no node that answered keeps a replica that is this host's to read",
        code="no_replica",
        exit=Exit.NO_PEER if silent else Exit.NOT_FOUND,
        why=silent,
        hint="a host reads the replicas of the one that it succeeds: meshkeep invite --succeeds NODE",
    )
