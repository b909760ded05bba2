"""From the sections `[policy.NAME]` and `[pool."NAME"]` to the values of `policy.rules`, and their contradictions."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from node.quantities import parse_duration
from node.settings_model import Document, PolicySection, PoolSection
from node.settings_problems import Problem, Source
from policy.rules import KINDS, Hooks, KeepEvery, Limit, Monitor, Policy, PoolLimits

_HOOKS = tuple(Hooks.__dataclass_fields__)
_SWITCHES = ("monitor", "monitor_dont_warn", "monitor_dont_crit")


def policy_of(name: str, document: Document) -> Policy:
    """*name* with what it extends: left to right, later ones win, and its own keys win over all."""
    keys = _keys_set(name, document)
    hooks = {key: keys.pop(key) for key in _HOOKS if key in keys}
    monitor: dict[str, Any] = {key: keys.pop(key) for key in _SWITCHES if key in keys}
    for kind in KINDS:
        usual = Monitor().limit(kind)
        monitor[kind] = Limit(keys.pop(f"{kind}_warn", usual.warn), keys.pop(f"{kind}_crit", usual.crit))
    every = keys.pop("keep_every", {})
    keys.setdefault("timezone", document.snapshots.timezone)
    return Policy(
        name=name,
        **keys,
        keep_every=tuple(KeepEvery(parse_duration(period), count) for period, count in every.items()),
        hooks=Hooks(**hooks),
        monitor=Monitor(**monitor),
    )


def _keys_set(name: str, document: Document) -> dict[str, Any]:
    section = document.policy[name]
    found: dict[str, Any] = {}
    for base in section.extends:
        found |= _keys_set(base, document)
    return found | section.model_dump(exclude_unset=True, exclude={"extends"})


def limits_of(section: PoolSection) -> PoolLimits:
    """What is not given is as `PoolLimits` has it."""
    return PoolLimits(**section.model_dump(exclude_none=True))


def odd_inheritance(
    names: Collection[str], policies: Mapping[str, PolicySection], source: Source
) -> Iterable[Problem]:
    """Bases that do not exist, and circles. *policies* are those of *names* that are well formed by themselves."""
    for name, section in policies.items():
        path = ("policy", name, "extends")
        for base in section.extends:
            if base not in names:
                close = difflib.get_close_matches(base, names, 1)
                yield source.problem(path, f'there is no policy "{base}"', close[0] if close else "")
        if name in _ancestry(name, policies):
            yield source.problem(path, f'"{name}" extends itself')


def _ancestry(name: str, policies: Mapping[str, PolicySection]) -> set[str]:
    """All that *name* extends, directly or not; with itself if it goes in a circle."""
    found: set[str] = set()
    ahead = list(policies[name].extends)
    while ahead:
        base = ahead.pop()
        if base not in found and base in policies:
            found.add(base)
            ahead += policies[base].extends
    return found


def odd_pools(pools: Mapping[str, PoolSection], source: Source) -> Iterable[Problem]:
    """Marks that say nothing without the other, or the wrong way round."""
    for name, section in pools.items():
        high, low = section.space_high, section.space_low
        if (high is None) != (low is None):
            here, other = ("space_low", "space_high") if high is None else ("space_high", "space_low")
            yield source.problem(("pool", name, here), f"means nothing without {other}")
        elif high is not None and low is not None and high <= low:
            yield source.problem(("pool", name, "space_high"), f"must be more than space_low ({low})")
        warn, crit = section.capacity_warn, section.capacity_crit
        if warn and crit and warn > crit:
            text = f"must be at most capacity_crit ({crit})"
            yield source.problem(("pool", name, "capacity_warn"), text)
