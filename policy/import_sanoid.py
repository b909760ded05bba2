"""From a sanoid.conf to the rules of `policy.rules` that give every dataset the same, whatever datasets there are.

What a dataset gets from a sanoid.conf depends on nothing but the sections for it and for what is above it. So there are
only so many cases: each dataset that is named, and what lies unnamed below each of those. Both front ends are asked
about all of these cases; a rule is right when their answers agree. Where no rule is, that is a `Difference`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from policy.import_policies import Written, distance, in_bounds, name_policies, policy_fields, template_names
from policy.rules import Assignment, Monitor, Policy, PoolLimits, Recursion, Resolution, resolve
from policy.sanoid_conf import SanoidConf
from policy.sanoid_ini import Section
from policy.sanoid_keys import TRUE, reaches_by_zfs
from zfs.names import InvalidName, check_dataset, is_below, parent_of


@dataclass(frozen=True, slots=True)
class Difference:
    """What the rules cannot say: for *dataset* itself or, with `below`, for what is below it and not named."""

    dataset: str
    below: bool
    text: str

    def __str__(self) -> str:
        subject = f"what is below {self.dataset}" if self.below else self.dataset
        return f"{subject}: {self.text}"


@dataclass(frozen=True, slots=True)
class Imported:
    """The rules, and what a person should know of them.

    `sections` has for each dataset the section that is for it; `named` all datasets that are named.
    """

    policies: tuple[Written, ...]
    rules: tuple[Assignment, ...]
    pools: Mapping[str, PoolLimits]
    sections: Mapping[str, Section]
    named: frozenset[str]
    notes: tuple[str, ...]
    differences: tuple[Difference, ...]

    def differs(self, dataset: str) -> bool:
        """Whether one of `differences` is about *dataset*."""
        above: str | None = dataset
        while above is not None and above not in self.named:
            above = parent_of(above)
        return any(one.dataset == above and one.below == (above != dataset) for one in self.differences)


def import_sanoid(conf: SanoidConf, taken: Iterable[str] = (), *, loose_names: bool = False) -> Imported:
    """The rules that mean what *conf* means. No policy gets one of the names *taken*.

    With *loose_names* whatever sanoid takes for its own is pruned, else what has exactly the form of its names.
    """
    places = _Places.of(conf)
    search = _Search(places, conf.resolve(places.probes(places.named)), _without(conf, places))
    search.run()
    written, renamed = name_policies(conf, search.rules.values(), taken, loose_names=loose_names)
    pools, odd_pools = _pools(search.wanted.pools)
    return Imported(
        policies=written,
        rules=tuple(replace(rule, policy=renamed[rule.policy]) for rule in search.rules.values()),
        pools=pools,
        sections=places.sections,
        named=frozenset(places.named),
        notes=tuple(
            dict.fromkeys((*search.wanted.notes, *places.notes, *odd_pools, *search.notes, *_unused(conf)))
        ),
        differences=tuple(search.differences),
    )


@dataclass(frozen=True, slots=True)
class _Places:
    """The datasets that sections name, parents first. `free` is a name that no child in the configuration has."""

    named: tuple[str, ...]
    sections: Mapping[str, Section]
    elsewhere: tuple[Section, ...]
    free: str
    notes: tuple[str, ...]

    @classmethod
    def of(cls, conf: SanoidConf) -> "_Places":
        sections: dict[str, Section] = {}
        elsewhere: list[Section] = []
        names: set[str] = set()
        notes: list[str] = []
        for section in conf.sections:
            if section.template is not None:
                continue
            path = section.get("path") or section.name
            if not _is_dataset(path):
                notes.append(
                    f"{section.file}:{section.line}: [{section.name}]: {path!r} is no dataset; left out"
                )
                continue
            names.add(path)
            sections.setdefault(path, section)
            if path != section.name:
                elsewhere.append(section)
                notes.append(
                    f"{section.file}:{section.line}: [{section.name}] is for {path} by its path=; "
                    f"the rule is for {path}, its scripts and prune_defer too"
                )
                names |= {section.name} if _is_dataset(section.name) else set()
        free = "x"
        while any(free in name.split("/") for name in names):
            free += "x"
        return cls(
            tuple(sorted(names, key=lambda name: name.split("/"))),
            sections,
            tuple(elsewhere),
            free,
            tuple(notes),
        )

    def below(self, dataset: str) -> str:
        """Something below *dataset* that no section names."""
        return f"{dataset}/{self.free}"

    def probes(self, named: Iterable[str]) -> list[str]:
        """Those *named*, and two levels below each, since the upper one may have snapshots taken along."""
        return [one for name in named for one in (name, self.below(name), self.below(self.below(name)))]


def _is_dataset(name: str) -> bool:
    try:
        check_dataset(name)
    except InvalidName:
        return False
    return True


def _without(conf: SanoidConf, places: _Places) -> dict[str, Resolution]:
    """What *conf* says if a dataset that a section with path= is named after does not exist, by that dataset.

    Such a section inherits from what is above its name, but only if a dataset has that name.
    """
    found: dict[str, Resolution] = {}
    for missing in (section.name for section in places.elsewhere):
        if missing in places.named:
            there = [name for name in places.named if name != missing and not is_below(name, missing)]
            found[missing] = conf.resolve(places.probes(there))
    return found


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one dataset gets: its policy, and with whose snapshots some of its own are taken.

    Without a `policy`, `excluded` says if a rule leaves it out, which only its reader cares about.
    """

    policy: Policy | None
    taken_with: frozenset[str] = frozenset()
    excluded: bool = False

    def loosely(self) -> "_Outcome":
        """Without what makes no difference."""
        return replace(self, policy=None if _is_idle(self.policy) else self.policy, excluded=False)


