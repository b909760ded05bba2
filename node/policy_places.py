"""Where the values of a policy, and the rule that gives it to a dataset, are set: file and line of either front end."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, TypeAlias

from node.settings import Settings
from node.settings_problems import dotted
from policy.rules import Policy
from policy.sanoid_ini import Section
from zfs.names import parent_of

Place: TypeAlias = dict[str, Any] | None
"""``{"file", "line"}``; None where it is not known, or for a default."""


def alike(one: Policy, other: Policy) -> bool:
    """The same to a person: where snapshots are taken with those of a dataset above, only `autosnap` differs."""
    return replace(one, autosnap=True) == replace(other, autosnap=True)


class Places:
    """Looks places up. A policy of sanoid.conf has the name of its section."""

    def __init__(self, settings: Settings, sections: Mapping[str, Section]) -> None:
        self._settings = settings
        self._sections = sections

    def of_policy(self, policy: Policy) -> Place:
        """The head of its section, or the first key that it has there."""
        if self._is_ours(policy):
            return self._origin("policy", policy.name)
        section = self._sections.get(policy.name)
        return {"file": section.file, "line": section.line} if section else None

    def of_value(self, policy: Policy, key: str) -> Place:
        """None for a default."""
        if not self._is_ours(policy):
            return self._of_sanoid(policy.name, key)
        for name in self._settings.lineage[policy.name]:
            found = self._origin("policy", name, key)
            if found is not None:
                return found
        return self._origin("snapshots", "timezone") if key == "timezone" else None

    def of_rule(self, dataset: str, policy: Policy) -> tuple[str | None, Place]:
        """The dataset whose rule gives *policy* to *dataset*, and where that stands."""
        if not self._is_ours(policy):
            return (policy.name, self.of_policy(policy)) if policy.name in self._sections else (None, None)
        rules = {rule.dataset: rule for rule in self._settings.assignments}
        above: str | None = dataset
        while above is not None:
            rule = rules.get(above)
            if rule is not None and (above == dataset or rule.recursion != "no"):
                return above, self._origin("dataset", above, "policy")
            above = parent_of(above)
        return None, None

    def _is_ours(self, policy: Policy) -> bool:
        own = self._settings.policies.get(policy.name)
        return own is not None and alike(own, policy)

    def _origin(self, *path: str) -> Place:
        origin = self._settings.origins.get(dotted(path))
        return asdict(origin) if origin is not None else None

    def _of_sanoid(self, name: str, key: str) -> Place:
        section = self._sections.get(name)
        if section is None:
            return None
        templates = [one.strip() for one in section.get("use_template").split(",")]
        for place in (name, *(f"template_{one}" for one in reversed(templates)), "template_default"):
            value = self._sections[place].keys.get(key) if place in self._sections else None
            if value is not None:
                return {"file": value.file, "line": value.line}
        return None
