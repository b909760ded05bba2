"""What the ``[[replicate]]`` sections come to."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from node.job import QUIET, RuleSpec
from node.settings_model import ReplicateSection
from node.settings_problems import Origin, Problem, Source
from node.status import LATE_AFTER
from replication.guard import DEFAULT_PATIENCE, Patience
from replication.history import Initial, OnDivergence
from replication.selector import EVERY, Selector
from replication.window import Window
from zfs.names import is_below


@dataclass(frozen=True, slots=True)
class ReplicateRule:
    """One ``[[replicate]]``: *dataset* goes to each of *to*. `rate_limit` in bytes per second, times in seconds."""

    dataset: str
    to: tuple[str, ...]
    allow_plaintext: bool
    rate_limit: int | None
    origin: Origin
    recursive: bool = False
    exclude: tuple[str, ...] = ()
    late_after: int = LATE_AFTER
    selector: Selector = EVERY
    initial: Initial = "all"
    window: Window | None = None
    paused: bool = False
    patience: Patience = DEFAULT_PATIENCE
    drill: int | None = None
    drill_key_file: str | None = None
    quiet: Window = QUIET
    on_divergence: OnDivergence = "conflict"

    def specs(self) -> Iterable[RuleSpec]:
        """One for each target."""
        for target in self.to:
            yield RuleSpec(
                self.dataset,
                target,
                allow_plaintext=self.allow_plaintext,
                rate_limit=self.rate_limit,
                recursive=self.recursive,
                exclude=self.exclude,
                late_after=self.late_after,
                selector=self.selector,
                initial=self.initial,
                window=self.window,
                paused=self.paused,
                patience=self.patience,
                drill=self.drill,
                drill_key_file=self.drill_key_file,
                quiet=self.quiet,
                on_divergence=self.on_divergence,
            )


def replicate_rule(section: ReplicateSection, timezone: str, origin: Origin) -> ReplicateRule:
    """The rule; *timezone* is that of the configuration, for one that has none of its own."""
    zone = section.timezone or timezone
    return ReplicateRule(
        section.from_,
        tuple(section.to),
        section.allow_plaintext,
        section.rate_limit,
        origin,
        recursive=section.recursive,
        exclude=tuple(section.exclude),
        late_after=LATE_AFTER if section.late_after is None else section.late_after,
        selector=Selector(tuple(section.snapshots), section.snapshot_names),
        initial=section.initial,
        window=Window.parse(section.window, zone) if section.window else None,
        paused=section.paused,
        drill=section.drill,
        drill_key_file=section.drill_key_file,
        quiet=Window.parse(section.window or str(QUIET), zone),
        on_divergence=section.on_divergence,
        patience=Patience(
            DEFAULT_PATIENCE.age if section.base_hold is None else section.base_hold, section.base_hold_size
        ),
    )


def odd_trees(rules: Mapping[int, ReplicateSection], source: Source) -> Iterable[Problem]:
    """Excludes that exclude nothing, and a time zone that nothing is read in."""
    for number, rule in rules.items():
        path = ("replicate", number, "exclude")
        if rule.exclude and not rule.recursive:
            yield source.problem(path, "means nothing without recursive = true")
        for excluded in rule.exclude:
            if rule.recursive and not is_below(excluded, rule.from_):
                yield source.problem(path, f'"{excluded}" is not below {rule.from_}')
        if rule.drill_key_file and rule.drill is None:
            yield source.problem(
                ("replicate", number, "drill_key_file"), 'means nothing without drill = "monthly"'
            )
        if rule.timezone and not rule.window:
            yield source.problem(("replicate", number, "timezone"), "means nothing without a window")
