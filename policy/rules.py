"""Policies, and which dataset gets which: rules in, `{dataset: policy}` with reasons out.

A policy's numbers mean what they mean to sanoid, and its defaults are sanoid's. All times are UTC.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from zfs.names import is_below, parent_of

Kind: TypeAlias = Literal["yearly", "monthly", "weekly", "daily", "hourly", "frequently"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""Longest period first: the order in which the snapshots of one tick are taken."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How many snapshots of each kind are kept, and when in its period each is due.

    `weekly_wday` counts from 0 = Sunday. `monthly_mday` and `yearly_mday` beyond the end of a month mean its
    last day.
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


@dataclass(frozen=True, slots=True)
class Assignment:
    """One rule: *dataset*, and with `recursive` all below it except `exclude` and what is below those."""

    dataset: str
    policy: Policy
    recursive: bool = False
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chosen:
    """The policy of one dataset, and why that one."""

    policy: Policy
    reason: str


@dataclass(frozen=True, slots=True)
class Resolution:
    """What every dataset gets. `excluded` has those that a rule names and yet leaves out, with the reason.

    `unmatched` are rules whose dataset does not exist.
    """

    chosen: dict[str, Chosen]
    excluded: dict[str, str]
    unmatched: tuple[Assignment, ...]


def resolve(
    assignments: Sequence[Assignment], datasets: Iterable[str], replica_roots: Collection[str] = ()
) -> Resolution:
    """Give every dataset the rule that names it, else that of its nearest ancestor with a recursive rule.

    The order of the rules does not matter. Nothing at or below a replica root gets a policy: replicas are
    kept by the rules of the target, and nothing local ever touches them.
    """
    rules = {rule.dataset: rule for rule in assignments}
    existing = list(datasets)
    chosen: dict[str, Chosen] = {}
    excluded: dict[str, str] = {}
    for dataset in existing:
        rule = _nearest(rules, dataset)
        if rule is None:
            continue
        reason = _left_out(rule, dataset, replica_roots)
        if reason:
            excluded[dataset] = reason
        else:
            chosen[dataset] = Chosen(rule.policy, _why(rule, dataset))
    names = set(existing)
    return Resolution(chosen, excluded, tuple(rule for rule in assignments if rule.dataset not in names))


def _nearest(rules: dict[str, Assignment], dataset: str) -> Assignment | None:
    if dataset in rules:
        return rules[dataset]
    ancestor = parent_of(dataset)
    while ancestor is not None:
        rule = rules.get(ancestor)
        if rule is not None and rule.recursive:
            return rule
        ancestor = parent_of(ancestor)
    return None


def _left_out(rule: Assignment, dataset: str, replica_roots: Collection[str]) -> str:
    for root in replica_roots:
        if _covers(root, dataset):
            return f"holds replicas ({root})"
    for excluded in rule.exclude:
        if _covers(excluded, dataset):
            return f"excluded by the rule for {rule.dataset} ({excluded})"
    return ""


def _covers(root: str, dataset: str) -> bool:
    return dataset == root or is_below(dataset, root)


def _why(rule: Assignment, dataset: str) -> str:
    if rule.dataset == dataset:
        return f"policy {rule.policy.name}, set on {dataset}"
    return f"policy {rule.policy.name}, inherited from {rule.dataset}"
