"""The policies of an imported sanoid.conf: their names, what they extend, and which lines they come from."""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policy.rules import KINDS, Assignment, Policy
from policy.sanoid_conf import SanoidConf
from policy.sanoid_ini import Section, Value
from zfs.names import is_below

MOST = 100_000
"""Snapshots of one kind that a policy can keep."""

_UNNAMED = Policy(name="")


@dataclass(frozen=True, slots=True)
class Written:
    """One policy to write. `base` is what it extends; `sections` those that have its values, the strongest first."""

    policy: Policy
    sections: tuple[Section, ...] = ()
    base: Policy | None = None


def template_names(section: Section) -> list[str]:
    """What its use_template lists."""
    return [name.strip() for name in section.get("use_template").split(",") if name.strip()]


def policy_fields(policy: Policy) -> dict[str, Any]:
    """Its values by key, but for the name; hooks and monitor taken apart, ages in seconds."""
    found = {key: getattr(policy, key) for key in Policy.__dataclass_fields__ if key != "name"}
    for part in (found.pop("hooks"), found.pop("monitor")):
        found |= {key: getattr(part, key) for key in type(part).__dataclass_fields__ if key not in KINDS}
    for kind in KINDS:
        limit = policy.monitor.limit(kind)
        found |= {f"{kind}_warn": limit.warn, f"{kind}_crit": limit.crit}
    return found


def in_bounds(policy: Policy) -> tuple[Policy, list[str]]:
    """*policy* with what the configuration has no room for changed to what comes closest and keeps no less."""
    notes: list[str] = []
    changes: dict[str, int] = {}
    if policy.frequent_period > 60:
        count = -(-policy.frequently * policy.frequent_period // 60)
        changes = {"frequent_period": 60, "frequently": count}
        notes.append(
            f"[{policy.name}] frequent_period = {policy.frequent_period} is more than an hour: "
            f"written as 60, with frequently = {count}, which keeps them as long"
        )
    for kind in KINDS:
        count = changes.get(kind, policy.count(kind))
        if count > MOST:
            changes[kind] = MOST
            notes.append(f"[{policy.name}] {kind} = {count}: written as {MOST}, the most there can be")
    hooks = replace(policy.hooks, script_timeout=max(0, policy.hooks.script_timeout))
    return replace(policy, **changes, hooks=hooks), notes  # type: ignore[arg-type]


def name_policies(
    conf: SanoidConf, rules: Collection[Assignment], taken: Iterable[str], *, loose_names: bool
) -> tuple[tuple[Written, ...], dict[Policy, Policy]]:
    """The policies that *rules* need, named after the templates where one is no more than that, else after a dataset.

    Also which of them stands for which (nameless) policy of the rules.
    """
    naming = _Naming(conf, taken, loose_names=loose_names)
    wanted = {rule.policy for rule in rules}
    for policy, sections in naming.of_templates():
        if policy in wanted:
            naming.write(policy, sections)
    for rule in rules:
        if rule.policy not in naming.written:
            naming.write_own(rule.policy, rule.dataset, _of_parent(rule.dataset, rules))
    return tuple(naming.written.values()), {key: one.policy for key, one in naming.written.items()}


def _of_parent(dataset: str, rules: Iterable[Assignment]) -> Policy | None:
    """The policy of the nearest rule above *dataset*."""
    above = [rule for rule in rules if is_below(dataset, rule.dataset)]
    return max(above, key=lambda rule: len(rule.dataset)).policy if above else None


class _Naming:
    def __init__(self, conf: SanoidConf, taken: Iterable[str], *, loose_names: bool) -> None:
        self._templates = {
            section.template: section for section in conf.sections if section.template is not None
        }
        self._sections = [section for section in conf.sections if section.template is None]
        self._taken = set(taken)
        self._loose_names = loose_names
        self.written: dict[Policy, Written] = {}

    def of_templates(self) -> Iterator[tuple[Policy, tuple[Section, ...]]]:
        """What each combination of templates that is used comes to by itself."""
        seen: set[tuple[str, ...]] = set()
        for section in self._sections:
            names = tuple(template_names(section))
            if names not in seen:
                seen.add(names)
                yield self._alone(names), self._chain(names)

    def write(self, policy: Policy, sections: tuple[Section, ...]) -> Written:
        """Under the names of the templates *sections*."""
        if policy not in self.written:
            names = [one.template for one in reversed(sections) if one.template not in (None, "default")]
            self._add(policy, "-".join(map(str, names)) or "default", sections)
        return self.written[policy]

    def write_own(self, policy: Policy, dataset: str, of_parent: Policy | None) -> None:
        """Under the name of *dataset*; as an extension of its templates, or of its parent's, if that is shorter."""
        section = next((one for one in self._sections if (one.get("path") or one.name) == dataset), None)
        names = tuple(template_names(section)) if section else ()
        chain = self._chain(names)
        bases = [_UNNAMED, *([self._alone(names)] if names else ()), *([of_parent] if of_parent else ())]
        base = min(bases, key=lambda one: distance(policy, one))
        extends = None
        if base is not _UNNAMED:
            extends = self.write(base, chain).policy
        own = (section,) if section else ()
        above = [one for one in reversed(self._sections) if is_below(dataset, one.name)]
        inherited = tuple(two for one in above for two in (one, *self._chain(tuple(template_names(one)))))
        self._add(policy, dataset, (*own, *chain, *inherited), extends)

    def _add(
        self, policy: Policy, name: str, sections: tuple[Section, ...], base: Policy | None = None
    ) -> None:
        named = replace(policy, name=self._free(name), loose_names=self._loose_names)
        self.written[policy] = Written(named, sections, base)

    def _free(self, wanted: str) -> str:
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", wanted).strip("-") or "policy"
        name, number = plain, 1
        while name in self._taken:
            number += 1
            name = f"{plain}-{number}"
        self._taken.add(name)
        return name

    def _alone(self, names: Sequence[str]) -> Policy:
        """What a section would get that does nothing but use these templates."""
        uses = {"use_template": Value(",".join(names), "", 0), "process_children_only": Value("no", "", 0)}
        alone = SanoidConf((*self._templates.values(), Section("alone", "", 0, uses))).resolve(["alone"])
        policy, _ = in_bounds(alone.chosen["alone"].policy)
        return replace(policy, name="", loose_names=False)

    def _chain(self, names: Sequence[str]) -> tuple[Section, ...]:
        """The templates that count, the last and strongest first."""
        known: Mapping[str, Section] = self._templates
        return tuple(known[name] for name in (*reversed(names), "default") if name in known)


def distance(one: Policy, other: Policy) -> int:
    """How many of their values differ."""
    return sum(
        a != b for a, b in zip(policy_fields(one).values(), policy_fields(other).values(), strict=True)
    )
