"""Policies, and which dataset gets which: rules in, `{dataset: policy}` with reasons out.

A policy's numbers mean what they mean to sanoid, and its defaults are sanoid's. This is the one model; TOML
(`node.settings`) and sanoid.conf (`policy.sanoid_conf`) are its two front ends and meet in `Resolution`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

from zfs.names import is_below, parent_of

Kind: TypeAlias = Literal["yearly", "monthly", "weekly", "daily", "hourly", "frequently"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Longest period first: the order in which the snapshots of one tick are taken."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True)
class KeepEvery:
    """Keep the first snapshot in each of the newest `count` periods of `seconds` that have one (GFS)."""

    seconds: int
    count: int

    def __str__(self) -> str:
        for letter, unit in (("w", 7 * _DAY), ("d", _DAY), ("h", _HOUR), ("m", _MINUTE)):
            if self.seconds % unit == 0:
                return f"one per {self.seconds // unit}{letter}"
        return f"one per {self.seconds}s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """Commands for /bin/sh around snapshots and prunes, by sanoid's names; empty means none.

    `script_timeout` is in seconds, 0 or less waits for ever. When `pre_snapshot_script` fails, the dataset is
    snapped all the same unless `no_inconsistent_snapshot`, and `post_snapshot_script` is run only with
    `force_post_snapshot_script`. When `pre_pruning_script` fails, that snapshot stays.
    """

    pre_snapshot_script: str = ""
    post_snapshot_script: str = ""
    pre_pruning_script: str = ""
    pruning_script: str = ""
    script_timeout: int = 5
    no_inconsistent_snapshot: bool = False
    force_post_snapshot_script: bool = False


@dataclass(frozen=True, slots=True)
class Limit:
    """The ages in seconds from which a newest snapshot is a warning or critical; 0 never is."""

    warn: int = 0
    crit: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """How old the newest snapshot of each kind may get before ``meshkeep check snapshots`` complains."""

    monitor: bool = True
    monitor_dont_warn: bool = False
    monitor_dont_crit: bool = False
    frequently: Limit = Limit()
    hourly: Limit = Limit(90 * _MINUTE, 360 * _MINUTE)
    daily: Limit = Limit(28 * _HOUR, 32 * _HOUR)
    weekly: Limit = Limit()
    monthly: Limit = Limit(32 * _DAY, 40 * _DAY)
    yearly: Limit = Limit()

    def limit(self, kind: Kind) -> Limit:
        """The limit of one kind."""
        found: Limit = getattr(self, kind)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How many snapshots of each kind are kept, and when in its period each is due.

    `weekly_wday` counts from 0 = Sunday. `monthly_mday` and `yearly_mday` beyond the end of a month mean its
    last day. Times of day are those of `timezone` (an IANA name); names and ages never depend on it.

    Beyond sanoid: `keep_last` keeps that many of the newest whatever their kind, `keep_every` one per period;
    both only ever keep more. `skip_unchanged` takes nothing while nothing has been written. `prune_defer`
    prunes nothing while the pool is filled to at most that percentage; 0 never defers. With `loose_names`
    whatever sanoid takes for its own counts as ours (see `naming.kind_of`).
    """

    name: str
    frequently: int = 0
    hourly: int = 48
    daily: int = 90
    weekly: int = 0
    monthly: int = 6
    yearly: int = 0
    frequent_period: int = 15
    hourly_min: int = 0
    daily_hour: int = 23
    daily_min: int = 59
    weekly_wday: int = 1
    weekly_hour: int = 23
    weekly_min: int = 30
    monthly_mday: int = 1
    monthly_hour: int = 0
    monthly_min: int = 0
    yearly_mon: int = 1
    yearly_mday: int = 1
    yearly_hour: int = 0
    yearly_min: int = 0
    autosnap: bool = True
    autoprune: bool = True
    timezone: str = "UTC"
    prune_defer: int = 0
    skip_unchanged: bool = False
    keep_last: int = 0
    keep_every: tuple[KeepEvery, ...] = ()
    loose_names: bool = False
    hooks: Hooks = Hooks()
    monitor: Monitor = Monitor()

    def count(self, kind: Kind) -> int:
        """How many of *kind* are kept; 0 means that none are taken and those that exist go."""
        number: int = getattr(self, kind)
        return number

    def period(self, kind: Kind) -> int:
        """Seconds that one period of *kind* counts for when it is asked how old a snapshot may get."""
        if kind == "frequently":
            return self.frequent_period * _MINUTE
        return _PERIODS[kind]


_PERIODS: dict[Kind, int] = {
    "hourly": _HOUR,
    "daily": _DAY,
    "weekly": 7 * _DAY,
    "monthly": 31 * _DAY,
    "yearly": 365 * _DAY + _DAY // 4,
}


Recursion: TypeAlias = Literal["no", "each", "zfs"]
"""How a rule reaches what is below: not at all; each dataset by itself; or, sanoid's ``recursive = zfs``, with every
snapshot of the top taken of all below it in the same instant, which then take none of their own."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One rule: *dataset* and, by `recursion`, all below it except `exclude` and what is below those.

    With `children_only` the dataset itself is left out (sanoid's process_children_only).
    """

    dataset: str
    policy: Policy
    recursion: Recursion = "no"
    exclude: tuple[str, ...] = ()
    children_only: bool = False


