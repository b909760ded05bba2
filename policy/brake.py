"""The brake: a round that would destroy unusually much of a dataset waits for a person. Pure.

In steady state a round destroys about as many snapshots as were taken since the last one. Many at once mean new
rules, an adopted history or a wrong clock, and then somebody should look first. A policy that defers pruning until
the pool fills up has them every time, and must not wait for a person then: there a few go each round.
"""

from collections.abc import Mapping, Sequence

from policy.retention import Verdict
from policy.rules import Resolution

ALWAYS = 20
"""So many of one dataset may go in one round without a question."""


def held_back(
    doomed: Sequence[Verdict], snapshots: Mapping[str, int], resolution: Resolution | None = None
) -> dict[str, int]:
    """By dataset, how many of *doomed* wait: where more than ALWAYS and more than half of its *snapshots* would go.

    With *resolution*, not where the policy has `prune_defer`.
    """
    counts: dict[str, int] = {}
    for verdict in doomed:
        dataset = verdict.snapshot.dataset
        counts[dataset] = counts.get(dataset, 0) + 1
    return {
        dataset: count
        for dataset, count in counts.items()
        if count > ALWAYS
        and 2 * count > snapshots.get(dataset, 0)
        and not (resolution and _defers(resolution, dataset))
    }


def one_round(doomed: Sequence[Verdict], resolution: Resolution) -> list[Verdict]:
    """Those of *doomed*, which is oldest first, that go in one round: of a dataset that defers at most ALWAYS."""
    going: dict[str, int] = {}
    chosen = []
    for verdict in doomed:
        dataset = verdict.snapshot.dataset
        going[dataset] = going.get(dataset, 0) + 1
        if going[dataset] <= ALWAYS or not _defers(resolution, dataset):
            chosen.append(verdict)
    return chosen


def _defers(resolution: Resolution, dataset: str) -> bool:
    chosen = resolution.chosen.get(dataset)
    return chosen is not None and chosen.policy.prune_defer > 0
