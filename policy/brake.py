"""The brake: a round that would destroy unusually much of a dataset waits for a person. Pure.

In steady state a round destroys about as many snapshots as were taken since the last one. Many at once mean new
rules, an adopted history or a wrong clock, and then somebody should look first.
"""

from collections.abc import Mapping, Sequence

from policy.retention import Verdict

ALWAYS = 20
"""So many of one dataset may go in one round without a question."""


def held_back(doomed: Sequence[Verdict], snapshots: Mapping[str, int]) -> dict[str, int]:
    """By dataset, how many of *doomed* wait: where more than ALWAYS and more than half of its *snapshots* would go."""
    counts: dict[str, int] = {}
    for verdict in doomed:
        dataset = verdict.snapshot.dataset
        counts[dataset] = counts.get(dataset, 0) + 1
    return {
        dataset: count
        for dataset, count in counts.items()
        if count > ALWAYS and 2 * count > snapshots.get(dataset, 0)
    }