@dataclass(frozen=True, slots=True)
class Chosen:
    """The policy of one dataset, and why that one. `recursive` (recursion "zfs"): each of its snapshots is taken of
    `along` besides, all that is below it now, which may be nothing.
    """

    policy: Policy
    reason: str
    recursive: bool = False
    along: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Percentages of a pool: when `check capacity` complains (0: never), and the space guard's marks.

    From `space_high` on the guard frees down to `space_low`; both 0: there is none.
    """

    capacity_warn: int = 80
    capacity_crit: int = 95
    space_high: int = 0
    space_low: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """What every dataset gets. `excluded` has those that a rule names and yet leaves out, with the reason.

    `unmatched` are datasets that a rule names and that do not exist. `notes` are things a person should know
    of the rules themselves (sanoid warns of them too).
    """

    chosen: dict[str, Chosen]
    excluded: dict[str, str] = field(default_factory=dict)
    unmatched: tuple[str, ...] = ()
    pools: Mapping[str, PoolLimits] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def resolve(
    assignments: Sequence[Assignment],
    datasets: Iterable[str],
    replica_roots: Collection[str] = (),
    pools: Mapping[str, PoolLimits] | None = None,
) -> Resolution:
    """Give every dataset the rule that names it, else that of its nearest ancestor with a recursive rule.

    The order of the rules does not matter. Nothing at or below a replica root gets a policy: replicas are kept by the
    rules of the target, and nothing local ever touches them. What a zfs recursion excludes is not taken along either
    (``zfs snapshot -r`` would).
    """
    rules = {rule.dataset: rule for rule in assignments}
    existing = list(datasets)
    chosen: dict[str, Chosen] = {}
    excluded: dict[str, str] = {}
    for dataset in existing:
        rule = _nearest(rules, dataset)
        if rule is None:
            continue
        reason = _left_out(rule, dataset) or holds_replicas(dataset, replica_roots)
        if reason:
            excluded[dataset] = reason
        else:
            chosen[dataset] = _chosen(rules, rule, dataset)
    alongs = _alongs(rules, chosen)
    for top, rule in rules.items():
        if rule.recursion == "zfs" and top in chosen and _taken_with(rules, top) is None:
            chosen[top] = replace(chosen[top], recursive=True, along=tuple(alongs.get(top, ())))
    names = set(existing)
    unmatched = tuple(rule.dataset for rule in assignments if rule.dataset not in names)
    return Resolution(chosen, excluded, unmatched, pools or {})


def taken_along(top: str, datasets: Iterable[str], replica_roots: Collection[str]) -> tuple[str, ...]:
    """What a ``zfs snapshot -r`` of *top* would take besides, but for the replicas of others."""
    return tuple(one for one in datasets if is_below(one, top) and not holds_replicas(one, replica_roots))


def holds_replicas(dataset: str, replica_roots: Collection[str]) -> str:
    """Why *dataset* is not for policies, or nothing."""
    root = next((root for root in replica_roots if _covers(root, dataset)), None)
    return f"holds replicas ({root})" if root else ""


def _nearest(rules: Mapping[str, Assignment], dataset: str) -> Assignment | None:
    if dataset in rules:
        return rules[dataset]
    return next(_recursive_above(rules, dataset), None)


def _recursive_above(rules: Mapping[str, Assignment], dataset: str) -> Iterator[Assignment]:
    """The recursive rules of its ancestors, the nearest first."""
    ancestor = parent_of(dataset)
    while ancestor is not None:
        rule = rules.get(ancestor)
        if rule is not None and rule.recursion != "no":
            yield rule
        ancestor = parent_of(ancestor)


def _left_out(rule: Assignment, dataset: str) -> str:
    if rule.dataset == dataset and rule.children_only:
        return "process_children_only: only what is below it"
    for excluded in rule.exclude:
        if _covers(excluded, dataset):
            return f"excluded by the rule for {rule.dataset} ({excluded})"
    return ""


def _chosen(rules: Mapping[str, Assignment], rule: Assignment, dataset: str) -> Chosen:
    top = _taken_with(rules, dataset)
    if top is None:
        return Chosen(rule.policy, _why(rule, dataset))
    reason = f"{_why(rule, dataset)}; its snapshots are taken with those of {top}"
    return Chosen(replace(rule.policy, autosnap=False), reason)


def _taken_with(rules: Mapping[str, Assignment], dataset: str) -> str | None:
    """The farthest ancestor whose snapshots are taken of *dataset* too: a nearer one is itself taken with that."""
    top = None
    for above in _recursive_above(rules, dataset):
        if above.recursion == "zfs" and not above.children_only and not _left_out(above, dataset):
            top = above.dataset
    return top


def _alongs(rules: Mapping[str, Assignment], chosen: Iterable[str]) -> dict[str, list[str]]:
    """By top of a zfs recursion, those taken with it: only what has a policy, so that somebody prunes it."""
    found: dict[str, list[str]] = {}
    for dataset in chosen:
        top = _taken_with(rules, dataset)
        if top is not None:
            found.setdefault(top, []).append(dataset)
    return found


def _covers(root: str, dataset: str) -> bool:
    return dataset == root or is_below(dataset, root)


def _why(rule: Assignment, dataset: str) -> str:
    if rule.dataset == dataset:
        return f"policy {rule.policy.name}, set on {dataset}"
    return f"policy {rule.policy.name}, inherited from {rule.dataset}"