# For what is taken along with others and is nobody's to prune: no policy at all would leave it out.
_IDLE = Policy(name="", autosnap=False, autoprune=False, monitor=Monitor(monitor=False))


def _is_idle(policy: Policy | None) -> bool:
    return policy is not None and not (policy.autosnap or policy.autoprune or policy.monitor.monitor)


_Case: TypeAlias = tuple[_Outcome, ...]
"""What a named dataset gets, what is below it unnamed, and what is below that."""

_BELOW = (False, True, True)
_PERFECT = (9, 0)
_FAR = 1000


class _Search:
    """Finds for each named dataset, parents first, the rule by which both front ends agree."""

    def __init__(self, places: _Places, wanted: Resolution, without: Mapping[str, Resolution]) -> None:
        self.wanted = wanted
        self._tops = _tops(wanted)
        self._without = {name: (other, _tops(other)) for name, other in without.items()}
        self._places = places
        self._altered: dict[Policy, Policy] = {}
        self.rules: dict[str, Assignment] = {}
        self.notes: list[str] = []
        self.differences: list[Difference] = []

    def run(self) -> None:
        for dataset in self._places.named:
            self._settle(dataset)

    def _settle(self, dataset: str) -> None:
        wanted = self._case(self.wanted, dataset, self._tops)
        best: dict[str, Assignment] = {}
        agreed, got = (-1, 0), wanted
        for change in self._changes(dataset, wanted):
            resolution = self._resolved(dataset, change)
            found = self._case(resolution, dataset, _tops(resolution))
            agreement = _agreement(wanted, found)
            if agreement > agreed:
                best, agreed, got = change, agreement, found
            if agreed == _PERFECT:
                break
        self.rules |= best
        self._compare(dataset, wanted, got)

    def _changes(self, dataset: str, wanted: _Case) -> Iterator[dict[str, Assignment]]:
        """What could be done, the plainest first: nothing; leave it out of the rule above; a rule of its own."""
        yield {}
        above = self._recursive_above(dataset)
        without: list[dict[str, Assignment]] = [{}]
        if above is not None:
            left_out = replace(above, exclude=(*above.exclude, dataset))
            yield {above.dataset: left_out}
            without.append({above.dataset: left_out})
        policies = dict.fromkeys((*(one.policy for one in wanted if one.policy is not None), _IDLE))
        for recursion in self._recursions(dataset):
            # Only its children, and those not either, is nothing that the configuration takes.
            for children_only in (False, True) if recursion != "no" else (False,):
                for change in without:
                    for policy in policies:
                        rule = Assignment(dataset, policy, recursion, children_only=children_only)
                        yield {**change, dataset: rule}

    def _recursions(self, dataset: str) -> list[Recursion]:
        """As it is written, then the others."""
        section = self._places.sections.get(dataset)
        written: Recursion = "no"
        if section is not None and reaches_by_zfs(section.get("recursive")):
            written = "zfs"
        elif section is not None and section.get("recursive") in TRUE:
            written = "each"
        others: list[Recursion] = ["no", "each", "zfs"]
        return [written, *(one for one in others if one != written)]

    def _recursive_above(self, dataset: str) -> Assignment | None:
        above = parent_of(dataset)
        while above is not None:
            rule = self.rules.get(above)
            if rule is not None and rule.recursion != "no":
                return rule
            above = parent_of(above)
        return None

    def _resolved(self, dataset: str, change: Mapping[str, Assignment]) -> Resolution:
        concerned: dict[str, Assignment] = {}
        above: str | None = dataset
        while above is not None:
            rule = change.get(above) or self.rules.get(above)
            if rule is not None:
                concerned[above] = rule
            above = parent_of(above)
        probes = dict.fromkeys((*concerned, *self._places.probes([dataset])))
        return resolve(list(concerned.values()), probes)

    def _case(self, resolution: Resolution, dataset: str, tops: Mapping[str, frozenset[str]]) -> _Case:
        return tuple(
            self._outcome(resolution, one, tops.get(one, frozenset()))
            for one in self._places.probes([dataset])
        )

    def _outcome(self, resolution: Resolution, dataset: str, tops: frozenset[str]) -> _Outcome:
        chosen = resolution.chosen.get(dataset)
        if chosen is None:
            return _Outcome(None, tops, excluded=dataset in resolution.excluded)
        return _Outcome(self._sound(chosen.policy), tops)

    def _sound(self, policy: Policy) -> Policy:
        """Nameless, and within the bounds of the configuration."""
        policy = replace(policy, loose_names=False)
        if policy not in self._altered:
            altered, notes = in_bounds(policy)
            self.notes += notes
            self._altered[policy] = replace(altered, name="")
        return self._altered[policy]

    def _compare(self, dataset: str, wanted: _Case, got: _Case) -> None:
        found = [
            Difference(dataset, below, f"sanoid.conf says {theirs}; these rules {ours}")
            for below, theirs, ours in self._disagreements(wanted, got)
        ]
        for missing, (other, tops) in self._without.items():
            if dataset == missing or is_below(dataset, missing):
                continue
            text = f"sanoid.conf says something else if there is no dataset {missing}; these rules do not"
            found += [
                Difference(dataset, below, text)
                for below, want, have in zip(_BELOW, wanted, self._case(other, dataset, tops), strict=True)
                if want.loosely() != have.loosely()
            ]
        # One for what is below says enough.
        # One for what is below says enough.
        self.differences += {one.below: one for one in reversed(found)}.values()

    def _disagreements(self, wanted: _Case, got: _Case) -> Iterator[tuple[bool, str, str]]:
        for below, want, have in zip(_BELOW, wanted, got, strict=True):
            if want.loosely() != have.loosely():
                yield below, _told(want, have, self._places), _told(have, want, self._places)


def _tops(resolution: Resolution) -> dict[str, frozenset[str]]:
    """By dataset, those with whose snapshots it is taken along."""
    found: dict[str, frozenset[str]] = {}
    for top, chosen in resolution.chosen.items():
        if chosen.policy.autosnap:
            for dataset in chosen.along:
                found[dataset] = found.get(dataset, frozenset()) | {top}
    return found


def _agreement(wanted: _Case, got: _Case) -> tuple[int, int]:
    """In how much they agree (but for what makes no difference is nearly as good), then how near they come."""
    score = sum(
        3 if want == have else 2 if want.loosely() == have.loosely() else 0
        for want, have in zip(wanted, got, strict=True)
    )
    return score, -sum(_apart(want, have) for want, have in zip(wanted, got, strict=True))


def _apart(one: _Outcome, other: _Outcome) -> int:
    """A policy where there should be none, which destroys what nobody asked for, is farther off than any other."""
    if one.loosely() == other.loosely():
        return 0
    if one.policy is None or other.policy is None:
        return 0 if one.policy is other.policy else _FAR
    return distance(one.policy, other.policy)


def _told(outcome: _Outcome, other: _Outcome, places: _Places) -> str:
    """What of *outcome* is not so in the *other*."""
    told: list[str] = []
    if outcome.policy is None or other.policy is None:
        told += (
            [] if outcome.policy == other.policy else ["no policy" if outcome.policy is None else "a policy"]
        )
    else:
        theirs = policy_fields(other.policy)
        told += [
            f"{key} = {str(value).lower() if isinstance(value, bool) else value}"
            for key, value in policy_fields(outcome.policy).items()
            if value != theirs[key]
        ]
    if outcome.taken_with != other.taken_with:
        named = {top if top in places.named else "what is above it" for top in outcome.taken_with}
        tops = " and ".join(sorted(named))
        told.append(f"taken along with {tops}" if tops else "not taken along with others")
    return " and ".join(told)


def _pools(limits: Mapping[str, PoolLimits]) -> tuple[dict[str, PoolLimits], list[str]]:
    """Those that differ from the defaults."""
    found: dict[str, PoolLimits] = {}
    notes: list[str] = []
    for pool, limit in limits.items():
        if not _is_dataset(pool) or limit == PoolLimits():
            continue
        if 0 < limit.capacity_crit < limit.capacity_warn:
            notes.append(f"pool {pool}: capacity_warn is above capacity_crit and never reached; written as 0")
            limit = replace(limit, capacity_warn=0)
        found[pool] = limit
    return found, notes


def _unused(conf: SanoidConf) -> list[str]:
    used = {name for section in conf.sections for name in template_names(section)} | {"default"}
    return [
        f"{section.file}:{section.line}: [{section.name}] is used by no section; left out"
        for section in conf.sections
        if section.template is not None and section.template not in used
    ]
